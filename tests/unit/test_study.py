"""Benchmark and sweep files: one table, nothing done twice, failures and the paper's figures told apart."""

from __future__ import annotations

import csv
import re
import signal
import subprocess
import sys
from pathlib import Path
from unittest.mock import MagicMock

import pytest
import yaml

from avdiff.cli import main
from avdiff.commands import _sweep
from avdiff.errors import UserError
from avdiff.methods import load_method, method_config
from avdiff.metrics.summary import summarise
from avdiff.metrics.table import Row
from avdiff.report.wandb_log import log_means
from avdiff.study import Line, _papers, cells_of, read_paper, read_study
from avdiff.study_page import _table
from avdiff.sweep import point_name, read_sweep

ROOT = Path(__file__).parents[2]


def method(folder: Path, name: str, **settings: object) -> str:
    """A file of a toy method."""
    separator = {"class_path": "tests.toys.Shares", "init_args": settings}
    model = {"class_path": "avdiff.lit.separation.SeparationModule", "init_args": {"separator": separator}}
    (folder / f"{name}.yaml").write_text(yaml.safe_dump({"model": model}))
    return str(folder / f"{name}.yaml")


def study(folder: Path, methods: dict[str, dict], **more: object) -> Path:
    toys = {"class_path": "datamodules.mixtures.ToyMixtures", "init_args": {"clips": 4}}
    told: dict = {"title": "Toys", "methods": methods, "data": {"toys": toys}, "metrics": ["si_sdr"], **more}
    (folder / "toys.yaml").write_text(yaml.safe_dump(told, sort_keys=False))
    return folder / "toys.yaml"


def table(folder: Path, name: str = "table") -> list[dict[str, str]]:
    with (folder / f"{name}.csv").open() as file:
        return list(csv.DictReader(file))


def run(file: Path, out: Path, *more: str) -> None:
    main(["benchmark", str(file), "--output", str(out), *more])


def test_one_table_of_methods_seeds_failures_and_the_papers_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        "avdiff.study.read_paper",
        lambda: {"theirs": {"offscreen": {"mixture": {"si_sdr": 2.5}, "SHARES": {"si_sdr": 12.5}}}},
    )
    methods = {
        "shares": {"method": method(tmp_path, "a"), "paper": "SHARES"},
        "noisy": {"method": method(tmp_path, "b", noise=0.05), "seeds": 2},
        "few": {"method": method(tmp_path, "c", noise=0.0), "clips": 2, "set": ["noise=0.2"]},
        "broken": {"method": method(tmp_path, "d", broken=True)},
    }
    run(study(tmp_path, methods, paper={"toys": "theirs"}, warmup=1), tmp_path / "out")
    hidden = {line["method"]: line for line in table(tmp_path / "out") if line["role"] == "offscreen"}
    assert list(hidden) == ["mixture", "shares", "noisy", "few"]
    assert {name: (line["mixtures"], line["seeds"], line["sources"]) for name, line in hidden.items()} == {
        "mixture": ("4", "1", "2"),
        "shares": ("4", "1", "2"),
        "noisy": ("4", "2", "4"),
        "few": ("2", "1", "1"),
    }
    assert float(hidden["shares"]["value"]) == pytest.approx(float(hidden["mixture"]["value"]), abs=1e-3)
    assert float(hidden["noisy"]["value"]) < float(hidden["shares"]["value"])
    assert float(hidden["noisy"]["seed_deviation"]) > 0
    assert hidden["noisy"]["paper"] == "nan"
    assert hidden["shares"]["paper"] == "12.5"
    efforts = {line["method"]: line for line in table(tmp_path / "out", "efforts")}
    assert (efforts["shares"]["mixtures"], efforts["shares"]["seconds"]) == ("3", "0.5"), "the first one is not timed"
    assert efforts["broken"]["failure"] == "RuntimeError: this method is broken"
    pairs = {(line["method"], line["other"], line["role"]) for line in table(tmp_path / "out", "comparisons")}
    assert ("shares", "noisy", "noise") in pairs
    text = (tmp_path / "out" / "table.md").read_text()
    few = hidden["few"]
    gain = float(few["improvement"])
    assert f"| few | 2 | {float(few['value']):.2f} ({gain:+.2f})" in text, "over its own mixtures, not all of the list"
    assert "| shares, the paper's figure on its data | | 12.5 |" in text
    assert "| mixture, the paper's figure on its data | | 2.5 |" in text
    assert "broken failed on toys: RuntimeError: this method is broken" in text
    assert f"`avdiff benchmark {tmp_path / 'toys.yaml'}`" in text
    main(["report", str(tmp_path / "out"), str(tmp_path / "out"), "--output", str(tmp_path / "all.md")])
    lines = (tmp_path / "all.md").read_text().splitlines()
    assert [line for line in lines if line.startswith(("# ", "## ", "- "))] == [
        "# Results",
        *["- [Toys](#toys)"] * 2,
        *["## Toys"] * 2,
    ]
    assert lines.count("| shares, the paper's figure on its data | | 12.5 |") == 2
    page = (tmp_path / "out" / "page.html").read_text()
    assert page.count("<audio") == 3 * (3 + 3 + 2), (
        "mixture, estimate and clean of three clips, or of the two there are"
    )
    assert page.count("median: estimate") == 2
    assert 'src="http' not in page
    assert "shares, the paper" in capsys.readouterr().out


