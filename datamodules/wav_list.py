"""A list of mixtures that a user made: one CSV line a source, with the path of its clean signal."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from avdiff.audio.io import read_audio
from avdiff.errors import UserError
from avdiff.files import stamp
from avdiff.types import NOISE, OFFSCREEN, ROLES, SAMPLE_RATE, SPEAKER, Role, source_names
from datamodules.mixtures import Entry, Mixture, MixtureList
from datamodules.synthetic.sentences import is_grid_sentence

COLUMNS = ("clip", "source", "reference")


@dataclass
class _Line:
    condition: str
    sources: dict[str, Path] = field(default_factory=dict)
    transcripts: dict[str, str] = field(default_factory=dict)


class WavList(MixtureList):
    """Mixtures whose sources are files; a mixture is their sum. It has no video: it serves for scoring.

    Args:
        file: CSV with the columns clip, source (speaker1, speaker2, ..., offscreen, noise) and reference, the path of
            the source as it is in the mixture, relative to the file's folder; and, where wanted, condition (else the
            file's name) and transcript (a GRID sentence, of every talker of a clip or of none).

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
        said = tuple(line.transcripts[name] for name in names if name in line.transcripts)
        stacked = torch.stack(sources)
        return Mixture(entry.key, line.condition, entry.layout, stacked, stacked.sum(0), transcripts=said)

    def version(self, index: int) -> str:
        line = [*self._lines.values()][index]
        files = {name: (str(file.resolve()), *stamp(file)) for name, file in sorted(line.sources.items())}
        return json.dumps([line.condition, files, line.transcripts], sort_keys=True)


def _signal(file: Path) -> Tensor:
    if not file.is_file():
        raise UserError(f"there is no file {file}, which the list names as a reference")
    samples, rate = read_audio(file)
    if rate != SAMPLE_RATE or len(samples) != 1:
        raise UserError(
            f"{file} has {len(samples)} channel(s) at {rate} Hz; references are mono at {SAMPLE_RATE} Hz: convert them"
        )
    return torch.from_numpy(samples[0]).float()


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
    lines: dict[str, _Line] = {}
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{file} is no list: it is not UTF-8 ({error.reason}, byte {error.start}); save it as such"
        ) from error
    table = csv.DictReader(io.StringIO(text, newline=""))
    if missing := [name for name in COLUMNS if name not in (table.fieldnames or ())]:
        raise UserError(f"{file} has no column {missing[0]!r}; a list has {', '.join(COLUMNS)}")
    for row in table:
        clip, source, reference = (row[name] for name in COLUMNS)
        if not (clip and source and reference):
            raise UserError(
                f"line {table.line_num} of {file} lacks a value; a list has {', '.join(COLUMNS)} in every line"
            )
        if _role(source) is None:
            raise UserError(
                f"{file} names the source {source!r}; sources are {SPEAKER}1, {SPEAKER}2, ..., {OFFSCREEN}, {NOISE}"
            )
        line = lines.setdefault(clip, _Line(row.get("condition") or file.stem))
        if source in line.sources:
            raise UserError(
                f"line {table.line_num} of {file} has {source} of clip {clip} again; give every source once"
            )
        line.sources[source] = file.parent / reference
        if row.get("transcript"):
            if not is_grid_sentence(row["transcript"]):
                raise UserError(
                    f"line {table.line_num} of {file} has the transcript {row['transcript']!r}, which is no GRID sentence "
                    "(bin blue at f two now); leave the column empty: --wer tells word errors of any speech"
                )
            line.transcripts[source] = row["transcript"]
    if not lines:
        raise UserError(f"{file} holds no mixture")
    for clip, line in lines.items():
        talkers = {name for name in line.sources if _role(name) != NOISE}
        if line.transcripts and set(line.transcripts) != talkers:
            raise UserError(f"clip {clip} of {file} has transcripts of some talkers only; give all of them or none")
    return lines
