"""One HTML page that holds everything: text, tables, pictures and players. No other file, no network."""

from __future__ import annotations

import math
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from io import BytesIO
from pathlib import Path

import numpy as np
import soundfile

from avdiff.metrics.table import figure

LONGEST_WAV = 60  # seconds; beyond, players hold MP3, or the page of an hour would be half a gigabyte


@dataclass(frozen=True)
class Player:
    """A signal to listen to.

    Attributes:
        title: above it.
        samples: (n,) float.
        note: below it.
    """

    title: str
    samples: np.ndarray
    note: str = ""


@dataclass(frozen=True)
class Table:
    """Rows of text under a header; numbers are aligned to the right."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Section:
    """Part of a page; what it lacks is left out.

    Attributes:
        title: its heading.
        text: paragraphs.
        pictures: PNG or JPEG files.
        players: rows of players, side by side.
        tables: below the players.
    """

    title: str
    text: Sequence[str] = ()
    pictures: Sequence[bytes] = ()
    players: Sequence[Sequence[Player]] = ()
    tables: Sequence[Table] = ()


STYLE = """
:root { color-scheme: light dark; --line: color-mix(in srgb, currentColor 18%, transparent); }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin-bottom: .3rem; } h2 { font-size: 1.2rem; margin-top: 2.5rem; }
img { max-width: 100%; border-radius: 4px; background: white; }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .9rem .3rem 0; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
td.number, th.number { text-align: right; }
.players { display: grid; grid-template-columns: repeat(auto-fit, minmax(15rem, 1fr)); gap: .8rem; margin: .8rem 0; }
.player { border: 1px solid var(--line); border-radius: 6px; padding: .6rem .8rem; }
.player b { display: block; } .player small { opacity: .75; } audio { width: 100%; margin: .3rem 0; }
"""


def write_page(path: Path | str, title: str, sections: Sequence[Section], *, rate: int) -> None:
    """Write the page.

    Args:
        rate: Hz of every player. The players of one section share one gain, 1 unless one of them would clip.
    """
    body = "\n".join(_section(section, rate) for section in sections)
    page = (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{escape(title)}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{STYLE}</style>\n</head>\n<body>\n<h1>{escape(title)}</h1>\n{body}\n</body>\n</html>\n"
    )
    Path(path).write_text(page, encoding="utf-8")


def metrics_table(rows: Sequence[Mapping[str, object]]) -> Table:
    """Scores as people read them: a line a source, for every metric "mixture → estimate".

    Args:
        rows: each with source, metric, mixture and estimate, as in `metrics.csv`.
    """
    metrics = list(dict.fromkeys(str(row["metric"]) for row in rows))
    sources = list(dict.fromkeys(str(row["source"]) for row in rows))
    cells = {
        (row["source"], row["metric"]): f"{figure(_number(row['mixture']))} → {figure(_number(row['estimate']))}"
        for row in rows
    }
    return Table(("source", *metrics), [(s, *(cells.get((s, m), "–") for m in metrics)) for s in sources])


def _number(value: object) -> float:
    return value if isinstance(value, float) else math.nan


def _section(section: Section, rate: int) -> str:
    peak = max((float(np.abs(p.samples).max(initial=0)) for row in section.players for p in row), default=0.0)
    gain = min(1.0, 0.99 / peak) if peak else 1.0
    parts = [f"<h2>{escape(section.title)}</h2>", *(f"<p>{escape(text)}</p>" for text in section.text)]
    for picture in section.pictures:
        kind = "png" if picture.startswith(b"\x89PNG") else "jpeg"
        parts.append(f'<p><img alt="{escape(section.title)}" src="{_data(picture, f"image/{kind}")}"></p>')
    for row in section.players:
        parts.append('<div class="players">' + "".join(_player(p, rate, gain) for p in row) + "</div>")
    if gain < 1:
        parts.append(f"<p><small>Players are {-20 * np.log10(gain):.1f} dB down, so that none clips.</small></p>")
    parts += [_table(table) for table in section.tables]
    return "\n".join(parts)


def _player(player: Player, rate: int, gain: float) -> str:
    buffer = BytesIO()
    wav = len(player.samples) <= LONGEST_WAV * rate
    if wav:
        soundfile.write(buffer, gain * player.samples, rate, format="WAV", subtype="PCM_16")
    else:
        soundfile.write(buffer, gain * player.samples, rate, format="MP3")
    note = f"<small>{escape(player.note)}</small>" if player.note else ""
    source = _data(buffer.getvalue(), "audio/wav" if wav else "audio/mpeg")
    return f'<div class="player"><b>{escape(player.title)}</b><audio controls src="{source}"></audio>{note}</div>'


def _table(table: Table) -> str:
    def line(cells: Sequence[str], tag: str) -> str:
        kinds = [' class="number"' if _is_number(column) else "" for column in zip(*table.rows, strict=True)]
        inner = "".join(f"<{tag}{kind}>{escape(cell)}</{tag}>" for cell, kind in zip(cells, kinds, strict=True))
        return f"<tr>{inner}</tr>"

    return "<table>" + line(table.header, "th") + "".join(line(row, "td") for row in table.rows) + "</table>"


def _is_number(column: Sequence[str]) -> bool:
    return all(cell[:1].isdigit() or cell[:1] in "-–−" for cell in column)


def _data(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{b64encode(content).decode()}"
