"""What people type, and what they are told when it is wrong."""

from __future__ import annotations

import errno
import re
import sys
from pathlib import Path

import pytest
import soundfile
import yaml
from rich.table import Table

from avdiff.cli import main
from avdiff.console import console
from avdiff.errors import UserError


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["avdiff", *arguments])
    try:
        main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_help_lists_every_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch) == 0
    text = capsys.readouterr().out
    for command in (
        "fit",
        "validate",
        "test",
        "predict",
        "separate",
        "demo",
        "benchmark",
        "evaluate",
        "wandb",
        "models",
        "sample",
        "prepare",
        "export",
    ):
        assert re.search(rf"^    {command}( |$)", text, re.MULTILINE)


NOISE = ("--config", "experiments/train/noise.yaml")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["separat"], "invalid choice: 'separat'"),
        (
            ["separate", "talk.mp4", "--colour", "red"],
            "unrecognized arguments: --colour red; see avdiff separate --help",
        ),
        (["separate"], "give either one video"),
        (["separate", "nowhere.mp4"], "There is no file nowhere.mp4"),
        (["separate", "tests"], "tests is a folder"),
        (["separate", "--mixture", "README.md", "--face", "tests"], "tests is a folder"),
        (["recordings", "tests", "--clips", "0"], "--clips is 0; give at least 1"),
        (["separate", "README.md", "--output", "talk\udcff"], "'talk\\udcff' is not UTF-8"),
        (["separate", "README.md", "--draws", "4"], "local_em does not"),
        (["separate", "README.md", "--draws", "4", "--method", "visual_mask"], "visual_mask does not"),
        (["separate", "README.md", "--draws", "0", "--method", "ssnaps_fast"], "--draws is 0"),
        (["separate", "README.md", "--device", "mps"], "--device mps is no device that avdiff runs on"),
        (["separate", "README.md", "--device", "gpu"], "--device gpu is no device that avdiff runs on"),
        (["separate", "nowhere.mp4", "--face", "a.mp4"], "--face goes with --mixture"),
        (["separate", "nowhere.mp4", "--mouth", "a.mp4"], "--mouth goes with --mixture"),
        (["separate", "--mouth", "a.mp4", "--mouth", "b.mp4"], "--face or --mouth for every talker"),
        (["separate", "--mouth", "tests"], "tests is a folder"),
        (["separate", "a.mp4", "--offscreen", "two"], "'two' is no number of talkers; give 0, 1 or auto"),
        (["demo", "--method", "magic"], "there is no method 'magic'; the methods are"),
        (["export", "nowhere.ckpt", "small_noise", "out"], "checkpoint nowhere.ckpt does not exist"),
        (["export", "nowhere.ckpt", "small_ravss", "out"], "checkpoint nowhere.ckpt does not exist"),
        (["export", "nowhere.ckpt", "magic", "out"], "there is no preset 'magic'; the presets are ncsnpp_m"),
        (["sample", "nowhere"], "prior 'nowhere': nowhere/config.yaml does not exist"),
        (["sample", "noise", "--clips", "0"], "--clips is 0; give at least 1"),
        (["benchmark", "--condition", "speakers1", "--lips", "swapped"], "two visible talkers"),
        (["benchmark", "--clips", "0"], "--clips is 0; give at least 1"),
        (["benchmark", "--part", "1/2"], "--part goes with a benchmark file"),
        (
            ["benchmark", "experiments/tables/levels.yaml", "--clips", "1"],
            "--clips is not for a file, which says this itself",
        ),
        (["benchmark", "experiments/sweeps/ssnaps.yaml", "--part", "1/2"], "--part is not for a sweep"),
        (["benchmark", "experiments/sweeps/ssnaps.yaml", "--devices", "2"], "--devices is not for a sweep"),
        (
            ["benchmark", "experiments/sweeps/ssnaps.yaml", "--metric", "sar"],
            "--metric is not for a sweep, whose command",
        ),
        (["benchmark", "experiments/sweeps/ssnaps.yaml", "--consistent"], "--consistent is not for a sweep"),
        (["benchmark", "experiments/sweeps/ssnaps.yaml", "--workers", "2"], "--workers is not for a sweep"),
        (["benchmark", "README.md"], "README.md is no benchmark file"),
        (["benchmark", "avdiff/weights/nmf/model.safetensors"], "model.safetensors is no benchmark file"),
        (["demo", "--method", "Makefile"], "Makefile is no method file"),
        (["demo", "--output", "README.md"], "README.md: File exists; give another file or folder"),
        (["report", "nowhere"], "nowhere has no table.md; give folders that avdiff benchmark FILE left"),
        (["report", "tests/data/ncsnpp_m.json"], "is not what avdiff benchmark speed --out writes"),
        (["evaluate", "nowhere"], "there is no folder nowhere"),
        (["evaluate", "tests", "--list", "mine.txt"], "--list mine.txt is no list; give embedded"),
        (["evaluate", "tests", "--list", "mine.jsonl"], "--speech FOLDER --noise FOLDER"),
        (["evaluate", "tests", "--list", "mine.csv"], "there is no list mine.csv"),
        (["evaluate", "tests", "--clips", "0"], "--clips is 0; give at least 1"),
        (["evaluate", "tests", "--list", "mine.jsonl", "--clips", "-1"], "--clips is -1; give at least 1"),
        (["evaluate", "tests", "--scenes", "tests"], "does not say what scenes its noise is of; leave --scenes out"),
        (["evaluate", "tests", "--metric", "nisqa"], "--nisqa PATH/nisqa.tar"),
        (["evaluate", "tests", "--metric", "sdr"], "there is no metric 'sdr'"),
        (["evaluate", "tests", "--condition", "speakers9"], "no condition 'speakers9'"),
        (["evaluate", "tests", "--workers", "0"], "--workers is 0"),
        (["evaluate", "tests", "--wer", "tests"], "no recogniser was found as 'tests'"),
        (["fit"], "required: fit.data, fit.model; see avdiff --help"),
        (
            ["fit", *NOISE, "--model.init_args.optimizer", "sgd"],
            "\"optimizer\": Expected a typing.Literal['adam', 'muon']. Got value: sgd; see avdiff fit --help",
        ),
        (
            ["fit", *NOISE, "--model.init_args.learning_rat", "1"],
            "Option 'learning_rat' is not accepted; see avdiff fit",
        ),
        (
            ["fit", *NOISE, "--trainer.max_steps", "all"],
            "\"trainer.max_steps\": Expected a <class 'int'>. Got value: all",
        ),
        (["predict", "--config", "nowhere.yaml"], "File does not exist:"),
        (["prepare", "noise", "nowhere", "out"], "nowhere is not a folder"),
        (["prepare", "noise", "tests", "out"], "holds no file ending in .aac"),
        (["prepare", "faces", "tests", "out", "--workers", "-1"], "--workers is -1; give at least 0"),
        (["prepare", "faces", "tests", "out", "--val", "1"], "--val is 1; give a share"),
        (["prepare", "voxceleb2", "tests", "out", "--val-clips", "-2"], "--val-clips is -2"),
        (["prepare", "features", "tests", "--checkpoint", "x.pth", "--batch", "0"], "--batch is 0"),
        (["prepare", "features", "tests", "--checkpoint", "x.pth", "--devices", "0"], "--devices is '0'"),
        (["prepare", "features", "tests", "--checkpoint", "x.pth"], "tests is no prepared data"),
        (["prepare", "enrolment", "out", "--workers", "0"], "--workers is 0"),
        (["recordings", "tests", "--part", "s1"], "invalid choice: 's1'"),
        (["recordings", "tests"], "tests/grid/others is not a folder"),
        (["prepare", "nois"], "invalid choice: 'nois'"),
        (["prepare"], "required: KIND"),
        (["prepare", "faces", "nowhere", "out"], "nowhere is not a folder"),
        (["prepare", "voxceleb2", "nowhere", "out"], "nowhere holds neither dev/mp4 nor test/mp4"),
        (["prepare", "voxceleb2", "nowhere", "out", "--list", "none.id.gz"], "facebookresearch/av_hubert"),
    ],
)
def test_a_mistake_is_one_sentence(
    arguments: list[str], sentence: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, *arguments) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("avdiff: ")
    assert output.err.count("\n") == 1
    assert sentence in output.err


