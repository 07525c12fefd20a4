"""A sweep in W&B's own format, without W&B: the same grid by the same command."""

from __future__ import annotations

import csv
import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field

from avdiff.errors import UserError
from avdiff.files import whole
from avdiff.metrics.si_sdr import CONVENTION
from avdiff.metrics.summary import titled
from avdiff.metrics.table import gain, markdown_row
from avdiff.schema import ONLY, Label, Text, checked, read_yaml

MOST_POINTS = 10_000
MACRO = "${args_no_hyphens}"  # W&B puts the point's parameters there, as name=value
Value = (
    Annotated[bool, Field(strict=True)]
    | Annotated[int, Field(strict=True)]
    | Annotated[float, Field(strict=True, allow_inf_nan=False)]
    | Text
    | None
)


@dataclass(frozen=True)
class _Parameter:
    """Of a sweep file: what a setting takes in turn."""

    __pydantic_config__: ClassVar = ONLY

    values: Annotated[list[Value], Field(min_length=1)] | None = None
    value: Value = None


@dataclass(frozen=True)
class _File:
    """A sweep file as W&B has it; what only its server uses may say anything."""

    __pydantic_config__: ClassVar = ONLY

    method: Text
    command: Annotated[list[Value], Field(min_length=1)]
    parameters: Annotated[dict[Label, _Parameter], Field(min_length=1)]
    program: Any = None
    name: Any = None
    description: Any = None
    project: Any = None
    entity: Any = None
    metric: Any = None
    run_cap: Any = None
    early_terminate: Any = None


@dataclass(frozen=True)
class Sweep:
    """A grid of settings of one method.

    Attributes:
        command: of `avdiff`, before the settings.
        parameters: values of each setting.
    """

    command: Sequence[str]
    parameters: Mapping[str, Sequence[Any]]

    @property
    def method(self) -> str:
        """Whose settings they are."""
        return self.command[self.command.index("--method") + 1]

    def settings(self) -> Iterator[tuple[str, str]]:
        """Every value of every setting once, as `--set` reads them."""
        for name, values in self.parameters.items():
            yield from ((name, _written(value)) for value in values)

    def points(self) -> Iterator[tuple[str, ...]]:
        """Every combination, as name=value, in the order of the file."""
        for values in product(*self.parameters.values()):
            yield tuple(f"{name}={_written(value)}" for name, value in zip(self.parameters, values, strict=True))

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
    source = f"{file} is no sweep of avdiff"
    hint = "a grid has method: grid, a command, and parameters, each with values: [...] or value: ...; see experiments/sweeps"
    told = checked(_File, read_yaml(file, "sweep file"), source, hint)
    command = [str(part) for part in told.command]
    begins = command[command.index("avdiff") + 1 :][:1] if "avdiff" in command else []
    named = "--method" in command[:-3]
    if begins != ["benchmark"] or command[-2:] != ["--set", MACRO] or told.method != "grid" or not named:
        raise UserError(
            f"{source}: expected method: grid, and a command avdiff benchmark --method NAME ... that ends in --set {MACRO}"
        )
    if odd := [name for name, of in told.parameters.items() if (of.values is None) == (of.value is None)]:
        raise UserError(f"{source}: parameters.{odd[0]} has neither values nor value, or both; {hint}")
    values = {name: [of.value] if of.values is None else of.values for name, of in told.parameters.items()}
    if (count := math.prod(map(len, values.values()))) > MOST_POINTS:
        raise UserError(f"{source}: its grid has {count} points, and at most {MOST_POINTS} are run; give fewer values")
    return Sweep(command[command.index("avdiff") + 1 : -1], values)


def _written(value: Any) -> str:
    """A value as `--set` reads it."""
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)


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
        name = f"{Path(sweep.method).stem}*_{point_name(point)}_summary.csv"
        files = sorted(out.glob(name))
        if len(files) != 1:
            raise UserError(
                f"{out} has {len(files)} files {name}, and one was expected; give another folder for the results"
            )
        try:
            with files[0].open(newline="", encoding="utf-8") as text:
                cells = {
                    f"{row['condition']} {row['role']} {titled(row['metric'], row['model'])}": (
                        gain(float(row["improvement"]), float(row["error"]))
                    )
                    for row in csv.DictReader(text)
                }
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{files[0]} is damaged ({error}); remove it and run the sweep again") from error
        heads |= dict.fromkeys(cells)
        lines.append((tuple(setting.split("=", 1)[1] for setting in point), cells))
    settings = [name.rsplit(".", 1)[-1] for name in sweep.parameters]
    said = ["What every point gains over the mixtures, with its standard error.", CONVENTION, ""]
    table = [markdown_row([*settings, *heads]), "|" + "---|" * (len(settings) + len(heads))]
    table += [markdown_row([*values, *(cells.get(head, "–") for head in heads)]) for values, cells in lines]
    path = out / "sweep.md"
    with whole(path) as partial:
        partial.write_text("\n".join([*said, *table]) + "\n", encoding="utf-8")
    return path
