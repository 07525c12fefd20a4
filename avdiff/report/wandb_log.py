"""Tables of results in W&B, online or offline."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import astuple, fields
from pathlib import Path
from typing import Any

from avdiff.extras import lazy
from avdiff.metrics.summary import Mean, titled

wandb = lazy("wandb")


def log_means(project: str, method: str, settings: Sequence[str], means: Sequence[Mean], rows: Path) -> None:
    """One run: settings as its configuration, means as its summary, all rows as an artifact.

    Means are called `speakers1/speaker/si_sdr`, or `speakers1/speaker/wer (MODEL)` where a network was asked.

    Args:
        project: in W&B.
        method: its name.
        settings: that differ, as name=value.
        means: of the benchmark.
        rows: the CSV file.
    """
    config = {"method": method, **dict(setting.split("=", 1) for setting in settings)}
    with wandb.init(project=project, job_type="benchmark", config=config) as run:
        for mean in means:
            name = f"{mean.condition}/{mean.role}/{titled(mean.metric, mean.model)}"
            run.summary[name] = mean.estimate
            run.summary[f"{name}_improvement"] = mean.improvement
        run.log({"means": _table(means)})
        _artifact(run, f"{method}-rows", [rows])


def log_tables(project: str, name: str, config: str, tables: Mapping[str, Sequence[Any]], page: Path) -> None:
    """One run for a benchmark file: every table, the page, and the file itself as configuration.

    Args:
        project: in W&B.
        name: of the benchmark file.
        config: its content.
        tables: dataclasses by name.
        page: the HTML page, whose folder has the CSV files.
    """
    with wandb.init(project=project, name=name, job_type="benchmark", config={"study": config}) as run:
        run.log({table: _table(lines) for table, lines in tables.items() if lines})
        run.log({"page": wandb.Html(page.read_text(encoding="utf-8"))})
        _artifact(run, f"{name}-tables", sorted(page.parent.glob("*.csv")))


def _table(lines: Sequence[Any]) -> Any:
    columns: list[str | int] = [field.name for field in fields(lines[0])]
    return wandb.Table(columns=columns, data=[list(astuple(line)) for line in lines])


def _artifact(run: Any, name: str, files: Sequence[Path]) -> None:
    artifact = wandb.Artifact(re.sub(r"[^\w.-]", "_", name, flags=re.ASCII), type="results")
    for file in files:
        artifact.add_file(str(file))
    run.log_artifact(artifact)