def test_a_slow_method_may_name_its_lists(tmp_path: Path) -> None:
    methods = {
        "all": {"method": method(tmp_path, "a")},
        "slow": {"method": method(tmp_path, "b", noise=0.0), "data": "second", "set": "noise=0.2"},
    }
    toys = {"class_path": "datamodules.mixtures.ToyMixtures", "init_args": {"clips": 2}}
    run(study(tmp_path, methods, data={"first": toys, "second": toys}), tmp_path / "out")
    assert {(line["data"], line["method"]) for line in table(tmp_path / "out", "efforts")} == {
        ("first", "all"),
        ("second", "all"),
        ("second", "slow"),
    }
    mine, other = (
        float(line["value"])
        for line in table(tmp_path / "out")
        if (line["data"], line["role"]) == ("second", "noise") and line["method"] != "mixture"
    )
    text = (tmp_path / "out" / "table.md").read_text()
    assert "## all minus slow" in text
    assert f"| noise | si_sdr | 2 | {mine - other:+.2f} [" in text
    assert {line["data"] for line in table(tmp_path / "out", "comparisons")} == {"second"}


def test_a_methods_clips_are_the_first_of_any_list(tmp_path: Path) -> None:
    """Of one that changes another, and of one that has fewer."""
    methods = {
        "few": {"method": method(tmp_path, "a"), "clips": 1},
        "many": {"method": method(tmp_path, "b"), "clips": 9},
    }
    toys = {"class_path": "datamodules.mixtures.ToyMixtures", "init_args": {"clips": 2}}
    blind = {"class_path": "datamodules.mixtures.WrongLips", "init_args": {"mixtures": toys, "lips": "withheld"}}
    run(study(tmp_path, methods, data={"toys": toys, "blind": blind}), tmp_path / "out")
    counts = {(line["data"], line["method"]): line["mixtures"] for line in table(tmp_path / "out", "efforts")}
    assert counts == {(data, label): n for data in ("toys", "blind") for label, n in (("few", "1"), ("many", "2"))}
    assert (tmp_path / "out" / "page.html").is_file()


def test_clips_that_are_given_up_are_counted_and_leave_the_mixtures_figure_alone(tmp_path: Path) -> None:
    methods = {
        "weak": {"method": method(tmp_path, "a", give_up="toy/001")},
        "strong": {"method": method(tmp_path, "b")},
    }
    with pytest.warns(UserWarning, match="toy/001 was given up"):
        run(study(tmp_path, methods), tmp_path / "out")
    noise = {line["method"]: line for line in table(tmp_path / "out") if line["role"] == "noise"}
    assert [noise[name]["sources"] for name in ("mixture", "weak", "strong")] == ["4", "3", "4"]
    assert float(noise["mixture"]["value"]) == pytest.approx(float(noise["strong"]["value"]), abs=1e-3)
    assert [line["missing"] for line in table(tmp_path / "out", "efforts")] == ["1", "0"]
    text = (tmp_path / "out" / "table.md").read_text()
    assert "weak gave up 1 mixture of toys; the first, toy/001: not separated: it is too hard" in text


