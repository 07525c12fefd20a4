"""What people write is refused in one sentence when it is read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from avdiff.errors import UserError
from avdiff.files import packaged
from avdiff.metrics.table import figure, gain, markdown_row
from avdiff.report.figures import plain
from avdiff.schema import not_finite, read_yaml

NAN = float("nan")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"\xff\xfe", "not UTF-8"),
        (b"a: [", "line 1"),
        (b"a: " + b"[" * 5000 + b"]" * 5000, "too deep"),
        (b"a: &a [*a]", "too deep"),
        (
            b"a: &a [x,x,x,x,x,x,x,x,x]\n"
            + b"".join(b"%c: &%c [%s]\n" % (98 + k, 98 + k, b",".join([b"*%c" % (97 + k)] * 9)) for k in range(7)),
            "too many",
        ),
        (b"a: 1\na: 2", "'a' is given twice, in line 2"),
        (b"a: 2026-13-45", "no method file"),
        (b"a: \x00", "no method file"),
    ],
)
def test_yaml_files_that_are_none(content: bytes, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_bytes(content)
    with pytest.raises(UserError, match=sentence):
        read_yaml(tmp_path / "x.yaml", "method file")


def test_a_merged_key_may_be_given_again(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("a: &a {x: 1, y: 2}\nb: {<<: *a, x: 3}\n")
    assert read_yaml(tmp_path / "x.yaml", "file")["b"] == {"x": 3, "y": 2}


def test_a_device_is_not_read_to_its_end(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no method file"):
        read_yaml(Path(os.devnull).parent / "zero", "method file")


def test_the_place_of_a_number_that_is_none() -> None:
    assert not_finite({"a": {"b": [1.0, NAN]}}) == "a.b.1 is nan"
    assert not_finite({"a": [1.0, "nan", None]}) is None


def test_the_packages_files_are_found_where_there_is_no_folder_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = Path("experiments/tables/embedded.yaml")
    assert packaged(file).is_file()
    assert packaged(Path("experiments/../experiments/tables/embedded.yaml")) != packaged(file)
    assert packaged(Path("experiments/tables/none.yaml")) == Path("experiments/tables/none.yaml")
    file.parent.mkdir(parents=True)
    file.touch()
    assert packaged(file) == file, "the user's own comes first"


def test_figures_of_tables() -> None:
    assert (figure(NAN), gain(NAN, NAN), gain(1.0, NAN), gain(1.0, 0.5)) == ("–", "–", "+1.00", "+1.00 ± 0.50")
    assert markdown_row(["a|b\nc", "d"]) == r"| a\|b c | d |"


@pytest.mark.parametrize("label", ["cost $_$", "$", "a $^$ b $", r"\$ $"])
def test_a_label_is_no_formula(label: str) -> None:
    from matplotlib.figure import Figure

    from avdiff.report.figures import png

    figure = Figure()
    figure.subplots().set_title(plain(label))
    assert png(figure).startswith(b"\x89PNG")