def test_several_recordings_are_separated_and_those_that_fail_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.unit.test_recording import Shares, Squares, film, picture

    monkeypatch.setattr("avdiff.commands._drawing", lambda method, draws: Shares())
    monkeypatch.setattr("avdiff.video.detectors.find_detector", lambda name: Squares())
    monkeypatch.setattr("avdiff.recording.png", lambda figure: b"\x89PNG")
    (tmp_path / "broken.mp4").write_text("a film")
    film(tmp_path / "[talk].mkv", [picture()] * 30)
    command = ("separate", str(tmp_path), "--output", str(tmp_path / "out"))
    assert run(monkeypatch, *command) == 2
    told = capsys.readouterr()
    assert "1 of 2 recordings" in told.err
    assert "broken.mp4: not separated: " in told.out
    assert "[talk].mkv: 2 people" in told.out
    assert (tmp_path / "out" / "[talk]_separated" / "person2.wav").is_file()
    assert run(monkeypatch, *command) == 2
    assert "[talk].mkv was separated before" in capsys.readouterr().out
    (tmp_path / "broken.mp4").unlink()
    assert run(monkeypatch, *command) == 0
    assert run(monkeypatch, *command, "--seed", "1") == 0
    assert "[talk].mkv: 2 people" in capsys.readouterr().out.split("before")[-1]


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"\xc3\x28\x00\xff", "not UTF-8"),
        (b"model: [", "no YAML"),
        (b"a: " + b"[" * 3000 + b"]" * 3000, "too deep"),
        (b"trainer: {max_steps: 1, max_steps: 2}", "'max_steps' is given twice"),
    ],
)
@pytest.mark.parametrize("command", ["fit", "predict"])
def test_a_damaged_configuration_is_told_by_its_name(
    command: str,
    content: bytes,
    fault: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_bytes(content)
    assert run(monkeypatch, command, f"--config={file}") == 2
    told = capsys.readouterr().err
    assert told.startswith(f"avdiff: {file} is no configuration: ")
    assert fault in told
    assert told.count("\n") == 1


@pytest.mark.parametrize("option", ["--trainer", "--model", "--data"])
def test_a_damaged_part_of_a_configuration_is_told(
    option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_bytes(b"\xff\xfe\x00")
    assert run(monkeypatch, "fit", option, str(file)) == 2
    told = capsys.readouterr().err
    assert told.startswith("avdiff: ")
    assert told.count("\n") == 1
    assert option[2:] in told or str(file) in told


def test_configurations_of_the_package_are_found_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    files = ("experiments/predict.yaml", "experiments/methods/nmf.yaml")
    assert run(monkeypatch, "predict", *(f"--config={file}" for file in files), "--print_config") == 0
    assert yaml.safe_load(capsys.readouterr().out)["model"]["class_path"] == "avdiff.lit.separation.SeparationModule"


def test_a_gpu_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    recording = tmp_path / "talk.mp4"
    recording.write_text("a film")
    assert run(monkeypatch, "separate", str(recording), "--device", "cuda") == 2
    assert "no CUDA GPU" in capsys.readouterr().err


def test_models_are_listed_with_their_true_counts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "models") == 0
    listed = capsys.readouterr().out
    assert all(count in listed for count in ("27,736,590", "60,200,882", "25,719,814"))


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "out/x.wav"),
            "out/x.wav: No space left on device; free some space",
        ),
        (OSError(errno.ENOSPC, "No space left on device"), "No space left"),
        (OSError(errno.EROFS, "Read-only file system", "out"), "out: Read-only file system"),
        (OSError(errno.ENOTDIR, "Not a directory", "a/b"), "a/b: Not a directory"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "x" * 300), "xxx: File name too long"),
        (OSError(errno.EIO, "Input/output error"), "Input/output error"),
        (OSError("200 requested and 100 written"), "No space left"),
        (soundfile.LibsndfileError(2, "x.wav: "), "x.wav: System error"),
        (MemoryError(), "not enough memory"),
        (UserError("of a\nfile\x1b[31m"), "of a\\nfile\\x1b[31m"),
    ],
)
def test_what_a_user_can_mend_is_one_sentence_whoever_says_it(
    error: Exception, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr("avdiff.commands.models", fail)
    assert run(monkeypatch, "models") == 2
    output = capsys.readouterr()
    assert output.err.count("\n") == 1
    assert words in output.err


@pytest.mark.parametrize("error", [ValueError("a bug"), OSError("a bug"), OSError(errno.ECHILD, "a bug")])
def test_a_bug_keeps_its_traceback(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr("avdiff.commands.models", fail)
    with pytest.raises(type(error), match="a bug"):
        run(monkeypatch, "models")


def test_a_table_is_not_cut_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("file", "level", box=None)
    table.add_row("folder/" * 40, "-20.0")
    console().print(table)
    assert "folder/" * 40 in capsys.readouterr().out
