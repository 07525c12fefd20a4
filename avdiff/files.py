"""Files that are there whole or not at all, and what is wrong with those that cannot be read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml


@contextmanager
def whole(file: Path) -> Iterator[Path]:
    """A path to write to, which becomes `file` in one step at the end: no other process reads it half written."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f"{file.name}.{os.getpid()}.tmp")
    yield partial
    partial.replace(file)


def stamp(file: Path) -> list[int]:
    """Size and time, by which a file is known to be the same; nothing where there is none."""
    return [file.stat().st_size, file.stat().st_mtime_ns] if file.is_file() else []


def yaml_fault(error: yaml.YAMLError) -> str:
    """What is wrong with a YAML file, and where, in one line."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"{error.problem}, in line {error.problem_mark.line + 1}"
    return " ".join(str(error).split())