def test_killed_in_the_middle_it_computes_nothing_twice_and_gives_the_same_table(tmp_path: Path) -> None:
    tables = {}
    for name, kill_after in (("whole", 0), ("killed", 5)):
        folder = tmp_path / name
        folder.mkdir()
        log = folder / "log"
        methods = {
            label: {"method": method(folder, label, noise=noise, log=str(log), kill_after=kill_after)}
            for label, noise in (("quiet", 0.01), ("loud", 0.1))
        }
        file = study(folder, methods)
        if kill_after:
            command = [
                sys.executable,
                "-m",
                "avdiff.cli",
                "benchmark",
                str(file),
                "--allow",
                "tests",
                "--output",
                str(folder / "out"),
            ]
            killed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
            assert killed.returncode == -signal.SIGKILL, killed.stderr
            assert len(log.read_text().splitlines()) == 5
        run(file, folder / "out")
        done = log.read_text().splitlines()
        # The clip that was under way when the process died is the only one that is separated again.
        assert len(done) == 8 + (1 if kill_after else 0)
        assert len(set(done)) == 4
        tables[name] = table(folder / "out")
        scores = {file: file.stat().st_mtime_ns for file in (folder / "out").rglob("scores.json")}
        assert len(scores) == 8
        run(file, folder / "out")
        assert log.read_text().splitlines() == done
        assert scores == {file: file.stat().st_mtime_ns for file in scores}
    assert tables["killed"] == tables["whole"]


def test_results_of_other_settings_are_refused_before_anything_is_separated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "log"
    last = {"last": {"method": method(tmp_path, "b")}}
    run(study(tmp_path, last), tmp_path / "out")
    last["last"]["set"] = ["noise=0.5"]
    file = study(tmp_path, {"first": {"method": method(tmp_path, "a", log=str(log))}, **last})
    with pytest.raises(SystemExit):
        run(file, tmp_path / "out")
    assert "last_seed0 were made with other settings" in capsys.readouterr().err
    assert not log.exists()


def test_results_of_a_changed_list_are_refused_and_a_longer_list_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "log"
    methods = {"a": {"method": method(tmp_path, "a", log=str(log))}}

    def toys(**settings: object) -> dict[str, dict]:
        of = {"class_path": "datamodules.mixtures.ToyMixtures", "init_args": settings}
        return {
            "toys": {"class_path": "datamodules.mixtures.WrongLips", "init_args": {"mixtures": of, "lips": "withheld"}}
        }

    run(study(tmp_path, methods, data=toys(clips=2)), tmp_path / "out")
    run(study(tmp_path, methods, data=toys(clips=3)), tmp_path / "out")
    done = log.read_text().splitlines()
    assert len(done) == 3
    with pytest.raises(SystemExit):
        run(study(tmp_path, methods, data=toys(clips=3, std=0.2)), tmp_path / "out")
    assert "the list was changed: toy/000 in" in capsys.readouterr().err
    assert log.read_text().splitlines() == done
    before = table(tmp_path / "out")
    (tmp_path / "out" / "toys" / "a_seed0" / "mixtures.json").unlink()
    run(study(tmp_path, methods, data=toys(clips=3)), tmp_path / "out")
    assert log.read_text().splitlines() == done, "results from before lists were told of go on"
    assert table(tmp_path / "out") == before


def test_asked_to_stop_it_stops_at_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    file = study(tmp_path, {"a": {"method": method(tmp_path, "a", log=str(log), kill_after=2, ask=True)}})
    command = [
        sys.executable,
        "-m",
        "avdiff.cli",
        "benchmark",
        str(file),
        "--allow",
        "tests",
        "--output",
        str(tmp_path / "out"),
    ]
    stopped = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert stopped.returncode == 128 + signal.SIGTERM, stopped.stderr
    assert len(log.read_text().splitlines()) == 2
    assert len(list((tmp_path / "out").rglob("separation.json"))) == 1, (
        "the clip at hand is lost, the one before is not"
    )


def test_parts_share_the_work_and_a_last_run_makes_the_table(tmp_path: Path) -> None:
    log = tmp_path / "log"
    file = study(tmp_path, {"a": {"method": method(tmp_path, "a", log=str(log)), "seeds": 3}})
    for part in ("1/2", "2/2"):
        run(file, tmp_path / "out", "--part", part)
    assert not (tmp_path / "out" / "table.csv").exists()
    done = log.read_text().splitlines()
    assert len(set(done)) == len(done) == 12
    run(file, tmp_path / "out")
    assert log.read_text().splitlines() == done
    assert {line["seeds"] for line in table(tmp_path / "out") if line["method"] == "a"} == {"3"}


