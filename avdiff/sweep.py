"""A sweep in W&B's own format, without W&B: the same grid by the same command."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from avdiff.errors import UserError
from avdiff.metrics.summary import titled

MACRO = "${args_no_hyphens}"  # W&B puts the point's parameters there, as name=value


@dataclass(frozen=True)
class Sweep:
    """A grid of settings of one method.

    Attributes:
        command: of `avdiff`, before the settings.
        parameters: values of each setting.
    """

    command: Sequence[str]
    parameters: Mapping[str, Sequence[Any]]

    def points(self) -> Iterator[tuple[str, ...]]:
        """Every combination, as name=value, in the order of the file."""
        for values in product(*self.parameters.values()):
            yield tuple(f"{name}={value}" for name, value in zip(self.parameters, values, strict=True))

    def arguments(self, point: Sequence[str]) -> list[str]:
        """Of `avdiff`, for one point; nothing is logged in W&B."""
        plain = [
            part for i, part in enumerate(self.command) if "--wandb" not in (part, self.command[i - 1] if i else "")
        ]
        return [*plain, *point]


def read_sweep(file: Path) -> Sweep:
    """Read a sweep file.

    Raises:
        UserError: it is no grid over settings of `avdiff benchmark`.
    """
    told = yaml.safe_load(file.read_text(encoding="utf-8"))
    command = [str(part) for part in told.get("command", ())]
    if "avdiff" not in command or command[-2:] != ["--set", MACRO] or told.get("method") != "grid":
        raise UserError(
            f"{file} is no sweep of avdiff: expected method: grid, and a command that ends in --set {MACRO}"
        )
    values = {name: of["values"] if "values" in of else [of["value"]] for name, of in told["parameters"].items()}
    return Sweep(command[command.index("avdiff") + 1 : -1], values)


def point_name(settings: Sequence[str]) -> str:
    """A short name of settings, the same in whatever order they are given."""
    return hashlib.blake2b("\n".join(sorted(settings)).encode(), digest_size=4).hexdigest()


def write_sweep_table(sweep: Sweep, out: Path) -> Path:
    """One Markdown line a point: its settings and the improvement of every condition, role, metric and model.

    Returns:
        `<out>/sweep.md`.
    """
    heads: dict[str, None] = {}
    lines: list[tuple[tuple[str, ...], dict[str, str]]] = []
    for point in sweep.points():
        [file] = out.glob(f"*_{point_name(point)}_summary.csv")
        with file.open(newline="", encoding="utf-8") as text:
            cells = {
                f"{row['condition']} {row['role']} {titled(row['metric'], row['model'])}": (
                    f"{float(row['improvement']):+.2f} ± {float(row['error']):.2f}"
                )
                for row in csv.DictReader(text)
            }
        heads |= dict.fromkeys(cells)
        lines.append((tuple(setting.split("=", 1)[1] for setting in point), cells))
    settings = [name.rsplit(".", 1)[-1] for name in sweep.parameters]
    table = [f"| {' | '.join([*settings, *heads])} |", "|" + "---|" * (len(settings) + len(heads))]
    table += [f"| {' | '.join([*values, *(cells.get(head, '–') for head in heads)])} |" for values, cells in lines]
    path = out / "sweep.md"
    path.write_text("\n".join(table) + "\n", encoding="utf-8")
    return path
