"""The ladder of avdiff benchmark speed: what it counts, scales, keeps and writes. No test looks at how long anything takes."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from avdiff import speed
from avdiff.cli import main
from avdiff.errors import UserError
from avdiff.likelihood.autograd import Autograd
from avdiff.priors.edm import EDMPrior
from avdiff.priors.joint import JointPrior
from avdiff.priors.presets import tiny_noise, tiny_speech
from avdiff.samplers.conditional import NoiseStream
from avdiff.samplers.daps import DAPS
from avdiff.samplers.ode import Euler
from avdiff.samplers.schedule import poly_grid
from avdiff.samplers.shares import MixtureShares
from avdiff.speed import RUNGS, Measured, Rung, Setting, build, chosen_steps, measure, run_ladder, write_json
from avdiff.types import NOISE, SPEAKER, Role

CPU, SAMPLES = torch.device("cpu"), 640 * 10


def tiny_networks(local: bool) -> Mapping[Role, EDMPrior]:
    torch.manual_seed(0)
    return {SPEAKER: tiny_speech().eval(), NOISE: tiny_noise().eval()}


def guided(levels: int, sigma_max: float, ode: bool) -> int:
    """Evaluations with guidance between 0.3 and 3 times 1, the level at which the preset reads its numbers: by hand."""
    found = 0
    for sigma in poly_grid(sigma_max, 0.01, levels, 7):
        points = [sigma, poly_grid(sigma, 1e-3, 3, 7)[1]] if ode else [sigma]
        found += sum(2 if 0.3 <= point <= 3 else 1 for point in points)
    return found + 1  # the last draw is denoised at 0.01


def test_evaluations_of_every_rung() -> None:
    rungs = [rung for rung in RUNGS if not rung.optional]
    found = run_ladder([1], tiny_networks, CPU, steps=1, rungs=rungs, samples=SAMPLES)
    assert not [row.note for row in found if row.note]
    levels, literal, interval = 300, 2 * 2 * 300 + 2, guided(300, 2.0, True)
    assert [row.evaluations for row in found] == [
        *[literal] * 3,
        *[interval] * 3,
        *(guided(30, 2.0, False), guided(10, 2.0, False), 4 + 3 + 1, 4),
    ]
    assert [row.levels for row in found] == [*[levels] * 6, 30, 10, 3, 0]
    assert [row.extrapolated for row in found] == [*[True] * 7, False, False, False]
    assert [row.timed for row in found[:3]] == [2, 2, 2], "one step, and the last, which denoises the draw too"
    for row in found:
        assert row.networks + row.likelihood + row.rest == pytest.approx(1)
        assert 0 < row.networks < 1
        assert 0 <= row.likelihood < 1
        assert row.rest > 0
        assert row.overhead == pytest.approx((row.likelihood + row.rest) / row.networks)
        assert row.faster == pytest.approx(found[0].seconds / row.seconds)
    assert found[-1].likelihood < 0.05, "local EM makes no draw"
    [row] = run_ladder([3], tiny_networks, CPU, steps=1, rungs=[Rung("x", RUNGS[8].change)], samples=SAMPLES)
    assert (row.evaluations, row.levels) == (2 * 2 * 400 + 2, 400)


def test_the_literal_reading_takes_sources_and_branches_one_at_a_time() -> None:
    rows: dict[int, list[int]] = {}
    for index, setting in enumerate((Setting(), Setting(max_rows=32))):
        separator = build(setting, tiny_networks)
        calls = rows.setdefault(index, [])
        for prior in separator.prior.priors.values():
            assert isinstance(prior, EDMPrior)
            prior.network.register_forward_pre_hook(lambda _, given, calls=calls: calls.append(len(given[0])))
        bound = separator.prior.bind(speed._observation((SPEAKER, SPEAKER, NOISE), SAMPLES, None))
        bound.denoise(torch.zeros(1, 3, SAMPLES), 1.0)
    assert rows == {0: [1] * 5, 1: [4, 1]}


def test_settings_reach_the_real_classes() -> None:
    for rung in RUNGS:
        setting = Setting(**{"method": "ssnaps_closed", **rung.change, "autograd": not rung.change})
        if setting.compiled:
            continue
        separator = build(setting, tiny_networks)
        recipe = separator.recipes[2]
        assert isinstance(recipe.likelihood, Autograd) == setting.autograd
        assert separator.prior.guidance_interval == rung.change.get("interval")
        assert separator.prior.execution.bf16 == rung.change.get("bf16", False)
        assert separator.prior.guidance == {"ssnaps_fast": 0.0, "local_em": 1.0}.get(setting.method, 0.5)
        if setting.levels:
            assert isinstance(recipe.sampler, DAPS)
            assert (recipe.sampler.schedule.steps, recipe.sampler.ode) == (setting.levels, Euler(steps=1))
            assert recipe.sampler.start == (MixtureShares() if setting.first else None)


def test_steps_of_every_kind_and_the_last_are_run() -> None:
    assert chosen_steps([4] * 6, 2) == [0, 2, 5]
    assert chosen_steps([2, 4, 4, 4, 4, 3, 2, 2, 3], 1) == [0, 1, 5, 8]
    assert chosen_steps([1, 1], 5) == [0, 1]
    assert chosen_steps([], 5) == []


def test_scaling_takes_the_mean_of_each_kind_and_leaves_what_is_outside_of_steps() -> None:
    counts, run = [4] * 10 + [2] * 5 + [3], [0, 5, 12, 15]
    laps = [{"whole": 1.0}, {"whole": 3.0}, {"whole": 0.5}, {"whole": 7.0}]
    total = speed._scaled({"whole": 11.5 + 0.25}, laps, counts, run)
    assert total == {"whole": pytest.approx(0.25 + 10 * 2 + 5 * 0.5 + 7)}


def test_steps_that_are_run_alone_know_their_place_in_the_schedule(monkeypatch: pytest.MonkeyPatch) -> None:
    """Langevin's step size falls along the schedule: at the last level the first one's would diverge."""
    seen: list[tuple[float, float]] = []

    def draw(self: Any, x0_hat: torch.Tensor, likelihood: Any, at: Any, noise: NoiseStream) -> torch.Tensor:
        seen.append((at.sigma, at.progress))
        return x0_hat

    monkeypatch.setattr("avdiff.samplers.langevin.Langevin.draw", draw)
    measure(Setting(autograd=False), 1, tiny_networks, CPU, 2, SAMPLES)
    sigmas = poly_grid(2.0, 0.01, 300, 7)
    assert seen[-3:] == [(sigmas[i], i / 300) for i in (0, 149, 299)]


def test_what_does_not_pay_or_run_is_left_out_of_later_rungs(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[Setting] = []
    seconds = {"first": 10.0, "bf16": 12.0, "channels_last": 5.0, "compiled": 0.0, "last": 1.0}
    names = iter(seconds)

    def stand_in(setting: Setting, *_: Any) -> dict[str, Any]:
        tried.append(setting)
        took = seconds[next(names)]
        if not took:
            raise RuntimeError("no compiler\nin two lines")
        return {"seconds": took}

    monkeypatch.setattr(speed, "measure", stand_in)
    rungs = [
        Rung("first"),
        *(Rung(name, {name: True}, optional=True) for name in list(seconds)[1:4]),
        Rung("last", {"interval": (1.0, 2.0)}),
    ]
    found = run_ladder([1], tiny_networks, CPU, steps=1, rungs=rungs)
    assert [row.kept for row in found] == [True, False, True, False, True]
    assert tried[-1] == Setting(channels_last=True, interval=(1.0, 2.0))
    assert found[3].note == "RuntimeError: no compiler"
    assert [row.faster for row in found if not row.note] == [1, pytest.approx(10 / 12), 2, 10]
    names = iter(seconds)
    assert "--compile" in run_ladder([1], tiny_networks, CPU, steps=1, rungs=rungs[:4], compiles=False)[3].note


def test_json_has_every_figure_and_null_where_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(speed.PRESETS, "tiny", tiny_networks)
    short = partial(run_ladder, rungs=(RUNGS[2], RUNGS[5], RUNGS[9], RUNGS[12]), samples=SAMPLES)
    monkeypatch.setattr(speed, "run_ladder", short)
    out = tmp_path / "deep" / "speed.json"
    main(["benchmark", "speed", "--preset", "tiny", "--speakers", "2", "1", "--steps", "1", "--out", str(out)])
    told = json.loads(out.read_text())
    assert told["paper"]["seconds"] == {"1": 72, "2": 110, "3": 160}
    assert told["preset"] == "tiny"
    assert {"device", "threads", "torch", "git", "audio_seconds"} <= told.keys()
    rungs = told["rungs"]
    assert [(row["rung"], row["speakers"]) for row in rungs] == [
        (RUNGS[i].name, count) for i in (2, 5, 9, 12) for count in (1, 2)
    ]
    assert all(row.keys() == Measured.__dataclass_fields__.keys() for row in rungs)
    assert [row["seconds"] is None for row in rungs] == [False, False, True, True, False, False, False, False]
    text = " ".join(capsys.readouterr().out.split())
    assert "~ is extrapolated" in text
    assert "2 speakers and noise" in text
    assert "The paper: 110 s" in text
    main(["report", str(out), "--output", str(tmp_path / "all.md")])
    lines = (tmp_path / "all.md").read_text().splitlines()
    assert "## Where the time of SSNAPS's sampler goes: tiny networks on cpu" in lines
    assert lines.count("### 1 speaker and noise, 4 s") == 1
    assert sum(line.startswith(f"| {RUNGS[9].name} | ") for line in lines) == 2
    assert speed.EXTRAPOLATED in lines


def test_a_file_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        write_json(tmp_path / "file" / "x.json", {}, [])
    assert Measured(1, "a", 1040.4, 0.9876, extrapolated=True).cells()[1:3] == ("~1040", "0.988")
    write_json(tmp_path / "x.json", {}, [Measured(1, "a")])
    assert json.loads((tmp_path / "x.json").read_text())["rungs"][0]["seconds"] is None
    assert math.isnan(Measured(1, "a").seconds)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--preset", "huge"], "there is no preset 'huge'; the presets are small, paper"),
        (["--speakers", "0"], "--speakers has 0; give numbers of at least 1"),
        (["--speakers", "two"], "invalid int value: 'two'; see avdiff benchmark speed --help"),
        (["--steps", "-1"], "--steps is -1; give at least 1, or 0 for all"),
        (["--out", "tests"], "--out tests is a folder; give a file"),
        (["--device", "abacus"], "--device abacus is no device"),
        (["--method", "nmf"], "unrecognized arguments: --method nmf"),
    ],
)
def test_wrong_options_are_one_sentence(options: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["benchmark", "speed", *options])
    assert stop.value.code == 2
    told = capsys.readouterr()
    assert sentence in told.err
    assert told.out == ""


def test_the_papers_networks_in_both_forms() -> None:
    """On the meta device: nothing is computed. The last two rungs need a third plane, which the published form has not."""
    with torch.device("meta"):
        plain, local = speed.paper_networks(False), speed.paper_networks(True)
    for role, published in (*zip(plain, (127.4, 38.7), strict=True), *zip(local, (127.4, 38.7), strict=True)):
        sizes = [sum(p.numel() for p in of[role].parameters()) / 1e6 for of in (plain, local)]
        assert sizes == pytest.approx([published] * 2, abs=0.1)
        assert not plain[role].local
        assert local[role].local


def test_execution_options_change_results_by_rounding_only() -> None:
    x = 0.05 * torch.randn(1, 2, SAMPLES, generator=torch.Generator().manual_seed(0))
    observation = speed._observation((SPEAKER, NOISE), SAMPLES, None)
    plain, half, last = (
        JointPrior(tiny_networks(True), guidance=0.5, bf16=bf16, channels_last=last)
        for bf16, last in ((False, False), (True, False), (False, True))
    )
    for joint in (plain, half, last):
        for prior in joint.priors.values():  # heads start near zero, which would leave nothing to round
            assert isinstance(prior, EDMPrior)
            prior.network.output.weight.data.mul_(1e5)
            for head in prior.network.head:
                head.weight.data.mul_(1e5)  # type: ignore[union-attr, operator]
    with torch.no_grad():
        wanted, rounded, same = (joint.bind(observation).denoise(x, 0.05) for joint in (plain, half, last))
    assert rounded.dtype == torch.float32
    half_error, last_error = ((found - wanted).norm() / wanted.norm() for found in (rounded, same))
    assert last_error < 0.1 * half_error
    assert 1e-5 < half_error < 0.05
    stem = last.priors[SPEAKER].network.stem.weight  # type: ignore[union-attr]
    assert stem.is_contiguous(memory_format=torch.channels_last)


def test_compiled_networks_keep_their_names_and_are_called(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def stand_in(function: Any, mode: str) -> Any:
        def compiled(*given: Any) -> Any:
            calls.append(mode)
            return function(*given)

        return compiled

    monkeypatch.setattr(torch, "compile", stand_in)
    joint = JointPrior(tiny_networks(True), guidance=0.0, compiled=True)
    assert joint.state_dict().keys() == JointPrior(tiny_networks(True)).state_dict().keys()
    with torch.no_grad():
        joint.bind(speed._observation((SPEAKER, NOISE), SAMPLES, None)).denoise(torch.zeros(1, 2, SAMPLES), 1.0)
    assert calls == ["reduce-overhead"] * 2


@pytest.mark.slow
def test_compiled_networks_agree() -> None:
    observation = speed._observation((SPEAKER, NOISE), SAMPLES, None)
    x = 0.05 * torch.randn(1, 2, SAMPLES, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted, found = (
            JointPrior(tiny_networks(True), guidance=0.5, compiled=compiled).bind(observation).denoise(x, 0.05)
            for compiled in (False, True)
        )
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6)
