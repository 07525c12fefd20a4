"""The page of a benchmark file: its table, distributions, and what the best, median and worst clip sound like."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from avdiff.evaluation import References, read_estimates
from avdiff.extras import lazy
from avdiff.metrics.si_sdr import CONVENTION
from avdiff.metrics.summary import titled
from avdiff.metrics.table import Row
from avdiff.report.figures import plain, png
from avdiff.report.page import Player, Section, Table, write_page
from avdiff.study import Cell, Line, Study, StudyResults, cell
from avdiff.types import NOISE, SAMPLE_RATE, source_names

if TYPE_CHECKING:
    from matplotlib.figure import Figure

figures = lazy("matplotlib.figure")

SHOWN = "si_sdr"  # by which clips are chosen, and talkers' distributions drawn


def write_study_page(study: Study, results: StudyResults, references: Callable[[str], References]) -> Path:
    """Write `<folder>/page.html`, one file with everything in it.

    Args:
        study: the file.
        results: what it left.
        references: the list of a name, whole.
    """
    said = [CONVENTION] if any(line.metric.startswith(SHOWN) for line in results.lines) else []
    sections = [Section(study.title, text=[*said, *study.notes])]
    for data in study.data:
        lines = [line for line in results.lines if line.data == data]
        for condition in dict.fromkeys(line.condition for line in lines):
            of = [line for line in lines if line.condition == condition]
            rows = {
                label: [row for row in results.rows.get((data, label), ()) if row.condition == condition]
                for label in study.methods
            }
            pictures = [png(figure)] if (figure := _distributions(rows)) is not None else []
            sections.append(Section(condition, pictures=pictures, tables=[_table(of)]))
            for label, found in rows.items():
                players = _players(study, results.folder, data, label, found, references(data))
                if players:
                    sections.append(Section(f"{condition}, {label}", players=players))
    page = results.folder / "page.html"
    write_page(page, study.title, sections, rate=SAMPLE_RATE)
    return page


def _table(lines: Sequence[Line]) -> Table:
    columns = list(dict.fromkeys((line.role, line.metric, line.model) for line in lines))
    cells = {(line.method, line.role, line.metric, line.model): line for line in lines}
    rows = []
    for method in dict.fromkeys(line.method for line in lines):
        found = [cells.get((method, *column)) for column in columns]
        rows.append([method, *map(cell, found)])
    return Table(["method", *(f"{role} {titled(metric, model)}" for role, metric, model in columns)], rows)


def _distributions(rows: dict[str, list[Row]]) -> Figure | None:
    """Boxes of what every method gains in SI-SDR, talkers and noise apart; None where there is nothing."""
    panels: dict[str, dict[str, list[float]]] = {}
    for label, of in rows.items():
        for row in of:
            if row.metric == SHOWN and math.isfinite(gain := row.estimate - row.mixture):
                title = "noise" if row.role == NOISE else "talkers"
                panels.setdefault(title, {}).setdefault(label, []).append(gain)
    if not panels:
        return None
    figure = figures.Figure(figsize=(9, 1.2 + 0.4 * max(map(len, panels.values()))), dpi=110, layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for ax, (title, gains) in zip(axes, panels.items(), strict=True):
        ax.boxplot(list(gains.values()), vert=False, flierprops={"markersize": 2})
        ax.set_yticks(range(1, len(gains) + 1), list(map(plain, gains)))
        ax.invert_yaxis()
        ax.axvline(0, color="grey", linewidth=0.7)
        ax.set_xlabel("gain in SI-SDR, dB")
        ax.set_title(title, fontsize=10, loc="left")
    return figure


def _players(
    study: Study, folder: Path, data: str, label: str, rows: Sequence[Row], references: References
) -> list[list[Player]]:
    """Mixture, estimate and clean signal of the first talker (or source) of the best, median and worst clip."""
    gains: dict[str, float] = {}
    for row in rows:
        if row.metric == SHOWN and math.isfinite(gain := row.estimate - row.mixture):
            gains.setdefault(row.clip, gain)
    if not gains:
        return []
    order = sorted(gains, key=lambda clip: gains[clip], reverse=True)
    chosen = {order[len(order) // 2]: "median", order[-1]: "worst", order[0]: "best"}  # fewer where clips are few
    places = {entry.key: i for i, entry in enumerate(references.entries())}
    estimates = Cell(data, label, study.methods[label], 0).folder(folder)
    found = []
    for clip in sorted(chosen, key=order.index):
        title = chosen[clip]
        reference = references[places[clip]]
        sources, _ = read_estimates(estimates, clip, reference.layout, len(reference.mixture))
        name = source_names(reference.layout)[0]
        note = f"{clip}, {name}: {gains[clip]:+.1f} dB"
        found.append(
            [
                Player(f"{title}: mixture", reference.mixture.numpy(), note),
                Player(f"{title}: estimate", np.nan_to_num(sources[0].numpy())),
                Player(f"{title}: clean", reference.sources[0].numpy()),
            ]
        )
    return found
