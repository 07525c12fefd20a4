"""Imports point one way. What an import would break is said in the message, not only that it is forbidden."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Each unit of avdiff may import those before it, and itself.
ORDER = (
    "PUBLIC",  # the table of public names in avdiff/__init__.py
    *(
        "errors",
        "extras",
        "console",
        "files",
        "allowed",
        "spool",
        "interrupts",
        "schema",
        "types",
        "rng",
        "video",
        "audio",
        "metrics",
        "nets",
        "scene",
        "priors",
        "likelihood",
        "samplers",
    ),
    *(
        "em",
        "separators",
        "draw",
        "report",
        "lit",
        "evaluation",
        "benchmark",
        "methods",
        "study",
        "study_page",
        "speed",
        "sweep",
        "results",
        "confidence",
        "recording",
        "api",
        "batch",
        "demo",
    ),
    *("prepare", "commands", "cli"),
)
MAY_MEET_DATAMODULES = {"prepare", "commands", "cli"}
DATAMODULES_MAY_USE = {"errors", "extras", "files", "schema", "types", "rng", "audio", "video"}


def imported(path: Path) -> set[str]:
    """Dotted names of the project's modules that a file imports, wherever in the file it does."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in names if name.split(".")[0] in ("avdiff", "datamodules", "experiments", "tests")}


def imported_at_once(path: Path) -> list[str]:
    """What the statements of a module import when it is loaded; not those below `if TYPE_CHECKING`."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    checked = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    apart = {id(node) for branch in checked for part in branch.body for node in ast.walk(part)}
    return [
        ast.unparse(node)
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        and id(node) not in apart
        and re.search(r"\b(avdiff|datamodules|experiments|tests)\b", ast.unparse(node))
    ]


def unit(dotted: str) -> str:
    parts = dotted.split(".")
    return parts[1] if len(parts) > 1 else ""


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def case(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", modules("avdiff"), ids=case)
def test_avdiff_imports_point_one_way(path: Path) -> None:
    own = path.relative_to(ROOT / "avdiff").parts[0].removesuffix(".py")
    if own == "__init__":
        assert not imported_at_once(path), (
            "avdiff/__init__.py imports for type checkers only: importing one unit loads no other"
        )
        return
    assert own in ORDER, f"give avdiff/{own} its place in the order of this test"
    for name in sorted(imported(path)):
        if name.startswith("datamodules"):
            assert own in MAY_MEET_DATAMODULES, f"{name}: avdiff meets datamodules by class_path only"
            continue
        assert name.startswith("avdiff"), f"{name}: the library does not import it"
        assert unit(name) in ORDER[: ORDER.index(own) + 1], f"{name}: {own} comes before {unit(name)}"
        if own in ("likelihood", "samplers") and unit(name) == "priors":
            assert name.startswith("avdiff.priors.base."), f"{name}: {own} knows only what a prior promises"


@pytest.mark.parametrize("path", modules("datamodules"), ids=case)
def test_datamodules_know_no_method(path: Path) -> None:
    for name in sorted(imported(path)):
        if name.startswith("avdiff"):
            assert unit(name) in DATAMODULES_MAY_USE, f"{name}: data are the same whatever the method"
