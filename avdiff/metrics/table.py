"""The table of results that everything else is made of: one figure of one source of one clip a row."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

from avdiff.files import whole

NO_MIXTURE = "the list gives no mixture"  # the reason of rows that have an estimate's value and none to hold it against


@dataclass(frozen=True)
class Score:
    """One figure of one source.

    Attributes:
        source: its name (speaker1, ..., offscreen, noise).
        metric: its name.
        mixture: value of the unprocessed mixture, NaN where there is none.
        estimate: value of the estimate, NaN where there is none.
        reason: why a value is NaN; empty otherwise.
        model: the network or recogniser that was asked; empty for a formula.
        weight: of the row in a mean: 1, or the words of its reference for word errors.
        permuted: the estimate was taken from the order of off-screen talkers that fits best.
    """

    source: str
    metric: str
    mixture: float
    estimate: float
    reason: str = ""
    model: str = ""
    weight: float = 1.0
    permuted: bool = False


@dataclass(frozen=True)
class _OfClip:
    condition: str
    clip: str


@dataclass(frozen=True)
class Row(Score, _OfClip):
    """One figure of one source of one clip: its condition of the benchmark and its id, then the `Score`."""

    @property
    def role(self) -> str:
        """Of the source."""
        return self.source.rstrip("0123456789")


def figure(value: float, form: str = ".2f") -> str:
    """A number for a table, a dash for none."""
    return format(value, form) if math.isfinite(value) else "–"


def gain(improvement: float, error: float) -> str:
    """An improvement with its standard error, where there is one; a dash for none."""
    return f"{figure(improvement, '+.2f')} ± {error:.2f}" if math.isfinite(error) else figure(improvement, "+.2f")


def markdown_row(cells: Sequence[str]) -> str:
    """A line of a Markdown table; what people named is kept within its cell."""
    return f"| {' | '.join(' '.join(cell.split()).replace('|', chr(92) + '|') for cell in cells)} |"


def write_csv(path: Path, rows: Sequence[Any], without: Sequence[str] = ()) -> None:
    """Write dataclasses of one kind, a line each, there whole or not at all.

    Args:
        path: the file.
        rows: what is written.
        without: fields that are left out.

    Raises:
        ValueError: there are none.
    """
    if not rows:
        raise ValueError(f"nothing was given to write to {path}")
    with whole(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        names = [field.name for field in fields(rows[0])]
        kept = [place for place, name in enumerate(names) if name not in without]
        table.writerow(names[place] for place in kept)
        for row in rows:
            values = astuple(row)
            table.writerow([f"{v:.6g}" if isinstance(v, float) else v for v in (values[place] for place in kept)])


def read_rows(path: Path) -> list[Row]:
    """The rows of a file that `write_csv` wrote."""
    with path.open(newline="", encoding="utf-8") as file:
        return [_row(line) for line in csv.DictReader(file)]


def _row(line: dict[str, str]) -> Row:
    return Row(
        condition=line["condition"],
        clip=line["clip"],
        source=line["source"],
        metric=line["metric"],
        mixture=float(line.get("mixture", math.nan)),
        estimate=float(line["estimate"]),
        reason=line["reason"],
        model=line["model"],
        weight=float(line["weight"]),
        permuted=line["permuted"] == "True",
    )
