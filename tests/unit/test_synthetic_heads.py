"""Whole talking faces: the real detector finds them, and sees their lips move."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from avdiff.video.faces import DlibFaces
from datamodules.synthetic.heads import HEIGHT, WIDTH, draw_portrait, render_talking_head
from datamodules.synthetic.talkers import CONTINUOUS, TalkerClip, draw_spec, make_clip


@pytest.fixture(scope="module")
def clip() -> TalkerClip:
    return make_clip(replace(draw_spec("head", "test", kind=CONTINUOUS), frames=40))


@pytest.fixture(scope="module")
def film(clip: TalkerClip) -> np.ndarray:
    return render_talking_head(clip)


def test_the_same_clip_gives_the_same_film(clip: TalkerClip, film: np.ndarray) -> None:
    assert film.shape == (40, HEIGHT, WIDTH, 3)
    assert film.dtype == np.uint8
    short = replace(clip, track=clip.track[:2])
    assert (render_talking_head(short) == render_talking_head(short)).all()


def test_the_detector_finds_the_face_and_sees_the_mouth_open_and_close(clip: TalkerClip, film: np.ndarray) -> None:
    detector = DlibFaces()
    frames = range(0, 40, 3)
    gaps = []
    for frame in frames:
        (face,) = detector.detect(film[frame])
        inner = face.landmarks[60:68, 1]
        gaps.append(inner[5:8].mean() - inner[1:4].mean())
    assert np.corrcoef(gaps, clip.track[list(frames), 0])[0, 1] > 0.6


def test_portraits_differ() -> None:
    assert len({draw_portrait("test", number) for number in range(20)}) == 20
