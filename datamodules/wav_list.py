"""A list of mixtures that a user made: one CSV line a source, with the path of its clean signal."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from avdiff.audio.io import read_audio
from avdiff.errors import UserError
from avdiff.files import key_parts, stamp
from avdiff.schema import ONLY, Label, Text, checked
from avdiff.types import NOISE, OFFSCREEN, ROLES, SAMPLE_RATE, SPEAKER, Role, source_names
from datamodules.mixtures import Entry, Mixture, MixtureList
from datamodules.synthetic.sentences import is_grid_sentence

COLUMNS = ("clip", "source", "reference")
MIXTURE = "mixture"


@dataclass(frozen=True)
class _Row:
    """A line of the file."""

    __pydantic_config__: ClassVar = ONLY

    clip: Label
    source: Label
    reference: Text
    condition: Label | None = None
    transcript: Text = ""
    mixture: Text = ""


@dataclass
class _Line:
    """What the lines of a clip say."""

    condition: str
    sources: dict[str, Path] = field(default_factory=dict)
    transcripts: dict[str, str] = field(default_factory=dict)
    mixture: Path | None = None

    @property
    def whole(self) -> bool:
        """Whether the mixture is known: given, or the sum of sources of which the noise is one."""
        return self.mixture is not None or NOISE in self.sources


class WavList(MixtureList):
    """Mixtures whose sources are files. It has no video: it serves for scoring.

    A mixture is the file of the source `mixture` (or of the column of that name, in any line of the clip); without one, the
    sum of the sources where the noise is among them, and otherwise not known.

    Args:
        file: CSV with the columns clip, source (speaker1, speaker2, ..., offscreen, noise) and reference, the path of
            the source as it is in the mixture, relative to the file's folder; and, where wanted, condition (else the
            file's name), mixture and transcript (a GRID sentence, of every talker of a clip or of none).

    Raises:
        UserError: the file is missing or not as described.
    """

    def __init__(self, file: Path) -> None:
        self.file = Path(file)
        self._lines = _read(self.file)

    def entries(self) -> Sequence[Entry]:
        return [Entry(clip, _layout(clip, line, self.file), line.condition) for clip, line in self._lines.items()]

    def __getitem__(self, index: int) -> Mixture:
        entry = self.entries()[index]
        line = self._lines[entry.key]
        names = source_names(entry.layout)
        sources = [_signal(line.sources[name]) for name in names]
        if len(lengths := {len(source) for source in sources}) > 1:
            raise UserError(
                f"the sources of clip {entry.key} in {self.file} have {sorted(lengths)} samples; give one length"
            )
        length, mixture = len(sources[0]), torch.full_like(sources[0], math.nan)
        if line.mixture is not None:
            mixture = _signal(line.mixture)
            if len(mixture) != length:
                raise UserError(
                    f"{line.mixture}, the mixture of clip {entry.key} in {self.file}, has {len(mixture)} samples, and its "
                    f"sources have {length}; give one length"
                )
        elif line.whole:
            mixture = torch.stack(sources).sum(0)
        said = tuple(line.transcripts[name] for name in names if name in line.transcripts)
        return Mixture(entry.key, line.condition, entry.layout, torch.stack(sources), mixture, transcripts=said)

    def version(self, index: int) -> str:
        line = [*self._lines.values()][index]
        files = {name: (str(file.resolve()), *stamp(file)) for name, file in sorted(line.sources.items())}
        mixture: str | list[object] | None = "sum" if line.whole else None
        if line.mixture is not None:
            mixture = [str(line.mixture.resolve()), *stamp(line.mixture)]
        return json.dumps([line.condition, files, line.transcripts, mixture], sort_keys=True)


def _signal(file: Path) -> Tensor:
    if not file.is_file():
        raise UserError(f"there is no file {file}, which the list names as a reference")
    samples, rate = read_audio(file)
    if rate != SAMPLE_RATE or len(samples) != 1:
        raise UserError(
            f"{file} has {len(samples)} channel(s) at {rate} Hz; references are mono at {SAMPLE_RATE} Hz: convert them"
        )
    signal = torch.from_numpy(samples[0]).float()
    if not len(signal) or not signal.isfinite().all():
        raise UserError(
            f"{file} {'holds a NaN or an infinite sample' if len(signal) else 'has no sample'}; write it anew"
        )
    return signal


def _role(name: str) -> Role | None:
    role = name.rstrip("0123456789")
    return role if role in ROLES else None


def _layout(clip: str, line: _Line, file: Path) -> tuple[Role, ...]:
    roles = sorted((_role(name) or "" for name in line.sources), key=[*ROLES].index)
    layout = tuple(roles)
    if set(source_names(layout)) != set(line.sources):
        raise UserError(
            f"clip {clip} of {file} has the sources {', '.join(line.sources)}; "
            f"so many of each kind are called {', '.join(source_names(layout))}"
        )
    return layout


def _read(file: Path) -> dict[str, _Line]:
    if not file.is_file():
        raise UserError(f"there is no list {file}; give a CSV file with the columns {', '.join(COLUMNS)}")
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{file} is no list: it is not UTF-8 ({error.reason}, byte {error.start}); save it as such"
        ) from error
    try:
        return _lines(file, csv.DictReader(io.StringIO(text, newline="")))
    except csv.Error as error:
        raise UserError(f"{file} is no list: it is no CSV ({error})") from error


def _lines(file: Path, table: csv.DictReader) -> dict[str, _Line]:
    lines: dict[str, _Line] = {}
    known = [part.name for part in fields(_Row)]
    if missing := [name for name in COLUMNS if name not in (table.fieldnames or ())]:
        raise UserError(f"{file} has no column {missing[0]!r}; a list has {', '.join(COLUMNS)}")
    names = list(table.fieldnames or ())
    if odd := [name for name in names if name not in known or names.count(name) > 1]:
        told = "twice" if odd[0] in known else "which is not known"
        raise UserError(
            f"{file} has the column {odd[0]!r} {told}; a list has {', '.join(COLUMNS)}, and may have {', '.join(known[3:])}"
        )
    for cells in table:
        where = f"line {table.line_num} of {file}"
        if not all(cells[name] for name in COLUMNS):
            raise UserError(f"{where} lacks a value; a list has {', '.join(COLUMNS)} in every line")
        if None in cells:
            raise UserError(
                f"{where} has more values than the file has columns; write a name with a comma in it in quotes"
            )
        row = checked(_Row, {k: v for k, v in cells.items() if v}, where, f"a list has {', '.join(known)}")
        clip, source, reference = row.clip, row.source, row.reference
        try:
            key_parts(clip)
        except UserError as error:
            raise UserError(f"{where}: {error}") from error
        if source != MIXTURE and _role(source) is None:
            raise UserError(
                f"{file} names the source {source!r}; sources are {SPEAKER}1, {SPEAKER}2, ..., {OFFSCREEN}, {NOISE}, and "
                f"{MIXTURE} for what was recorded"
            )
        line = lines.setdefault(clip, _Line(row.condition or file.stem))
        if row.condition is not None and row.condition != line.condition:
            raise UserError(
                f"{where} gives clip {clip} the condition {row.condition!r}, and another line {line.condition!r}"
            )
        for given in [reference] if source == MIXTURE else [row.mixture] if row.mixture else []:
            if line.mixture not in (None, file.parent / given):
                raise UserError(
                    f"{where} gives clip {clip} the mixture {given}, and another line {line.mixture}; give one"
                )
            line.mixture = file.parent / given
        if source == MIXTURE:
            continue
        if source in line.sources:
            raise UserError(
                f"line {table.line_num} of {file} has {source} of clip {clip} again; give every source once"
            )
        line.sources[source] = file.parent / reference
        if row.transcript:
            if not is_grid_sentence(row.transcript):
                raise UserError(
                    f"line {table.line_num} of {file} has the transcript {row.transcript!r}, which is no GRID sentence "
                    "(bin blue at f two now); leave the column empty: --wer tells word errors of any speech"
                )
            line.transcripts[source] = row.transcript
    if not lines:
        raise UserError(f"{file} holds no mixture")
    without = [clip for clip, line in lines.items() if not line.whole]
    if without and len(without) < len(lines):
        other = next(clip for clip, line in lines.items() if line.whole)
        raise UserError(
            f"{file} gives no mixture of clip {without[0]}, and one of {other}: means would be of different clips; give all of "
            f"them a source {MIXTURE}, or none a {MIXTURE} or {NOISE}"
        )
    for clip, line in lines.items():
        if not line.sources:
            raise UserError(f"clip {clip} of {file} has a mixture and no source; give the references of its sources")
        talkers = {name for name in line.sources if _role(name) != NOISE}
        if line.transcripts and set(line.transcripts) != talkers:
            raise UserError(f"clip {clip} of {file} has transcripts of some talkers only; give all of them or none")
    return lines
