"""Whole talking faces: the mouth of the corpus in a photograph, as a video for detectors, trackers and croppers.

The photograph is NASA's portrait of astronaut Eileen Collins (public domain), which scikit-image carries.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from avdiff.extras import lazy
from datamodules.synthetic.mouth import draw_face, draw_lips
from datamodules.synthetic.seeds import stream, wander
from datamodules.synthetic.talkers import TalkerClip
from datamodules.synthetic.visemes import FPS

skimage_data = lazy("skimage.data")

cv2 = lazy("cv2")

HEIGHT, WIDTH = 288, 360  # px
# Of the photograph, px: middle of the mouth, its tilt (rad), and how many px of a mouth crop one of its px is.
_MOUTH, _TILT, _CROP_SCALE = (223.5, 146.0), 0.05, 54.3 / 44.5
_LIP_COLOUR = (0.93, 0.66, 0.70)  # red, green and blue of lips over those of skin
_SMILE = ((224, 146), (26, 14))  # ellipse that holds the photograph's own mouth


@dataclass(frozen=True)
class Portrait:
    """A variation of the photograph.

    Attributes:
        mirrored: left for right.
        zoom: output px a px of the photograph.
        stretch: width over height.
        tint: gains of red, green and blue.
        seed: of head movements.
    """

    mirrored: bool
    zoom: float
    stretch: float
    tint: tuple[float, float, float]
    seed: int


def draw_portrait(*name: str | int) -> Portrait:
    """The portrait of a name."""
    rng = stream("portrait", *name)
    gain = rng.uniform(0.7, 1.1)
    return Portrait(
        mirrored=bool(rng.random() < 0.5),
        zoom=rng.uniform(1.25, 1.55),
        stretch=rng.uniform(0.92, 1.06),
        tint=(gain * rng.uniform(0.95, 1.05), gain, gain * rng.uniform(0.9, 1.1)),
        seed=int(rng.integers(2**31)),
    )


def render_talking_head(clip: TalkerClip, portrait: Portrait | None = None) -> np.ndarray:
    """A clip of the corpus as a whole face.

    Args:
        clip: its `track` moves the mouth; it has the lips of the clip's face.
        portrait: None for one drawn from the clip's name.

    Returns:
        (F, 288, 360, 3) uint8 RGB at 25 fps.
    """
    portrait = portrait or draw_portrait(clip.spec.split, clip.spec.face)
    rng = np.random.default_rng(portrait.seed)
    picture, mouth, tilt = _canvas(portrait)
    scale = _CROP_SCALE / portrait.zoom  # px of a mouth crop a px of the output
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    dx, dy = (columns - mouth[0]) * scale, (rows - mouth[1]) * scale
    x, y = dx * np.cos(tilt) + dy * np.sin(tilt), dy * np.cos(tilt) - dx * np.sin(tilt)

    face = replace(draw_face(clip.spec.split, clip.spec.face), half_width=21.5, skew=0.0, opening=18.0)
    above, below = int(mouth[1] - 32 / scale), int(mouth[1] + 36 / scale)
    left, right = int(mouth[0] - 34 / scale), int(mouth[0] + 34 / scale)
    # The chin goes down with the jaw; the neck and all above the mouth stay.
    reach = np.clip(y / 12, 0, 1) * np.clip((70 - y) / 30, 0, 1) * np.exp(-0.5 * (x / 32) ** 2)
    film = np.empty((len(clip.track), HEIGHT, WIDTH, 3), np.float32)
    for frame, gap in zip(film, face.opening * clip.track[:, 0], strict=True):
        drop = (0.55 / scale * gap) * reach
        cv2.remap(picture, columns, rows - drop.astype(np.float32), cv2.INTER_LINEAR, frame, cv2.BORDER_REPLICATE)
    shape = (len(film), below - above, right - left)
    lips_x = np.broadcast_to(x[above:below, left:right], shape)
    lips_y = np.broadcast_to(y[above:below, left:right], shape)
    for channel, lip in enumerate(_LIP_COLOUR):
        skin = float(np.median(picture[above:below, left:right, channel]))
        toned = replace(face, skin=skin, lip=lip, teeth=min(0.95 * skin + 20, 225.0), inside=0.15 * skin)
        view = film[:, above:below, left:right, channel]
        view[:] = draw_lips(toned, clip.track, lips_x, lips_y, view)
    return _sway(film, rng)


def _canvas(portrait: Portrait) -> tuple[np.ndarray, tuple[float, float], float]:
    """The photograph without its smile on the output's canvas, where the mouth is to go, and its tilt."""
    photograph = skimage_data.astronaut()
    smile = np.zeros(photograph.shape[:2], np.uint8)
    cv2.ellipse(smile, *_SMILE, 0, 0, 360, 255, -1)
    photograph = cv2.inpaint(photograph, smile, 6, cv2.INPAINT_TELEA)
    centre, tilt = np.array(_MOUTH), _TILT
    if portrait.mirrored:
        photograph, tilt = photograph[:, ::-1], -tilt
        centre[0] = photograph.shape[1] - 1 - centre[0]
    mouth = (WIDTH / 2, 0.6 * HEIGHT)
    zoom = np.array([portrait.zoom * portrait.stretch, portrait.zoom])
    place = np.hstack([np.diag(zoom), (np.array(mouth) - zoom * centre)[:, None]])
    picture = cv2.warpAffine(
        photograph.astype(np.float32), place, (WIDTH, HEIGHT), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    return np.clip(picture * np.array(portrait.tint, np.float32), 0, 255), mouth, tilt


def _sway(film: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Small movements of the head, and sensor noise."""
    times = np.arange(len(film)) / FPS
    angle, right, down = (most * wander(rng, times, 1.2) for most in (1.5, 3.0, 2.0))
    out = np.empty(film.shape, np.uint8)
    for k, frame in enumerate(film):
        turn = cv2.getRotationMatrix2D((WIDTH / 2, HEIGHT / 2), angle[k], 1)
        turn[0, 2] += right[k]
        turn[1, 2] += down[k]
        moved = cv2.warpAffine(frame, turn, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REPLICATE)
        out[k] = np.clip(moved + rng.normal(0, 1.5, moved.shape) + 0.5, 0, 255)
    return out
