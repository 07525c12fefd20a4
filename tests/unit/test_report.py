"""The page holds everything, and the pictures share one scale."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import soundfile

from avdiff.report.figures import Panel, png, spectrograms
from avdiff.report.page import Player, Section, Table, metrics_table, write_page

RATE = 16_000


def tone(frequency: float, seconds: float = 0.5) -> np.ndarray:
    return np.sin(2 * np.pi * frequency * np.arange(round(seconds * RATE)) / RATE).astype(np.float32)


class Balanced(HTMLParser):
    """Remembers what is loaded, and that every tag is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def parsed(path: Path) -> Balanced:
    parser = Balanced()
    parser.feed(path.read_text(encoding="utf-8"))
    assert parser.open == []
    return parser


def test_the_page_is_whole_and_loads_nothing(tmp_path: Path) -> None:
    picture = png(
        spectrograms([[Panel("a", tone(1_000)), None], [Panel("b", tone(2_000)), Panel("c", tone(3_000))]], RATE)
    )
    section = Section(
        "One <b> & two",
        text=["x < y"],
        pictures=[picture],
        players=[[Player("mixture", 3 * tone(500)), Player("voice", tone(500), "quiet")]],
        tables=[Table(("file", "dB"), [("a.wav", "-3.0")])],
    )
    write_page(tmp_path / "page.html", "Title & more", [section], rate=RATE)
    page = parsed(tmp_path / "page.html")
    assert len(page.sources) == 3
    assert all(source.startswith("data:") for source in page.sources)
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "x &lt; y" in text
    assert "Title &amp; more" in text


def test_players_of_a_section_share_one_gain_and_do_not_clip(tmp_path: Path) -> None:
    players = [[Player("loud", 3 * tone(500)), Player("soft", tone(500))]]
    write_page(tmp_path / "page.html", "t", [Section("s", players=players)], rate=RATE)
    sounds = [
        soundfile.read(io.BytesIO(base64.b64decode(source.split(",")[1])))[0]
        for source in parsed(tmp_path / "page.html").sources
    ]
    peaks = [float(np.abs(sound).max()) for sound in sounds]
    assert peaks[0] == pytest.approx(0.99, abs=0.01)
    assert peaks[0] / peaks[1] == pytest.approx(3, rel=0.01)


def test_a_long_recording_does_not_make_a_huge_page(tmp_path: Path) -> None:
    long = np.random.default_rng(0).normal(0, 0.1, 120 * RATE).astype(np.float32)
    write_page(tmp_path / "page.html", "t", [Section("s", players=[[Player("p", long)]])], rate=RATE)
    assert (tmp_path / "page.html").stat().st_size < 0.5 * 2 * len(long)
    assert "audio/mpeg" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_the_table_of_scores_has_a_line_a_source() -> None:
    rows = [
        {"source": "speaker1", "metric": "SI-SDR", "mixture": -1.234, "estimate": 9.5},
        {"source": "speaker1", "metric": "PESQ", "mixture": 1.1, "estimate": 1.9},
        {"source": "noise", "metric": "SI-SDR", "mixture": 0.0, "estimate": float("nan")},
    ]
    table = metrics_table(rows)
    assert list(table.header) == ["source", "SI-SDR", "PESQ"]
    assert [list(row) for row in table.rows] == [
        ["speaker1", "-1.23 → 9.50", "1.10 → 1.90"],
        ["noise", "0.00 → –", "–"],
    ]


def test_spectrograms_share_one_scale_and_show_the_frequency_where_it_is() -> None:
    figure = spectrograms([[Panel("loud", tone(2_000)), Panel("soft", 0.01 * tone(2_000))]], RATE, decibels=70)
    images = [ax.images[0] for ax in figure.axes if ax.images]
    assert len({image.get_clim() for image in images}) == 1
    low, high = images[0].get_clim()
    assert high - low == pytest.approx(70)
    loud, soft = (np.asarray(image.get_array()) for image in images)
    assert loud.max() - soft.max() == pytest.approx(40, abs=0.5)
    row = int(loud.mean(1).argmax())
    assert row / (len(loud) - 1) * 8_000 == pytest.approx(2_000, abs=32)
    assert re.match(rb"\x89PNG", png(figure))


def test_an_hour_is_drawn_with_as_many_columns_as_are_seen() -> None:
    figure = spectrograms([[Panel("long", np.zeros(600 * RATE, np.float32)), Panel("short", tone(100))]], RATE)
    assert max(ax.images[0].get_array().shape[1] for ax in figure.axes if ax.images) < 2_000
