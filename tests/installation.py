"""Installations of a part of the packages that are installed here, without a download: folders of links."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pytest brings it

ROOT = Path(__file__).parents[1]


def project() -> dict:
    """The table [project] of pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def requirements(extras: Sequence[str] = ()) -> list[Requirement]:
    """What avdiff with some extras requires."""
    table = project()
    lines = [*table["dependencies"], *(line for extra in extras for line in table["optional-dependencies"][extra])]
    found = [Requirement(line) for line in lines]
    inner = [extra for requirement in found if requirement.name == "avdiff" for extra in requirement.extras]
    outer = [requirement for requirement in found if requirement.name != "avdiff"]
    return outer + (requirements(inner) if inner else [])


def closure(wanted: Sequence[Requirement]) -> dict[str, metadata.Distribution]:
    """The distributions that requirements need here, by name, with all that these need in turn."""
    found: dict[str, metadata.Distribution] = {}
    done: set[tuple[str, str]] = set()
    waiting = list(wanted)
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        found[name] = metadata.distribution(name)
        for extra in ("", *requirement.extras):
            if (name, extra) not in done:
                done.add((name, extra))
                waiting += _needed(found[name], extra)
    return found


def _needed(distribution: metadata.Distribution, extra: str) -> Iterator[Requirement]:
    for line in distribution.requires or ():
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
            yield requirement


def modules(distribution: metadata.Distribution) -> set[str]:
    """The names at the top of what a distribution installs, without suffix."""
    return {file.parts[0].split(".")[0] for file in distribution.files or ()}


def link(folder: Path, extras: Sequence[str] = ()) -> None:
    """Fill a folder with links to the packages that avdiff with some extras requires, and to no others."""
    folder.mkdir(parents=True, exist_ok=True)
    for distribution in closure(requirements(extras)).values():
        tops = {file.parts[0] for file in distribution.files or () if not re.match(r"\.\.|/|__pycache__", str(file))}
        for top in tops:
            if not (folder / top).exists():
                (folder / top).symlink_to(Path(str(distribution.locate_file(top))))
