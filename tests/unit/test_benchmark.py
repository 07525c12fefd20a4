"""From estimates to tables: what is scored, how it is averaged, what is not done twice."""

from __future__ import annotations

import csv
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import avdiff.benchmark as benchmark
import avdiff.evaluation as evaluation
from avdiff.benchmark import run_benchmark
from avdiff.errors import UserError
from avdiff.evaluation import SCORES, Scoring
from avdiff.lit.store import SeparationStore
from avdiff.metrics.evaluate import choose_metrics
from avdiff.metrics.summary import summarise
from avdiff.metrics.table import Row
from avdiff.rng import ClipNoise
from avdiff.samplers.base import Callback
from avdiff.separators.base import Separator
from avdiff.types import NOISE, SPEAKER, ClipInfo, Observation, Separation
from datamodules.mixtures import Entry, Mixture, MixtureList, Mixtures, ToyMixtures, WrongLips

SI_SDR = Scoring(choose_metrics(["si_sdr"]))


class Halves(Separator):
    """Equal shares of the mixture."""

    visual_input = "none"

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(1.0))
        self.separated: list[str] = []

    def separate(self, observation: Observation, *, rng: ClipNoise, callback: Callback | None = None) -> Separation:
        self.separated += observation.key
        count = len(observation.layout)
        sources = observation.mixture[:, None].repeat(1, count, 1) / count
        info = {"evaluations": 7, "seconds": 3.0}
        return Separation(observation.key, observation.layout, sources, info)


def run(
    out: Path, separator: Separator, clips: int = 3, settings: str = "halves", list_seed: int = 0
) -> benchmark.Results:
    mixtures = ToyMixtures(clips, seed=list_seed)
    results = run_benchmark(
        "halves",
        separator,
        Mixtures(mixtures, 2),
        mixtures,
        out,
        settings=settings,
        scoring=SI_SDR,
        accelerator="cpu",
    )
    assert results is not None
    return results


def test_tables(tmp_path: Path) -> None:
    results = run(tmp_path, Halves())
    with (tmp_path / "halves.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[:6] == ["condition", "clip", "source", "metric", "mixture", "estimate"]
    assert [(row["clip"], row["source"]) for row in rows] == [
        *(("toy/000", name) for name in ("offscreen", "noise")),
        ("toy/001", "noise"),
        *(("toy/002", name) for name in ("offscreen", "noise")),
    ]
    # SI-SDR does not see the factor of a half: nothing is gained
    assert [float(row["estimate"]) for row in rows] == pytest.approx([float(row["mixture"]) for row in rows], abs=1e-3)
    assert (tmp_path / "halves_summary.csv").exists()
    assert "| toy | offscreen | si_sdr | 2 | 0 |" in results.summary.read_text()
    [cost] = results.costs
    assert (cost.clips, cost.evaluations) == (3, 7)
    assert cost.seconds == pytest.approx((1.5 + 3 + 1.5) / 3), "a batch's seconds are shared by its clips"
    assert 2**20 < cost.memory < 2**40


def test_goes_on_and_adds_clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tmp_path, Halves(), clips=2)
    scored = []
    score = evaluation.score
    monkeypatch.setattr(evaluation, "score", lambda *given, **named: scored.append(1) or score(*given, **named))
    separator = Halves()
    results = run(tmp_path, separator, clips=3)
    assert separator.separated == ["toy/002"]
    assert len(scored) == 1
    assert {row.clip for row in results.rows} == {"toy/000", "toy/001", "toy/002"}


def test_clips_of_other_settings_or_weights_are_refused(tmp_path: Path) -> None:
    run(tmp_path, Halves())
    with pytest.raises(UserError, match="other settings or weights"):
        run(tmp_path, Halves(), settings="thirds")
    trained = Halves()
    trained.weight.data.fill_(2.0)
    with pytest.raises(UserError, match="other settings or weights"):
        run(tmp_path, trained)


def test_clips_of_other_mixtures_are_refused(tmp_path: Path) -> None:
    run(tmp_path, Halves())
    with pytest.raises(UserError, match=r"the list was changed: toy/000 in .*halves"):
        run(tmp_path, Halves(), list_seed=1)


def test_what_says_whose_clips_a_folder_holds_is_written_once(tmp_path: Path) -> None:
    """Every process of a run claims its folder, and must never read what another is still writing."""
    run(tmp_path, Halves())
    (file,) = tmp_path.rglob("settings.yaml")
    before = file.stat().st_mtime_ns, file.stat().st_ino
    run(tmp_path, Halves())
    assert (file.stat().st_mtime_ns, file.stat().st_ino) == before
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_clip_separated_anew_is_scored_anew(tmp_path: Path) -> None:
    run(tmp_path, Halves())
    store = SeparationStore(tmp_path / "halves")
    store.write(store.read("toy/000"))
    assert not (store.path("toy/000") / SCORES).exists()


