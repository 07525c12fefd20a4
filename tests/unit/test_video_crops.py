"""Mouth crops that were cut elsewhere reach the encoders as crops of this package do."""

from __future__ import annotations

import numpy as np
import pytest

from avdiff.errors import UserError
from avdiff.video.crops import as_pictures, fit_crop, given_talker


def pictures(count: int, side: int, *more: int) -> np.ndarray:
    return np.random.default_rng(side).integers(0, 256, (count, side, side, *more), np.uint8)


def test_a_whole_crop_is_left_as_it_is_and_its_centre_gets_its_border_back() -> None:
    (whole,) = pictures(1, 96)
    assert np.array_equal(fit_crop(whole), whole)
    assert np.array_equal(fit_crop(whole[4:92, 4:92])[4:92, 4:92], whole[4:92, 4:92])
    assert fit_crop(whole[4:92, 4:92]).shape == (96, 96)


def test_other_sizes_and_colours_show_the_same_mouth() -> None:
    (whole,) = pictures(1, 96)
    assert np.array_equal(fit_crop(whole.repeat(2, 0).repeat(2, 1)), whole)
    assert np.array_equal(fit_crop(whole[..., None]), whole)
    assert np.array_equal(fit_crop(whole[..., None].repeat(3, 2)), whole)
    assert fit_crop(pictures(1, 64, 3)[0]).shape == (96, 96)
    red, green = (fit_crop(np.full((96, 96, 3), colour, np.uint8)) for colour in ((255, 0, 0), (0, 255, 0)))
    assert green.mean() > red.mean() > 70, "channels are red, green, blue"


def test_pictures_without_contrast_are_not_seen() -> None:
    crops = pictures(5, 88)
    crops[1:3] = 17
    mouth, seen = given_talker(lambda stage: crops, "crops").mouth(0, 7)
    assert seen.tolist() == [True, False, False, True, True, False, False]
    assert np.array_equal(mouth[3, 4:92, 4:92], crops[3])
    assert mouth[5:].max() == 0


@pytest.mark.parametrize(
    ("given", "word"),
    [
        (np.zeros((3, 88, 96), np.uint8), "is square"),
        (np.zeros((3, 16, 16), np.uint8), "32x32 or more"),
        (np.zeros((3, 88, 88), np.uint8), "shows no mouth"),
        (np.zeros((0, 88, 88), np.uint8), "shows no mouth"),
        (np.zeros((3, 88, 88)), "array of float64"),
        (np.zeros((88, 88), np.uint8), r"shape \(88, 88\)"),
        (np.zeros((3, 2, 88, 88), np.uint8), r"\(frames, side, side, 3\)"),
    ],
)
def test_what_is_no_crop_is_told(given: np.ndarray, word: str) -> None:
    with pytest.raises(UserError, match=word):
        given_talker(lambda stage: as_pictures(given, "crops"), "crops")
