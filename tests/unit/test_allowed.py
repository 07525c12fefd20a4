"""A file that a stranger sends runs nothing of its own choice."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from avdiff.allowed import is_allowed, refusal
from avdiff.cli import main
from avdiff.errors import UserError
from avdiff.methods import load_method
from avdiff.metrics.asr import load_recogniser

ROOT = Path(__file__).parents[2]
TOY = ROOT / "tests/configs/toy.yaml"


def stranger(folder: Path, **time: object) -> Path:
    """A method whose prior has a function of the file's choice."""
    told = yaml.safe_load(TOY.read_text())
    process = {"class_path": "avdiff.priors.adapter.VE", "init_args": {"time": time}}
    prior = {"network": {"class_path": "torch.nn.Identity"}, "form": {"class_path": "avdiff.priors.adapter.X0"}}
    adapted = {"class_path": "avdiff.priors.adapter.AdaptedPrior", "init_args": {**prior, "process": process}}
    separator = told["model"]["init_args"]["separator"]
    separator["init_args"]["prior"]["init_args"]["priors"]["noise"] = adapted
    file = folder / "stranger.yaml"
    file.write_text(yaml.safe_dump({"model": told["model"], "data": told["data"]}))
    return file


@pytest.mark.parametrize(
    "name",
    [
        "os.system",
        "subprocess.Popen",
        "avdiff.methods.pkgutil.os.system",
        "torch.hub.load",
        "torch.load",
        "avdiff.cli.main",
        "avdiff.priors.store.save_prior",
        "lightning.pytorch.utilities.migration.migrate_checkpoint",
    ],
)
def test_a_method_file_names_only_what_is_allowed(tmp_path: Path, name: str) -> None:
    file = stranger(tmp_path, class_path=name, init_args={})
    with pytest.raises(UserError, match=f"names .*{name.rpartition('.')[2]}.*--allow"):
        load_method(str(file))


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("avdiff.methods.pkgutil.os.system", "which is os.system, .*name it os.system and add --allow os$"),
        ("datamodules.real.np.load", "which is numpy.load, .*name it numpy.load and add --allow numpy$"),
        ("their_package.priors.Prior", "if you wrote it or know what it does, add --allow their_package.priors$"),
    ],
)
def test_what_is_reached_through_other_modules_is_told_by_its_own_name(name: str, advice: str) -> None:
    told = refusal(f"Importing '{name}' is not allowed, denied by the '*' entry")
    assert told is not None
    assert re.search(advice, told), told


def test_a_module_beside_the_file_is_not_even_imported(tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text("open('IMPORTED', 'w')\ndef time(sigma): return sigma\n")
    stranger(tmp_path, class_path="beside.time")
    for more, expected in (([], False), (["--allow", "beside"], True)):
        code = "import sys; sys.path[:0] = ['.']; from avdiff.cli import main; main(sys.argv[1:])"
        command = [sys.executable, "-c", code, "predict", "--config", "stranger.yaml", "--print_config", *more]
        environment = {"PYTHONPATH": str(ROOT)}
        told = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert (tmp_path / "IMPORTED").exists() is expected, told.stderr
        assert ("--allow beside" in told.stderr) is not expected, told.stderr


def test_predict_refuses_before_it_runs_anything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mark = tmp_path / "EXECUTED"
    file = stranger(tmp_path, class_path="os.system", init_args={"command": f"touch {mark}"})
    with pytest.raises(SystemExit):
        main(["predict", "--config", str(file)])
    assert "--allow os" in capsys.readouterr().err
    assert not mark.exists()


def test_a_list_of_a_benchmark_file_is_read_by_the_same_rule(tmp_path: Path) -> None:
    mark = tmp_path / "EXECUTED"
    data = {"x": {"class_path": "os.system", "init_args": {"command": f"touch {mark}"}}}
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump({"title": "t", "methods": {"a": {"method": str(TOY)}}, "data": data}))
    with pytest.raises(SystemExit):
        main(["benchmark", str(file), "--output", str(tmp_path / "out")])
    assert not mark.exists()


def test_what_is_refused_lies_within_what_is_allowed() -> None:
    assert is_allowed("lightning.pytorch.callbacks.ModelCheckpoint")
    assert is_allowed("tests.toys.Shares"), "the tests allow themselves"
    assert not is_allowed("lightning.pytorch.callbacks.LambdaCallback")
    assert not is_allowed("avdiff")
    assert not is_allowed("avdiffs.priors")


def test_a_recogniser_brings_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is anybody asked whether it may."""
    asked = []
    monkeypatch.setattr("builtins.input", lambda *_: asked.append("input") or "y")
    (tmp_path / "evil.py").write_text(
        f"from pathlib import Path\nPath({str(tmp_path / 'EXECUTED')!r}).touch()\n"
        "from transformers import PretrainedConfig\nclass Evil(PretrainedConfig): model_type = 'evil'\n"
    )
    told = {"model_type": "evil", "auto_map": {"AutoConfig": "evil.Evil"}}
    (tmp_path / "config.json").write_text(json.dumps(told))
    with pytest.raises(UserError, match="recogniser"):
        load_recogniser(str(tmp_path))
    assert not (tmp_path / "EXECUTED").exists()
    assert not asked
