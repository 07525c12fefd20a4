"""From estimates to tables: what is scored, how it is averaged, what is not done twice."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest
import torch

import avdiff.benchmark as benchmark
from avdiff.benchmark import Row, run_benchmark, summarise
from avdiff.errors import UserError
from avdiff.lit.store import SeparationStore
from avdiff.rng import ClipNoise
from avdiff.samplers.base import Callback
from avdiff.separators.base import Separator
from avdiff.types import Observation, Separation
from datamodules.mixtures import Mixtures, ToyMixtures


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


def run(out: Path, separator: Separator, clips: int = 3, settings: str = "halves") -> benchmark.Results:
    mixtures = ToyMixtures(clips)
    results = run_benchmark(
        "halves",
        separator,
        Mixtures(mixtures, 2),
        mixtures,
        out,
        settings=settings,
        metrics=["si_sdr"],
        accelerator="cpu",
    )
    assert results is not None
    return results


def test_tables(tmp_path: Path) -> None:
    results = run(tmp_path, Halves())
    with (tmp_path / "halves.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["condition", "clip", "source", "metric", "mixture", "estimate"]
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


def test_goes_on_and_adds_clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tmp_path, Halves(), clips=2)
    scored = []
    score = benchmark.score
    monkeypatch.setattr(benchmark, "score", lambda *given, **named: scored.append(1) or score(*given, **named))
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


def test_a_clip_separated_anew_is_scored_anew(tmp_path: Path) -> None:
    run(tmp_path, Halves())
    store = SeparationStore(tmp_path / "halves")
    store.write(store.read("toy/000"))
    assert not (store.path("toy/000") / benchmark.SCORES).exists()


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
