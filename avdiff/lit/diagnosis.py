"""What a prior's denoiser is worth at every noise level, and what lips add to it, in one table."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

import lightning.pytorch as pl
from lightning.pytorch.trainer.states import TrainerFn
from rich.console import Console
from rich.table import Table

from avdiff.lit.score import GAIN_NOISE, GAINS, LEVELS

#: what validation logs after the name of a noise level, and the table's column for it
_COLUMNS = {
    "_wiener": "Wiener",
    "_no_lips": "no lips",
    "": "denoiser",
    "_other_lips": "another's lips",
    "_frozen_lips": "a frozen frame",
    "_late_lips": "lips 0.2 s late",
}


class Diagnosis(pl.Callback):
    """Prints the denoiser's error by noise level after `avdiff validate`, and leaves it as diagnosis.csv.

    Errors are in dB relative to the signal's power, noise levels in units of the signal's standard deviation. The Wiener
    filter knows the long-term spectrum of the data. What lips gain is the error without them less the error with the right
    ones.
    """

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.state.fn != TrainerFn.VALIDATING or not trainer.is_global_zero:
            return
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        rows = diagnosis(metrics)
        table = Table(*rows[0], box=None, title="Error, dB", title_justify="left")
        for row in rows:
            table.add_row(
                *(
                    f"{value:+.2f}" if name == "lips gain" else f"{value:g}" if name == "noise" else f"{value:.2f}"
                    for name, value in row.items()
                )
            )
        console = Console(width=max(100, Console().width))
        console.print(table)
        gains = "; ".join(f"{gain:+d} dB: {metrics[f'val/error_db_gain_{gain}']:.2f}" for gain in GAINS)
        console.print(f"At noise {GAIN_NOISE:g}, by the level of the clips relative to the prior's data: {gains}")
        file = Path(trainer.default_root_dir, "diagnosis.csv")
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("w", newline="", encoding="utf-8") as out:
            lines = csv.DictWriter(out, list(rows[0]))
            lines.writeheader()
            lines.writerows({name: f"{value:.4g}" for name, value in row.items()} for row in rows)


def diagnosis(metrics: Mapping[str, float]) -> list[dict[str, float]]:
    """One row a noise level from what validation logged: column -> value, columns of a prior without lips left out.

    Args:
        metrics: by the names that `ScoreModel.validation_step` gives them.
    """
    rows = []
    for level in LEVELS:
        errors = {title: metrics.get(f"val/error_db_sigma_{level}{key}") for key, title in _COLUMNS.items()}
        row = {"noise": level} | {title: value for title, value in errors.items() if value is not None}
        if (gain := metrics.get(f"val/lips_gain_db_sigma_{level}")) is not None:
            row["lips gain"] = gain
        rows.append(row)
    return rows