def test_a_part_tells_of_methods_that_failed_when_the_others_are_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "log"
    methods = {
        "broken": {"method": method(tmp_path, "a", broken=True)},
        "well": {"method": method(tmp_path, "b")},
        "last": {"method": method(tmp_path, "c", log=str(log))},
    }
    file = study(tmp_path, methods)
    with pytest.raises(SystemExit) as stop:
        run(file, tmp_path / "out", "--part", "1/2")
    assert stop.value.code == 2
    assert (
        "broken failed on toys, seed 0: RuntimeError: this method is broken; the other work" in capsys.readouterr().err
    )
    assert len(log.read_text().splitlines()) == 4
    run(file, tmp_path / "out", "--part", "2/2")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"methods": {"x": {"method": "magic"}}}, "there is no method 'magic'"),
        ({"methods": {"x": {"method": "local_em", "seeds": 0}}}, "methods.x.seeds is 0"),
        ({"methods": {"x": {"method": "local_em", "clips": 0}}}, "methods.x.clips is 0"),
        ({"methods": {"x": {"method": "local_em", "set": ["levels=3"]}}}, "'levels=3' names no setting"),
        ({"methods": {"x": {"method": "local_em", "data": ["toy"]}}}, "x has data: toy; the file's lists are toys"),
        ({"methods": {"x": {"metod": "local_em"}}}, "is no benchmark file"),
        (
            {"methods": {"a<b": {"method": "nmf"}, "a>b": {"method": "nmf"}}},
            "the methods 'a<b' and 'a>b', whose results",
        ),
        (
            {"data": {name: {"class_path": "x.Y"} for name in ("0 dB", "0-dB", "0_dB")}},
            "the lists '0 dB' and '0_dB', whose results would share",
        ),
        (
            {"data": {"rows": {"class_path": "x.Y"}}},
            "the lists 'rows', whose results would have no folder of their own",
        ),
        ({"methods": {"語": {"method": "nmf"}}}, "the methods '語', whose results would have no folder"),
        ({"colour": "red"}, "colour is not known"),
        ({"name": "x"}, "name is not known"),
        ({"data": 5}, "data is 5"),
        ({"data": None}, "data is None"),
        ({"data": {}}, "data is empty"),
        ({"data": ["x"]}, "data is ['x']"),
        ({"data": {"t": 5}}, "data.t is 5"),
        ({"data": {"..": {"class_path": "x.Y"}}}, "no folder of their own"),
        ({"methods": {1: {"method": "nmf"}}}, "methods.1"),
        ({"methods": {"x" * 300: {"method": "nmf"}}}, "1 to 100 characters"),
        ({"methods": {"a": {"method": "nmf", "clips": "x"}}}, "methods.a.clips is 'x'"),
        ({"methods": {"a": {"method": "nmf", "seeds": True}}}, "methods.a.seeds is True"),
        ({"methods": {"a": {"method": "nmf", "set": "level=[1"}}}, "no YAML"),
        ({"notes": 5}, "notes is 5"),
        ({"paper": 5}, "paper is 5"),
        ({"warmup": "x"}, "warmup is 'x'"),
        ({"warmup": -1}, "warmup is -1"),
        ({"metrics": ["si_sdrr"]}, "there is no metric 'si_sdrr'"),
        ({"data": {"x": {"class_path": "datamodules.mixtures.Toys"}}}, "does not describe a list of mixtures"),
        ({"title": "$NOWHERE_SET/x"}, "export NOWHERE_SET=FOLDER"),
    ],
)
def test_files_that_are_none(change: dict, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = study(tmp_path, {"a": {"method": method(tmp_path, "a")}})
    file.write_text(yaml.safe_dump({**yaml.safe_load(file.read_text()), **change}))
    with pytest.raises(SystemExit):
        run(file, tmp_path / "out")
    assert sentence in capsys.readouterr().err


def test_every_table_of_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    """They parse; their methods, settings and the paper's figures that they name exist."""
    monkeypatch.setenv("AVDIFF_DATA", "/data")
    files = sorted((ROOT / "experiments" / "tables").glob("*.yaml"))
    assert [file.stem for file in files] == [
        "ablation",
        "embedded",
        *(f"embedded{k}" for k in range(2, 8)),
        "enrolled",
        "fast",
        "flowavse",
        "levels",
        "noise_models",
        "oracle",
        "oracle_learned",
        "samplers",
        "separation",
        *(f"table{k}" for k in range(2, 8)),
    ]
    paper = read_paper()
    for file in files:
        read = read_study(file)
        assert cells_of(read)
        assert set(read.paper) <= set(read.data)
        for name in read.paper.values():
            rows = {row for role in paper[name].values() for row in role}
            assert any(entry.paper in rows for entry in read.methods.values())
        if file.stem.startswith("embedded"):
            assert not read.paper, "the paper's figures are of other data"


PAPERS_LISTS = {  # of its Tables II to VI
    2: ["speakers1_dns", "speakers2_dns", "speakers3_dns"],
    3: ["speakers1_dcase", "speakers2_dcase", "speakers3_dcase"],
    4: ["offscreen2_dns"],
    5: ["offscreen3_dns"],
    6: ["scenes-10dB_dcase", "scenes-5dB_dcase", "scenes0dB_dcase", "scenes5dB_dcase"],
}


@pytest.mark.parametrize("number", range(2, 8))
def test_the_papers_tables_have_its_lists_and_its_rows(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row by row and in its order, each on the lists that the paper has it on; and no figure of it is left out."""
    monkeypatch.setenv("AVDIFF_DATA", "/data")
    read, paper = read_study(ROOT / "experiments" / "tables" / f"table{number}.yaml"), read_paper()
    if number == 7:
        assert set(read.paper.values()) == {name for name in paper if name.startswith("time_")}
    else:
        assert list(read.data) == PAPERS_LISTS[number]
        assert read.paper == {name: name for name in read.data}
        assert all(Path(of.init_args["file"]).stem == name for name, of in read.data.items())
    for name in dict.fromkeys(read.paper.values()):
        of = {data for data, told in read.paper.items() if told == name}
        rows = [
            entry.paper for entry in read.methods.values() if entry.paper and (not entry.data or of & set(entry.data))
        ]
        for role in paper[name].values():
            assert rows == [method for method in role if method != "mixture"]


def test_figures_of_the_paper() -> None:
    """One of each table, and of every kind."""
    paper = read_paper()
    assert set(paper) == {
        *(name for of in PAPERS_LISTS.values() for name in of),
        *(f"time_speakers{k}" for k in (1, 2, 3)),
    }
    assert paper["speakers2_dns"]["speaker"]["DAVSS-NM"] == {
        "si_sdr": 5.06, "pesq": 2.06, "estoi": 0.61, "nisqa": 3.10, "wer_parakeet": 27.5, "wer_whisper": 26.8
    }  # fmt: skip
    assert paper["speakers3_dns"]["speaker"]["FlowAVSE, trained for 1"]["si_sdr"] == -6.56
    assert paper["speakers1_dcase"]["speaker"]["SSNAPS"]["si_sdr"] == 9.14
    without = "SSNAPS without the separation loss"
    gained = {
        name: paper[name]["offscreen"]["SSNAPS"]["si_sdr"] - paper[name]["offscreen"][without]["si_sdr"]
        for name in ("offscreen2_dns", "offscreen3_dns")
    }
    assert gained == pytest.approx({"offscreen2_dns": 1.08, "offscreen3_dns": 0.57})
    assert paper["scenes-10dB_dcase"]["noise"]["SSNAPS"] == {"scene_3": 82.8, "scene_10": 74.7, "scene_fused": 74.8}
    assert paper["time_speakers3"]["cost"]["SSNAPS"] == {"evaluations": 1600, "seconds": 160}


@pytest.mark.parametrize(
    ("metric", "model", "expected"),
    [
        ("si_sdr", "", 7.0),
        ("wer", "nvidia/parakeet-tdt-0.6b-v2", 0.2),
        ("wer", "nvidia/parakeet-tdt-0.6b-v3", float("nan")),
        ("wer", "pocketsphinx en-us, GRID grammar", float("nan")),
        ("wer", "openai/whisper-large-v3", 0.3),
        ("scene_selected", "any", 0.5),
        ("scene", "any", float("nan")),
    ],
)
def test_the_papers_figure_stands_beside_its_like(metric: str, model: str, expected: float) -> None:
    figures = {"si_sdr": 7.0, "wer_parakeet": 20.0, "wer_whisper": 30.0, "scene_3": 90.0, "scene_fused": 50.0}
    assert _papers(figures, metric, model) == pytest.approx(expected, nan_ok=True)


def test_settings_of_a_method() -> None:
    """Below a star, and arguments that its file leaves at their default."""

    def separator_of(config: dict) -> dict:
        return config["model"]["init_args"]["separator"]["init_args"]

    inner = separator_of(
        method_config("local_em", ["recipes.*.sampler.init_args.iterations=7", "recipes.2.levels.noise=-9.5"])
    )
    recipes = inner["recipes"]
    assert {recipe["sampler"]["init_args"]["iterations"] for recipe in recipes.values()} == {7}
    assert [recipe["levels"]["noise"] for recipe in recipes.values()] == [-5.0, -9.5, -15.0]
    assert "bf16" not in inner["prior"]["init_args"]
    assert separator_of(method_config("local_em", ["prior.init_args.bf16=true"]))["prior"]["init_args"]["bf16"] is True
    assert separator_of(method_config("local_em", ["level=2"]))["level"] == 2
    for wrong in ("prior.init_args.bf17=true", "recipes.*.sampler.init_args.iteration=7", "recipes.1", "nothing=1"):
        with pytest.raises(UserError, match="names no setting"):
            method_config("local_em", [wrong])


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("level=abc", "level: Expected a <class 'float'>. Got value: abc"),
        (
            "recipes.1.sampler.init_args.iterations=x",
            "recipes.sampler.iterations: Expected a <class 'int'>. Got value: x",
        ),
        ("recipes.1.likelihood.init_args.std=-1", "must be positive"),
        (
            "recipes.1.sampler.class_path=avdiff.samplers.nothing",
            "recipes.sampler: module 'avdiff.samplers' has no attribute 'nothing'",
        ),
    ],
)
def test_a_setting_of_the_wrong_kind_is_one_sentence(override: str, sentence: str) -> None:
    with pytest.raises(UserError, match=re.escape(sentence)) as failure:
        load_method("local_em", [override])
    assert override in str(failure.value)
    assert "\n" not in str(failure.value)


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        (5, "parameters is 5"),
        ({}, "parameters is {}"),
        ({"a": 5}, "parameters.a is 5"),
        ({"a": {"values": 5}}, "values is 5"),
        ({"a": {"values": []}}, "values is []"),
        ({"a": {"valeus": [5]}}, "parameters.a.valeus is not known"),
        ({"a": {"min": 1, "max": 3}}, "parameters.a.max is not known"),
        ({"a": {}}, "neither values nor value"),
        ({"a": {"values": [float("nan")]}}, "values.0"),
        ({f"p{k}": {"values": list(range(100))} for k in range(3)}, "1000000 points"),
        ({"level": {"values": [3.0, "loud"]}}, "level=loud"),
        ({"levle": {"values": [3.0]}}, "levle=3.0"),
    ],
)
def test_sweeps_that_are_none(
    parameters: object, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Told before a point of the grid is run."""
    file = tmp_path / "sweep.yaml"
    command = ["avdiff", "benchmark", "--method", "local_em", "--set", "${args_no_hyphens}"]
    file.write_text(yaml.safe_dump({"method": "grid", "command": command, "parameters": parameters}))
    with pytest.raises(SystemExit):
        main(["benchmark", str(file), "--output", str(tmp_path / "out")])
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_every_sweep_of_the_project() -> None:
    for file in (ROOT / "experiments" / "sweeps").glob("*.yaml"):
        sweep = read_sweep(file)
        points = list(sweep.points())
        assert len(set(points)) == 9
        arguments = sweep.arguments(points[0])
        assert "--wandb" not in arguments
        assert arguments[-3:] == ["--set", *points[0]]
        method_config(arguments[arguments.index("--method") + 1], points[0])


def test_a_sweep_is_its_own_command_over_the_grid(tmp_path: Path) -> None:
    """By stand-ins of the command, which has tests of its own: the arguments, and the table of what it leaves."""
    file = tmp_path / "sweep.yaml"
    command = ["${env}", "avdiff", "benchmark", "--method", "local_em", "--wandb", "p", "--set", "${args_no_hyphens}"]
    grid = {"level": {"values": [1, 2]}, "prior.init_args.guidance": {"value": 3}}
    file.write_text(yaml.safe_dump({"method": "grid", "command": command, "parameters": grid}, sort_keys=False))
    given: list[list[str]] = []

    def stand_in(arguments: list[str]) -> None:
        given.append(arguments)
        settings = arguments[arguments.index("--set") + 1 : arguments.index("--output")]
        out = Path(arguments[-1])
        out.mkdir(exist_ok=True)
        (out / f"local_em_{point_name(settings)}_summary.csv").write_text(
            f"condition,role,metric,improvement,error,model\nc,speaker,si_sdr,{settings[0][-1]},0.5,\n"
            "c,speaker,wer,-0.25,0.1,one\nc,speaker,wer,-0.5,0.1,other\n"
        )

    _sweep(file, tmp_path / "out", stand_in)
    assert [arguments[:-2] for arguments in given] == [
        ["benchmark", "--method", "local_em", "--set", f"level={level}", "prior.init_args.guidance=3"]
        for level in (1, 2)
    ]
    _, convention, _, head, _, *lines = (tmp_path / "out" / "sweep.md").read_text().splitlines()
    assert "si_sdr_zero_mean" in convention
    assert head == "| level | guidance | c speaker si_sdr | c speaker wer (one) | c speaker wer (other) |"
    assert lines == [
        "| 1 | 3 | +1.00 ± 0.50 | -0.25 ± 0.10 | -0.50 ± 0.10 |",
        "| 2 | 3 | +2.00 ± 0.50 | -0.25 ± 0.10 | -0.50 ± 0.10 |",
    ]


def test_word_errors_of_two_recognisers_stand_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the page, and in the summary of a W&B run, which a stand-in takes."""
    rows = [
        Row("c", f"{i}", "speaker1", "wer", 1.0, errors, model=model, weight=4)
        for model, errors in (("one", 0.25), ("other", 0.5))
        for i in range(2)
    ]
    means, nan = summarise(rows), float("nan")
    lines = [
        Line(
            "c", "c", m.role, m.metric, m.model, "a", 2, 1, m.sources, 0, m.estimate, nan, nan, m.improvement, nan, nan
        )
        for m in means
    ]
    page = _table(lines)
    assert page.header == ["method", "speaker wer (one)", "speaker wer (other)"]
    assert page.rows == [["a", "0.25 (-0.75)", "0.50 (-0.50)"]]
    run = MagicMock(summary={})
    run.__enter__.return_value = run
    wandb = MagicMock(init=lambda **_: run)
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    log_means("project", "my method", [], means, Path("rows.csv"))
    assert wandb.Artifact.call_args.args == ("my_method-rows",)  # W&B takes no other characters
    assert {name: run.summary[f"c/speaker/wer ({name})"] for name in ("one", "other")} == {"one": 0.25, "other": 0.5}


def test_p_values_are_corrected_for_all_lists_of_the_table(tmp_path: Path) -> None:
    methods = {name: {"method": method(tmp_path, name, noise=of)} for name, of in (("a", 0.0), ("b", 0.2))}
    toys = {"class_path": "datamodules.mixtures.ToyMixtures", "init_args": {"clips": 12}}
    run(study(tmp_path, methods, data={"first": toys, "second": toys}), tmp_path / "out")
    found = table(tmp_path / "out", "comparisons")
    assert len(found) == 4, "two roles of two lists"
    assert len({line["data"] for line in found}) == 2
    least = min(found, key=lambda line: float(line["p"]))
    assert float(least["p"]) < 0.05
    assert float(least["p_holm"]) == pytest.approx(4 * float(least["p"]), rel=1e-4)


@pytest.mark.slow
def test_tables_are_logged_without_a_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.chdir(tmp_path)
    file = study(tmp_path, {"a": {"method": method(tmp_path, "a")}})
    run(file, tmp_path / "out", "--wandb", "toys")
    [folder] = (tmp_path / "wandb").glob("offline-run-*")
    assert list(folder.glob("*.wandb"))
