"""A folder of results: replaced as a whole or not at all, by one run at a time."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from avdiff.errors import UserError
from avdiff.files import only_one
from avdiff.results import WHOLE, results_folder


def listed(record: Path) -> list[str]:
    return record.read_text().split() if record.exists() else []


def write(folder: Path, *names: str, text: str = "new", inputs: tuple[Path, ...] = ()) -> None:
    with results_folder(folder, "record", listed, inputs) as place:
        for name in names:
            (place.new / name).write_text(text)
        (place.work / "rough").write_text("not kept")
        (place.new / "record").write_text(" ".join(names))


def there(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted(folder.iterdir())}


def test_a_run_takes_the_place_of_the_run_before_and_touches_nothing_else(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    write(out, "a", "b", "c", text="old")
    (out / "mine").write_text("mine")
    write(out, "a", "d", inputs=(out / "c",))
    assert there(out) == {"a": "new", "c": "old", "d": "new", "mine": "mine", "record": "a d"}


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), ValueError(), OSError(errno.ENOSPC, "full")])
def test_a_run_that_fails_leaves_what_was_there(stop: BaseException, tmp_path: Path) -> None:
    out = tmp_path / "out"
    write(out, "a", "b", text="old")

    def fail(folder: Path) -> None:
        with results_folder(folder, "record", listed) as place:
            (place.new / "a").write_text("half")
            raise stop

    for folder in (out, tmp_path / "not" / "made"):
        with pytest.raises(type(stop)):
            fail(folder)
    assert there(out) == {"a": "old", "b": "old", "record": "a b"}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_run_killed_while_its_files_were_put_in_place_is_finished_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "a", "b", "c", text="old")
    replace, count = Path.replace, []

    def killed(file: Path, target: Path) -> Path:
        count.append(file)
        if len(count) == 2:
            raise KeyboardInterrupt
        return replace(file, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            write(tmp_path, "a", "b")
    assert (tmp_path / WHOLE).is_dir()
    (tmp_path / ".avdiff-partial-old").mkdir()  # of another, killed before it ended
    (tmp_path / ".avdiff-partial-old" / "a").write_text("half")
    with results_folder(tmp_path, "record", listed) as place:
        assert there_files(tmp_path) == {"a": "new", "b": "new", "record": "a b"}
        for name, text in there_files(tmp_path).items():
            (place.new / name).write_text(text)
    assert there(tmp_path) == {"a": "new", "b": "new", "record": "a b"}


def there_files(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir() if path.is_file() and path.name[0] != "."}


def test_one_run_at_a_time(tmp_path: Path) -> None:
    with only_one(tmp_path):
        with pytest.raises(UserError, match="another process is writing to"):
            write(tmp_path, "a")
        assert there_files(tmp_path) == {}
    write(tmp_path, "a")
    assert sorted(there(tmp_path)) == ["a", "record"]


def test_an_error_names_the_file_as_the_user_knows_it(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="space") as caught, results_folder(tmp_path, "record", listed) as place:
        raise OSError(errno.ENOSPC, "no space", str(place.new / "a.wav"))
    assert caught.value.filename == str(tmp_path / "a.wav")
    with pytest.raises(OSError, match="space") as caught, results_folder(tmp_path, "record", listed) as place:
        raise OSError(errno.ENOSPC, "no space", str(place.work))
    assert caught.value.filename == str(tmp_path)


def test_a_folder_that_is_a_file_or_a_dangling_link_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("file", "link", "file/below"):
        with pytest.raises(UserError, match="cannot be made a folder"):
            write(tmp_path / name, "a")
    assert (tmp_path / "file").read_text() == "mine"
    assert not (tmp_path / "nowhere").exists()
