"""Separated clips on disk: one folder a clip, there whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import soundfile
import torch
from torch import Tensor

from avdiff.audio.io import write_wav
from avdiff.files import key_parts
from avdiff.types import Role, source_names

RECORD = "separation.json"
FAILURE = "failure.json"
PARTIAL = ".partial-"
STD = "_std"  # at the end of a file's name


@dataclass(frozen=True)
class StoredSeparation:
    """One clip as it was written.

    Attributes:
        key: clip id.
        layout: one role a source.
        sources: (K, T) float32 estimates.
        sample_rate: Hz.
        info: figures of the run that made it.
        std: (K, T) spread of the draws that `sources` is the mean of, where it is one.
    """

    key: str
    layout: tuple[Role, ...]
    sources: Tensor
    sample_rate: int
    info: dict[str, Any]
    std: Tensor | None = None


class SeparationStore:
    """A folder of separated clips.

    `<folder>/<key>/` holds one 32-bit float WAV a source (speaker1.wav, ..., noise.wav) and separation.json, and of several draws
    their spread as speaker1_std.wav, ..., noise_std.wav; or failure.json alone, with the reason, for a clip that could not be
    separated. A clip is written beside its place and moved there in one step, so a killed run leaves no half of one. Keys may
    have slashes: these become folders.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)

    def path(self, key: str) -> Path:
        """Where a clip is, or will be.

        Raises:
            UserError: the key would lead out of the folder or into a hidden one.
        """
        return self.folder.joinpath(*key_parts(key))

    def clips(self) -> set[str]:
        """Clips that are there."""
        return self._with(RECORD)

    def failures(self) -> set[str]:
        """Clips that could not be separated."""
        return self._with(FAILURE)

    def _with(self, name: str) -> set[str]:
        records = (path.parent.relative_to(self.folder) for path in self.folder.rglob(name))
        return {path.as_posix() for path in records if not path.parts[0].startswith(PARTIAL)}

    def write(self, clip: StoredSeparation) -> None:
        """Write one clip, in place of an earlier one of the same key."""
        with self._place(clip.key) as folder:
            for ending, signals in (("", clip.sources), (STD, clip.std)):
                for name, samples in zip(source_names(clip.layout), () if signals is None else signals, strict=False):
                    write_wav(folder / f"{name}{ending}.wav", samples.float().cpu(), clip.sample_rate)
            record = {"key": clip.key, "layout": clip.layout, "sample_rate": clip.sample_rate, "info": clip.info}
            _write_json(folder / RECORD, record)

    def write_failure(self, key: str, layout: tuple[Role, ...], info: Mapping[str, Any]) -> None:
        """Write that a clip could not be separated, in place of an earlier one of the same key.

        Args:
            info: figures of the run; "failure" is the reason, in a sentence.
        """
        with self._place(key) as folder:
            _write_json(folder / FAILURE, {"key": key, "layout": layout, "info": dict(info)})

    @contextmanager
    def _place(self, key: str) -> Iterator[Path]:
        """A folder to fill, which then takes the clip's place."""
        target = self.path(key)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=PARTIAL, dir=self.folder))
        partial.chmod(0o755)  # mkdtemp makes it private
        yield partial
        if target.exists():
            shutil.rmtree(target)
        partial.replace(target)

    def read_failure(self, key: str) -> dict[str, Any] | None:
        """The `info` of a clip that could not be separated; None for one that could, or is not there."""
        file = self.path(key) / FAILURE
        return json.loads(file.read_text(encoding="utf-8"))["info"] if file.exists() else None

    def read(self, key: str) -> StoredSeparation:
        """Read one clip, bit for bit as it was written."""
        folder = self.path(key)
        record: Mapping[str, Any] = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        layout = tuple(record["layout"])

        def signals(ending: str) -> Tensor:
            files = [folder / f"{name}{ending}.wav" for name in source_names(layout)]
            return torch.stack([torch.from_numpy(soundfile.read(file, dtype="float32")[0]) for file in files])

        std = signals(STD) if (folder / f"{source_names(layout)[0]}{STD}.wav").exists() else None
        return StoredSeparation(key, layout, signals(""), record["sample_rate"], record["info"], std)

    def tidy(self) -> None:
        """Remove what a killed run left half written. Nobody else may be writing here."""
        for partial in self.folder.glob(f"{PARTIAL}*"):
            shutil.rmtree(partial)


def _write_json(path: Path, record: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(record, indent=1, default=_plain) + "\n", encoding="utf-8")


def _plain(value: Any) -> Any:
    """Tensors and numpy values as JSON knows them."""
    return value.tolist()
