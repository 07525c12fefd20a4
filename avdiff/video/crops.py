"""Mouth crops that were cut elsewhere: videos or arrays of them, as the encoders of this package take them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from avdiff.errors import UserError
from avdiff.extras import lazy
from avdiff.video.mouth import SIZE, Room, room_in_memory
from avdiff.video.talkers import Talker
from avdiff.video.tracking import Person, Track

cv2 = lazy("cv2")

CENTRE = 88  # pixels of the centre of a crop that encoders look at
SMALLEST = 32  # pixels; nothing of lips is left in less
BLANK = 1.0  # grey levels that a picture varies by, below which it shows nothing


def fit_crop(picture: np.ndarray) -> np.ndarray:
    """A square crop of a mouth as the encoders take it.

    One of 88x88 is the centre of a 96x96 crop, as loaders of published lip readers cut it out, and gets its border back by
    repetition: no encoder looks at it. One of any other size is taken for the whole crop, and resized.

    Args:
        picture: (S, S), (S, S, 1) or (S, S, 3) uint8, grey or RGB.

    Returns:
        (96, 96) uint8 grey.
    """
    grey = (
        cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) if picture.shape[2:] == (3,) else picture.reshape(picture.shape[:2])
    )
    if len(grey) == CENTRE:
        return np.pad(grey, (SIZE - CENTRE) // 2, mode="edge")
    if len(grey) == SIZE:
        return grey
    return cv2.resize(grey, (SIZE, SIZE), interpolation=cv2.INTER_AREA if len(grey) > SIZE else cv2.INTER_LINEAR)


def as_pictures(crops: np.ndarray, name: str) -> np.ndarray:
    """Crops that came as an array, after a look at what it is.

    Args:
        crops: (F, S, S), (F, S, S, 1) or (F, S, S, 3) uint8, 25 a second.
        name: of it, for errors.

    Raises:
        UserError: it is no such array.
    """
    shape = crops.shape
    if crops.dtype != np.uint8 or not (len(shape) == 3 or (len(shape) == 4 and shape[3] in (1, 3))):
        raise UserError(
            f"{name} is an array of {crops.dtype} of shape {shape}; give uint8 pictures as (frames, side, side) or "
            "(frames, side, side, 3), 25 a second."
        )
    return crops


def given_talker(frames: Callable[[str], Iterable[np.ndarray]], name: str, room: Room = room_in_memory) -> Talker:
    """A speaker whose mouth was cut out elsewhere.

    A picture without any contrast shows no mouth: there the speaker counts as not seen. The box of the one track is the whole
    picture, and its points are none: NaN.

    Args:
        frames: told what for, gives the crops, as `fit_crop` takes them, at 25 a second, from the start of the mixture.
        name: of what was given, for errors.
        room: for the crops: see `mouth_crops`.

    Raises:
        UserError: they are not square, too small, or none shows anything.
    """
    seen, side = list[bool](), 0
    for picture in frames("looking at mouths"):
        height, side = picture.shape[:2]
        if height != side:
            raise UserError(
                f"{name} holds pictures of {side}x{height} pixels, and a mouth crop is square, such as 96x96 or 88x88; "
                "give a video of the whole face as --face."
            )
        if side < SMALLEST:
            raise UserError(
                f"{name} holds pictures of {side}x{side} pixels; give mouth crops of {SMALLEST}x{SMALLEST} or more."
            )
        seen.append(float(picture.std()) >= BLANK)
    if not any(seen):
        raise UserError(f"{name} shows no mouth: every picture is of one grey, or there is none; give another crop.")
    crops = room((len(seen), SIZE, SIZE))
    for index, picture in enumerate(frames("reading mouths")):
        crops[index] = fit_crop(picture)
    box = np.tile(np.array([0.0, 0.0, side, side]), (len(seen), 1))
    nowhere = np.full((len(seen), 0, 2), np.nan)
    return Talker(Person((Track(0, box, nowhere, np.array(seen)),)), [crops])
