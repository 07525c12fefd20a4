"""Means, their intervals, and tests between methods, held against what is known in closed form."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from avdiff.metrics.summary import compare, interval, summarise
from avdiff.metrics.table import Row, read_rows, write_csv


def rows(estimates: list[float], metric: str = "si_sdr") -> list[Row]:
    return [Row("c", f"clip{i:03d}", "speaker1", metric, 0.0, value) for i, value in enumerate(estimates)]


def test_interval_of_a_mean_is_that_of_a_normal() -> None:
    values = np.random.default_rng(1).normal(5.0, 2.0, 400)
    low, high = interval(values, np.ones(400), [f"{i}" for i in range(400)])
    half = 1.96 * values.std() / 20
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.03)


def test_sources_of_one_mixture_are_drawn_together() -> None:
    """Two hundred copies of the sources of ten mixtures tell no more than the ten do."""
    values = np.random.default_rng(1).normal(size=10)
    few = interval(values, np.ones(10), [f"{i}" for i in range(10)])
    many = interval(np.tile(values, 20), np.ones(200), [f"{i}" for i in range(10)] * 20)
    assert many == pytest.approx(few, rel=1e-6)
    assert all(map(math.isnan, interval(values, np.ones(10), ["one"] * 10)))


def test_word_errors_are_those_of_the_corpus() -> None:
    """One error in a sentence of one word and none in one of three: a quarter. No word at all is counted apart."""
    table = [
        Row("c", "a", "speaker1", "wer", 1.0, 1.0, model="m", weight=1),
        Row("c", "b", "speaker1", "wer", 1.0, 0.0, model="m", weight=3),
        Row("c", "d", "speaker1", "wer", 1.0, 1.0, model="m", weight=0),
        Row("c", "a", "speaker1", "wer", 1.0, 0.5, model="another"),
    ]
    mean, other = summarise(table)
    assert (mean.estimate, mean.mixture, mean.sources, mean.undefined, mean.model) == (0.25, 1.0, 2, 1, "m")
    assert (other.estimate, other.model) == (0.5, "another")


def test_a_better_method_is_told_from_an_equal_one() -> None:
    rng = np.random.default_rng(0)
    base = rng.normal(size=40)
    tables = {
        "a": rows((base + 0.5 + 0.2 * rng.normal(size=40)).tolist()),
        "b": rows(base.tolist()),
        "c": rows(base.tolist()),
    }
    better, also, same = compare(tables)
    assert (better.method, better.other, better.mixtures) == ("a", "b", 40)
    assert better.low < 0.5 < better.high
    assert better.p_holm == pytest.approx(3 * better.p)
    assert better.p_holm < 1e-4
    assert also.p_holm == pytest.approx(3 * better.p), "Holm's values never fall"
    assert (same.difference, same.p, same.p_holm) == (0.0, 1.0, 1.0)


def test_only_mixtures_that_both_have_are_compared() -> None:
    [found] = compare({"a": rows([1.0, 2.0, math.nan, 4.0]), "b": rows([0.0, 0.0, 0.0])})
    assert (found.mixtures, found.difference) == (2, 1.5)
    assert compare({"a": rows([1.0, 2.0]), "b": rows([1.0, 2.0], metric="pesq")}) == []


def test_rows_come_back_from_their_file(tmp_path: Path) -> None:
    table = [
        Row("c", "a/b", "offscreen2", "wer", 0.5, 0.25, "", "some/model", 7.0, True),
        Row("c", "a/b", "noise", "si_sdr", math.nan, 1.0, "the reference is silent, or so"),
    ]
    write_csv(tmp_path / "rows.csv", table)
    back = read_rows(tmp_path / "rows.csv")
    assert back[0] == table[0]
    assert back[0].role == "offscreen"
    assert math.isnan(back[1].mixture)
    assert back[1].reason == table[1].reason
