"""Enrolment of the embedded voices: theirs, and nothing that a test has."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from avdiff.errors import UserError
from avdiff.priors.nmf import enrolled
from datamodules.clips import PreparedClips
from datamodules.parts import Prepared
from datamodules.synthetic import enrolment
from datamodules.synthetic.benchmark import cast
from datamodules.synthetic.enrolment import enrolment_spec, enrolments, folder_of, who_speaks
from datamodules.synthetic.voices import VARIANTS


def test_an_enrolment_is_of_the_voice_but_of_no_sentence_or_face_of_its_test() -> None:
    for voice in VARIANTS["test"]:
        spec = enrolment_spec(voice, 3)
        assert spec.voice.variant == voice
        assert spec.split == "train"  # of sentences and faces
    assert enrolment_spec("m7", 0).name != enrolment_spec("m7", 1).name


def test_the_list_says_who_speaks_in_every_mixture() -> None:
    listed = who_speaks("test")
    assert len(listed) == 9 * 50
    said = [folder_of(spec.voice.variant) for spec in cast("test", "speakers3", 7)]
    assert listed["test-speakers3-007"] == said
    assert {voice for voices in listed.values() for voice in voices} <= {folder_of(v) for v in VARIANTS["test"]}


def test_a_stretch_with_some_of_the_talkers_has_their_voices() -> None:
    listed, folder = {"recording": ["anna", "ben"]}, Path("enrolment")
    assert enrolled(listed, "recording@30", 2, folder) == ["anna", "ben"]
    assert enrolled(listed, "recording@30", 1, folder, (1,)) == ["ben"]
    with pytest.raises(UserError, match="lists 2 voice"):
        enrolled(listed, "recording", 3, folder, (0, 1, 2))


def test_enrolments_are_made_once_and_trained_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enrolment, "CLIPS", {"train": 2, "val": 1})
    monkeypatch.setattr(enrolment, "VARIANTS", {"val": ("m5",)})
    assert enrolments(tmp_path, "val", workers=1) == ["m5"]
    audio = np.load(tmp_path / "m5/train/audio.npy")
    assert audio.shape == (2, 64000)
    assert json.loads((tmp_path / "talkers.json").read_text())["val-grid1-000"]
    enrolments(tmp_path, "val", workers=1)
    assert np.array_equal(np.load(tmp_path / "m5/train/audio.npy"), audio)

    clips = PreparedClips(tmp_path / "m5", seconds=1.0)
    clips.setup("fit")
    assert (len(clips.train), set(clips.train[0])) == (2, {"audio"})  # type: ignore[arg-type]
    assert len(Prepared(tmp_path / "m5").open("train")) == 2
