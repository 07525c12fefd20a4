"""Many recordings are separated one after the other, none twice, and none stands in another's way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import soundfile

from avdiff.batch import Outcome, recordings_of, separate_each
from avdiff.errors import UserError
from avdiff.recording import SeparationReport, separate_file
from tests.unit.test_recording import Shares, Squares, film, picture


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    videos = tmp_path / "videos"
    videos.mkdir()
    for name in ("a.mkv", "b.mkv"):
        film(videos / name, [picture()] * 30)
    (videos / "broken.mkv").write_bytes(b"no video")
    (videos / "notes.txt").write_text("mine")
    return videos


def sentence(error: BaseException) -> str | None:
    return str(error) if isinstance(error, UserError) else None


def run(folder: Path, parent: Path, made: Mapping[str, object], asked: list[str] | None = None) -> list[Outcome]:
    def separate(recording: Path, out: Path) -> SeparationReport:
        if asked is not None:
            asked.append(recording.name)
        return separate_file(recording, Shares(), out, detector=Squares(), made=made)

    return list(separate_each(recordings_of([folder], {".mkv"}), separate, parent, lambda recording: made, sentence))


@pytest.fixture(autouse=True)
def quick_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("avdiff.recording.png", lambda figure: b"\x89PNG")


def test_every_video_of_a_folder_gets_a_folder_and_failures_do_not_stop_the_rest(folder: Path, tmp_path: Path) -> None:
    outcomes = run(folder, tmp_path / "out", {"seed": 0})
    assert [(outcome.recording.name, outcome.folder) for outcome in outcomes] == [
        ("a.mkv", tmp_path / "out" / "a_separated"),
        ("b.mkv", tmp_path / "out" / "b_separated"),
        ("broken.mkv", None),
    ]
    assert "not a media file" in str(outcomes[2].reason)
    assert soundfile.info(tmp_path / "out" / "b_separated" / "person2.wav").frames > 0


def test_what_was_done_with_the_same_settings_is_not_done_again(folder: Path, tmp_path: Path) -> None:
    asked: list[str] = []
    run(folder, tmp_path, {"seed": 0, "recipes": {"1": [2, None]}})
    again = run(folder, tmp_path, {"seed": 0, "recipes": {"1": [2, None]}}, asked)
    assert asked == ["broken.mkv"]
    assert [outcome.folder is not None and outcome.report is None for outcome in again] == [True, True, False]
    (tmp_path / "b_separated" / "person1.wav").unlink()
    run(folder, tmp_path, {"seed": 0, "recipes": {"1": [2, None]}}, asked)
    assert asked[1:] == ["b.mkv", "broken.mkv"]
    run(folder, tmp_path, {"seed": 1}, asked)
    assert asked[3:] == ["a.mkv", "b.mkv", "broken.mkv"]


def test_a_fault_of_the_program_is_told_and_a_stop_stops(folder: Path, tmp_path: Path) -> None:
    def raising(error: BaseException) -> Callable[[Path, Path], SeparationReport]:
        def separate(recording: Path, out: Path) -> SeparationReport:
            raise error

        return separate

    videos = recordings_of([folder / "a.mkv", folder / "b.mkv"], {".mkv"})
    outcomes = separate_each(videos, raising(IndexError("beyond")), tmp_path, lambda recording: {}, sentence)
    assert ["IndexError: beyond" in str(outcome.reason) for outcome in outcomes] == [True, True]
    with pytest.raises(KeyboardInterrupt):
        list(separate_each(videos, raising(KeyboardInterrupt()), tmp_path, lambda recording: {}, sentence))


def test_recordings_are_named_once_and_a_folder_must_hold_some(folder: Path, tmp_path: Path) -> None:
    found = recordings_of([folder / "b.mkv", folder, tmp_path / "absent.mkv"], {".mkv"})
    assert [path.name for path in found] == ["b.mkv", "a.mkv", "broken.mkv", "absent.mkv"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="without a video"):
        recordings_of([tmp_path / "empty"], {".mkv"})
    assert recordings_of([folder], {".txt"}) == [folder / "notes.txt"]
