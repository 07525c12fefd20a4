"""Separated clips on disk: one folder a clip, there whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import soundfile
import torch
from torch import Tensor

from avdiff.types import Role, source_names

RECORD = "separation.json"
PARTIAL = ".partial-"


@dataclass(frozen=True)
class StoredSeparation:
    """One clip as it was written.

    Attributes:
        key: clip id.
        layout: one role a source.
        sources: (K, T) float32 estimates.
        sample_rate: Hz.
        info: figures of the run that made it.
    """

    key: str
    layout: tuple[Role, ...]
    sources: Tensor
    sample_rate: int
    info: dict[str, Any]


class SeparationStore:
    """A folder of separated clips.

    `<folder>/<key>/` holds one 32-bit float WAV a source (speaker1.wav, ..., noise.wav) and separation.json. A clip is
    written beside its place and moved there in one step, so a killed run leaves no half of one. Keys may have slashes:
    these become folders.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)

    def path(self, key: str) -> Path:
        """Where a clip is, or will be.

        Raises:
            ValueError: the key would lead out of the folder or into a hidden one.
        """
        parts = PurePosixPath(key).parts
        if not parts or any(part.startswith((".", "/")) for part in parts):
            raise ValueError(f"clip id {key!r} cannot name a folder; use letters, digits, '-' and '/'")
        return self.folder.joinpath(*parts)

    def clips(self) -> set[str]:
        """Clips that are there."""
        records = (path.parent.relative_to(self.folder) for path in self.folder.rglob(RECORD))
        return {path.as_posix() for path in records if not path.parts[0].startswith(PARTIAL)}

    def write(self, clip: StoredSeparation) -> None:
        """Write one clip, in place of an earlier one of the same key."""
        target = self.path(clip.key)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=PARTIAL, dir=self.folder))
        partial.chmod(0o755)  # mkdtemp makes it private
        for name, samples in zip(source_names(clip.layout), clip.sources, strict=True):
            soundfile.write(partial / f"{name}.wav", samples.float().cpu().numpy(), clip.sample_rate, subtype="FLOAT")
        record = {"key": clip.key, "layout": clip.layout, "sample_rate": clip.sample_rate, "info": clip.info}
        (partial / RECORD).write_text(json.dumps(record, indent=1, default=_plain) + "\n", encoding="utf-8")
        if target.exists():
            shutil.rmtree(target)
        partial.replace(target)

    def read(self, key: str) -> StoredSeparation:
        """Read one clip, bit for bit as it was written."""
        folder = self.path(key)
        record: Mapping[str, Any] = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        layout = tuple(record["layout"])
        sources = [
            torch.from_numpy(soundfile.read(folder / f"{name}.wav", dtype="float32")[0])
            for name in source_names(layout)
        ]
        return StoredSeparation(key, layout, torch.stack(sources), record["sample_rate"], record["info"])

    def tidy(self) -> None:
        """Remove what a killed run left half written. Nobody else may be writing here."""
        for partial in self.folder.glob(f"{PARTIAL}*"):
            shutil.rmtree(partial)


def _plain(value: Any) -> Any:
    """Tensors and numpy values as JSON knows them."""
    return value.tolist()