def test_means_leave_out_and_count_what_has_no_value() -> None:
    rows = [
        Row("c", "a", "speaker1", "pesq", 1.0, 2.0),
        Row("c", "a", "speaker2", "pesq", 1.0, 4.0),
        Row("c", "b", "speaker1", "pesq", 1.0, math.nan),
        Row("c", "a", "noise", "si_sdr", math.nan, 1.0),
    ]
    speakers, noise = summarise(rows)
    assert (speakers.role, speakers.sources, speakers.undefined) == ("speaker", 2, 1)
    assert (speakers.mixture, speakers.estimate, speakers.improvement, speakers.error) == (1.0, 3.0, 2.0, 1.0)
    assert (noise.sources, noise.undefined) == (0, 1)
    assert math.isnan(noise.improvement)


class OneLost(Halves):
    """Cannot do the last clip."""

    def separate(self, observation: Observation, *, rng: ClipNoise, callback: Callback | None = None) -> Separation:
        result = super().separate(observation, rng=rng)
        lost = [key == "toy/002" for key in observation.key]
        result.sources[torch.tensor(lost)] = torch.nan
        told = tuple(ClipInfo(failure="it went astray" if this else None) for this in lost)
        return replace(result, clips=told)


def test_a_clip_that_was_given_up_is_a_row_without_a_value_and_with_the_reason(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="toy/002 was given up: it went astray"):
        results = run(tmp_path, OneLost())
    lost = [row for row in results.rows if row.clip == "toy/002"]
    assert [row.source for row in lost] == ["offscreen", "noise"]
    for row in lost:
        assert math.isfinite(row.mixture)
        assert math.isnan(row.estimate)
        assert row.reason == "not separated: it went astray"
    assert all(math.isfinite(row.estimate) for row in results.rows if row.clip != "toy/002")
    assert {(mean.role, mean.sources, mean.undefined) for mean in results.means} == {
        ("offscreen", 1, 1),
        ("noise", 2, 1),
    }
    assert "- toy/002: not separated: it went astray" in results.summary.read_text()
    assert results.costs[0].clips == 3
    again = OneLost()
    run(tmp_path, again)
    assert again.separated == [], "it would fail again"


class Pairs(MixtureList):
    """Two visible talkers who say white noise, with lips that tell their number."""

    def entries(self) -> list[Entry]:
        return [Entry(f"pair/{i}", (SPEAKER, SPEAKER, NOISE)) for i in range(4)]

    def __getitem__(self, index: int) -> Mixture:
        sources = torch.randn(3, 1600, generator=torch.Generator().manual_seed(index))
        mouth = torch.arange(2, dtype=torch.uint8)[:, None, None, None].expand(2, 3, 4, 4)
        return Mixture(f"pair/{index}", "pairs", (SPEAKER, SPEAKER, NOISE), sources, sources.sum(0), mouth)


class Readers(Separator):
    """Gives each face the source that its lips name."""

    visual_input = "mouth"

    def separate(self, observation: Observation, *, rng: ClipNoise, callback: Callback | None = None) -> Separation:
        assert observation.visual is not None
        sources = torch.stack([Pairs()[int(key[-1])].sources for key in observation.key])
        said = observation.visual[:, :, 0, 0, 0].long()
        sources = torch.cat([torch.stack([x[k] for x, k in zip(sources, said, strict=True)]), sources[:, 2:]], 1)
        return Separation(observation.key, observation.layout, sources, {"evaluations": 1, "seconds": 1.0})


def test_swapped_lips_swap_the_voices_and_the_best_order_tells(tmp_path: Path) -> None:
    tables = {}
    for name, pairs in {"right": Pairs(), "wrong": WrongLips(Pairs(), "swapped")}.items():
        results = run_benchmark(
            name, Readers(), Mixtures(pairs), pairs, tmp_path, settings="", scoring=SI_SDR, accelerator="cpu"
        )
        assert results is not None
        tables[name] = {(mean.role, mean.metric): mean.estimate for mean in results.means}
        assert benchmark.swapped(results.rows) == {"pairs": (4 if name == "wrong" else 0, 4)}
    assert tables["right"]["speaker", "si_sdr"] > 50
    assert tables["wrong"]["speaker", "si_sdr"] < 0
    assert tables["wrong"]["speaker", "si_sdr_pit"] == pytest.approx(tables["right"]["speaker", "si_sdr_pit"])
    assert "- pairs: 4 of 4" in (tmp_path / "wrong.md").read_text()
