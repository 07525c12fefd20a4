"""The table of results that everything else is made of: one figure of one source of one clip a row."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

from avdiff.files import whole


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


def write_csv(path: Path, rows: Sequence[Any]) -> None:
    """Write dataclasses of one kind, a line each, there whole or not at all.

    Raises:
        ValueError: there are none.
    """
    if not rows:
        raise ValueError(f"nothing was given to write to {path}")
    with whole(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(field.name for field in fields(rows[0]))
        table.writerows([f"{v:.6g}" if isinstance(v, float) else v for v in astuple(row)] for row in rows)


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
        mixture=float(line["mixture"]),
        estimate=float(line["estimate"]),
        reason=line["reason"],
        model=line["model"],
        weight=float(line["weight"]),
        permuted=line["permuted"] == "True",
    )
