"""What a W&B project shows: a workspace and a report by the one description in experiments/wandb.yaml."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from avdiff.errors import UserError
from avdiff.extras import lazy

wandb = lazy("wandb")
workspaces = lazy("wandb_workspaces.workspaces")
reports = lazy("wandb_workspaces.reports.v2")

LOGIN = "log in with `wandb login`, or write the definition to files with --json FOLDER"


def read_layout() -> dict[str, Any]:
    """The description: title, text and sections of panels."""
    file = Path(str(resources.files("experiments") / "wandb.yaml"))
    return yaml.safe_load(file.read_text(encoding="utf-8"))


def connect(entity: str | None) -> str:
    """The entity, by default that of whoever is logged in.

    Raises:
        UserError: W&B is switched off here, nobody is logged in, or it cannot be reached.
    """
    if (mode := os.environ.get("WANDB_MODE", "online")) != "online":
        raise UserError(f"WANDB_MODE is {mode} and a workspace lives on W&B's server: unset it and {LOGIN}")
    try:
        found = entity or wandb.Api().default_entity
    except wandb.errors.Error as error:
        raise UserError(f"W&B cannot be reached ({str(error).splitlines()[0].rstrip('.')}); {LOGIN}") from error
    if not found:
        raise UserError("W&B names no entity of yours; give the user or team as --entity NAME")
    return str(found)


def make_workspace(layout: Mapping[str, Any], entity: str, project: str) -> Any:
    """The workspace, not sent yet (`wandb_workspaces.workspaces.Workspace`)."""
    sections = [
        workspaces.Section(name=of["name"], panels=[_panel(panel) for panel in of["panels"]], is_open=index == 0)
        for index, of in enumerate(layout["sections"])
    ]
    return workspaces.Workspace(entity=entity, project=project, name=layout["title"], sections=sections)


def make_report(layout: Mapping[str, Any], entity: str, project: str) -> Any:
    """The report, not sent yet (`wandb_workspaces.reports.v2.Report`)."""
    blocks = list[Any]()
    for of in layout["sections"]:
        blocks += [reports.H2(of["name"]), *([reports.P(of["text"])] if "text" in of else [])]
        runs = reports.Runset(entity=entity, project=project)
        blocks.append(reports.PanelGrid(runsets=[runs], panels=[_panel(panel) for panel in of["panels"]]))
    return reports.Report(
        entity=entity, project=project, title=layout["title"], description=layout["text"], blocks=blocks, width="fluid"
    )


def apply_layout(entity: str | None, project: str) -> Sequence[str]:
    """Save both to W&B, as a new view and a new report.

    Returns:
        Their addresses.

    Raises:
        UserError: as `connect`.
    """
    whose, layout = connect(entity), read_layout()
    try:
        # the report first: it makes the project where there is none yet
        saved = make_report(layout, whose, project).save(), make_workspace(layout, whose, project).save()
    except (wandb.errors.Error, OSError) as error:
        raise UserError(f"W&B did not take the layout for {whose}/{project} ({str(error).splitlines()[0]})") from error
    return [one.url for one in saved]


def write_layout(entity: str, project: str, folder: Path) -> Path:
    """The workspace's specification as JSON in W&B's own terms, without a server."""
    view = make_workspace(read_layout(), entity, project)._to_model()
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "workspace.json"
    file.write_text(view.spec.model_dump_json(by_alias=True, exclude_none=True, indent=1) + "\n", encoding="utf-8")
    return file


def _panel(told: Mapping[str, Any]) -> Any:
    makers: dict[str, Callable[[str, Any], Any]] = {
        "lines": lambda title, names: reports.LinePlot(title=title, y=list(names)),
        "pattern": lambda title, names: reports.LinePlot(title=title, metric_regex=names),
        "media": lambda title, names: reports.MediaBrowser(title=title, media_keys=list(names)),
        "table": lambda _, name: reports.WeavePanelSummaryTable(table_name=name),
        "compare": lambda *_: reports.RunComparer(),
    }
    kinds = [kind for kind in told if kind != "title"]
    if len(kinds) != 1 or kinds[0] not in makers:
        raise ValueError(f"the panel {told['title']!r} has {kinds}; give it one of {', '.join(makers)}")
    return makers[kinds[0]](told["title"], told[kinds[0]])
