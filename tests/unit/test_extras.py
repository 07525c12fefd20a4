"""What is not in the core is imported when it is used, and its absence is one sentence with the command."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

from avdiff.cli import main
from avdiff.extras import EXTRAS, MissingExtra, lazy, missing_module, need
from tests.installation import ROOT, closure, link, modules, project, requirements
from tests.media import write_media

SOURCES = sorted(path for package in ("avdiff", "datamodules") for path in (ROOT / package).rglob("*.py"))


class Refused:
    """A finder that finds some modules missing, as if nobody had installed them."""

    def __init__(self, *modules: str) -> None:
        self.modules = modules

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name.split(".")[0] in self.modules:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def refuse(monkeypatch: pytest.MonkeyPatch, *modules: str) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] in modules]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Refused(*modules), *sys.meta_path])


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the packages of the core, and no others."""
    folder = tmp_path_factory.mktemp("core")
    link(folder)
    return folder


def alone(core: Path, code: str, *arguments: str, status: int = 0) -> str:
    """What Python says that has the core's packages only; -S keeps those of this environment from it."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join((str(core), str(ROOT)))}
    command = [sys.executable, "-S", "-c", code, *arguments]
    said = subprocess.run(command, cwd=core.parent, env=env, capture_output=True, text=True, check=False)
    assert said.returncode == status, said.stderr
    return said.stdout if status == 0 else said.stderr


def test_the_core_requires_no_package_of_an_extra() -> None:
    assert not EXTRAS.keys() & {module for found in closure(requirements()).values() for module in modules(found)}


@pytest.mark.parametrize(("module", "extra"), EXTRAS.items())
def test_the_extra_that_is_named_has_the_package(module: str, extra: str) -> None:
    assert any(module in modules(metadata.distribution(of.name)) for of in requirements([extra]))


def test_all_and_dev_have_every_extra() -> None:
    everything = {
        str(r) for extra in project()["optional-dependencies"] if extra != "dev" for r in requirements([extra])
    }
    assert {str(requirement) for requirement in requirements(["all"])} == everything
    assert everything <= {str(requirement) for requirement in requirements(["dev"])}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_optional_packages_are_imported_by_the_one_helper(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    checked = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    apart = {id(node) for branch in checked for part in branch.body for node in ast.walk(part)}
    for node in ast.walk(tree):
        if id(node) in apart:
            continue
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        for name in names:
            assert name.split(".")[0] not in EXTRAS, f'line {node.lineno}: use lazy("{name}") of avdiff.extras'


def test_a_missing_package_is_one_sentence_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch, "pystoi")
    stoi = lazy("pystoi")
    with pytest.raises(MissingExtra, match=r"pystoi .*pip install 'avdiff\[metrics\]'"):
        stoi.stoi(1, 2)
    assert not hasattr(stoi, "__wrapped__")


def test_other_failures_of_an_import_are_not_taken_for_a_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        need("no_such_module")
    assert missing_module(ImportError("cannot import name 'x' from 'numpy'", name="numpy")) is None


def test_a_library_that_tells_it_in_words_is_understood() -> None:
    said = "DistributionNotFound: The 'wandb>=0.12.10' distribution was not found and is required by the application."
    assert missing_module(ModuleNotFoundError(said)) == "wandb"


def test_the_command_line_names_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    video = tmp_path / "talk.mp4"
    write_media(video, audio=np.zeros((1, 16_000)))
    refuse(monkeypatch, "dlib")
    with pytest.raises(SystemExit) as end:
        main(["separate", str(video), "--output", str(tmp_path / "out")])
    assert end.value.code == 2
    assert "pip install 'avdiff[video]'" in capsys.readouterr().err


IMPORT_ALL = """
import pkgutil, sys, avdiff, datamodules
for package in (avdiff, datamodules):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        __import__(module.name)
"""
ARRAYS = """
import numpy as np
import avdiff
rng = np.random.default_rng(0)
mixture, mouths = rng.normal(0, 0.1, 48_000), rng.integers(0, 255, (1, 25, 96, 96), np.uint8)
result = avdiff.load_method("local_em")(mixture, mouths=mouths, sample_rate=48_000)
print(*result.named, result.sources.isfinite().all().item())
try:
    avdiff.load_method("local_em")(mixture, frames=np.zeros((25, 64, 64, 3), np.uint8), sample_rate=48_000)
except avdiff.UserError as error:
    print(error)
"""


def test_every_module_is_imported_with_the_core_alone(core: Path) -> None:
    alone(core, IMPORT_ALL)


def test_the_core_alone_separates_arrays(core: Path) -> None:
    first, second = alone(core, ARRAYS).splitlines()
    assert first == "speaker1 noise True"
    assert "pip install 'avdiff[video]'" in second


def test_the_core_alone_has_its_command_line(core: Path) -> None:
    assert "separate" in alone(core, "from avdiff.cli import main; main()", "--help")
    told = alone(core, "from avdiff.cli import main; main()", "demo", status=2)
    assert "pip install 'avdiff[synthetic]'" in told
