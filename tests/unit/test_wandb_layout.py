"""The workspace and the report of a W&B project: what they show is logged somewhere, and nothing is sent without a login."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from avdiff.cli import main
from avdiff.lit.samples import DenoisedClips
from avdiff.report.wandb_layout import _panel, read_layout

ROOT = Path(__file__).parents[2] / "avdiff"


def shown(kind: str) -> set[str]:
    """All that panels of one kind name."""
    panels = [panel for section in read_layout()["sections"] for panel in section["panels"] if kind in panel]
    return {name for panel in panels for name in ([panel[kind]] if isinstance(panel[kind], str) else panel[kind])}


def test_what_is_shown_is_logged() -> None:
    code = "\n".join(file.read_text() for file in (ROOT / "lit").glob("*.py"))
    for metric in shown("lines"):
        assert f'"{metric}"' in code, metric
    logged = set(re.findall(r'f?"((?:train|val)/[^"]*)"', code)) | {"lr-AdamW"}
    for pattern in shown("pattern"):
        examples = [
            name.replace("{name}", "si_sdr").replace("{low}", "0.1").replace("{level}", "0.3") for name in logged
        ]
        examples += [f"val/error_db_sigma_{level}" for level in (0.1, 2)]
        assert any(re.search(pattern, name) for name in examples), pattern
    results = (ROOT / "report" / "wandb_log.py").read_text() + (ROOT / "commands.py").read_text()
    for name in shown("table") | (shown("media") - {name for name in shown("media") if name.startswith("samples/")}):
        assert f'"{name}"' in results, name
    clips = DenoisedClips()
    made = {f"samples/clip{k}_noise{level}_denoised" for k in range(clips.clips) for level in clips.levels}
    assert shown("media") - {"page"} == {"samples/spectrograms", *made}


def test_both_are_saved_by_one_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from wandb_workspaces.reports import v2
    from wandb_workspaces.workspaces import Workspace

    saved: list[Any] = []

    def save(self: Any) -> SimpleNamespace:
        saved.append(self)
        return SimpleNamespace(url=f"https://w.b/{type(self).__name__}")

    monkeypatch.setattr("avdiff.report.wandb_layout.connect", lambda entity: entity or "me")
    monkeypatch.setattr(v2.Report, "save", save)
    monkeypatch.setattr(Workspace, "save", save)
    main(["wandb", "--project", "separation", "--entity", "lab"])
    report, workspace = saved
    assert (report.entity, report.project, report.title) == ("lab", "separation", "avdiff")
    sections = [section["name"] for section in read_layout()["sections"]]
    assert [section.name for section in workspace.sections] == sections
    assert [block.text for block in report.blocks if isinstance(block, v2.H2)] == sections
    grids = [block for block in report.blocks if isinstance(block, v2.PanelGrid)]
    assert [len(grid.panels) for grid in grids] == [len(section.panels) for section in workspace.sections]
    assert {(runs.entity, runs.project) for grid in grids for runs in grid.runsets} == {("lab", "separation")}
    assert "Open https://w.b/Report\nOpen https://w.b/Workspace" in capsys.readouterr().out


def test_the_definition_is_written_without_a_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    main(["wandb", "--project", "separation", "--json", str(tmp_path / "out")])
    told = json.loads((tmp_path / "out" / "workspace.json").read_text())
    sections = told["section"]["panelBankConfig"]["sections"]
    names = [section["name"] for section in read_layout()["sections"]]
    assert [section["name"] for section in sections if section["name"] in names] == names


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [({"WANDB_MODE": "offline"}, "WANDB_MODE is offline"), ({}, "W&B cannot be reached (No API key configured")],
)
def test_without_a_login_it_is_one_sentence(
    variables: dict[str, str],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit):
        main(["wandb", "--project", "separation"])
    told = capsys.readouterr().err
    assert sentence in told
    assert "log in with `wandb login`" in told


def test_a_panel_of_no_kind_is_refused() -> None:
    for told in ({"title": "x"}, {"title": "x", "plot": []}, {"title": "x", "lines": [], "table": "y"}):
        with pytest.raises(ValueError, match="the panel 'x' has"):
            _panel(told)
