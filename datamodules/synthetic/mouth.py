"""Mouths: 96x96 grey crops at 25 fps, as an aligned crop of a real face shows them.

A face (shape, skin, beard, teeth) is drawn from a name of its own and never from the voice: it says nothing about who
speaks. Lips are regions between curves over the mouth's width, evaluated for every pixel of every frame at once, which
shades and anti-aliases them for free.

Geometry of the crop (the mean face of the usual lip-reading pipelines): mouth about 45 px wide in the centre, nose base
22 px above it, chin about 42 px below.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from avdiff.extras import lazy
from datamodules.synthetic.seeds import stream, wander
from datamodules.synthetic.visemes import FPS

cv2 = lazy("cv2")

SIZE = 96  # px
_MARGIN = 20  # px of face around the crop, for the pose to move in


@dataclass(frozen=True)
class Face:
    """What a face keeps from clip to clip. Lengths in px of the crop, brightness in grey levels."""

    seed: int
    half_width: float
    upper_lip: float
    lower_lip: float
    bow: float  # depth of the cupid's bow, 0 to 1
    smile: float  # corners up (-) or down (+)
    skew: float  # left and right half differ
    opening: float  # gap of the widest open mouth
    skin: float
    lip: float  # lip brightness over skin brightness
    seam: float  # darkness of the line where lips meet
    shine: float
    teeth: float
    teeth_height: float
    inside: float
    nose: float  # px above the mouth
    chin: float  # px below the mouth
    jaw: float  # half width of the face at the mouth
    beard: float  # 0 none, 1 dark
    moustache: float
    stubble_grain: float


def draw_face(*name: str | int) -> Face:
    """The face of a name, as `draw_face("train", 17)`."""
    rng = stream("face", *name)
    hairy = rng.random() < 0.35
    return Face(
        seed=int(rng.integers(2**31)),
        half_width=rng.uniform(19.5, 25),
        upper_lip=rng.uniform(3.0, 7.0),
        lower_lip=rng.uniform(4.0, 9.0),
        bow=rng.uniform(0.05, 0.5),
        smile=rng.uniform(-2.0, 2.0),
        skew=rng.uniform(-0.1, 0.1),
        opening=rng.uniform(13, 21),
        skin=rng.uniform(70, 185),
        lip=rng.uniform(0.55, 0.93),
        seam=rng.uniform(0.25, 0.6),
        shine=rng.uniform(0, 0.25),
        teeth=rng.uniform(120, 215),
        teeth_height=rng.uniform(3.0, 6.0),
        inside=rng.uniform(15, 50),
        nose=rng.uniform(19, 26),
        chin=rng.uniform(37, 49),
        jaw=rng.uniform(40, 58),
        beard=rng.uniform(0.1, 1) if hairy else 0.0,
        moustache=rng.uniform(0.1, 1) if hairy or rng.random() < 0.08 else 0.0,
        stubble_grain=rng.uniform(0.5, 1.5),
    )


def _bump(distance: np.ndarray) -> np.ndarray:
    return np.exp(-0.5 * distance**2)


def _step(distance: np.ndarray) -> np.ndarray:
    """0 to 1 over one pixel: the share of a pixel that lies beyond an edge."""
    return np.clip(distance + 0.5, 0, 1)


def _skin(face: Face, rng: np.random.Generator) -> np.ndarray:
    """The face without its mouth, float32, `_MARGIN` larger than the crop; `rng` draws light and background."""
    own = np.random.default_rng(face.seed)
    half = SIZE / 2 + _MARGIN
    y, x = np.mgrid[-half + 0.5 : half, -half + 0.5 : half].astype(np.float32)
    size = len(x)

    def cloud(source: np.random.Generator, grain: float) -> np.ndarray:
        blurred = cv2.GaussianBlur(source.standard_normal((size, size)).astype(np.float32), (0, 0), grain)
        return blurred / (blurred.std() + 1e-6)

    light_x, light_y = rng.uniform(-0.28, 0.28), rng.uniform(-0.05, 0.15)
    shade = 1 - 0.22 * (x / face.jaw) ** 2 + light_x * x / face.jaw - light_y * y / 50
    shade += 0.02 * cloud(own, 12) + 0.02 * cloud(own, 1.2)
    # Nose: wings, nostrils, its shadow; philtrum; folds from nose to corners; the hollow above the chin.
    tip = y + face.nose
    shade += 0.12 * _bump(x / 6) * _bump((tip + 12) / 8)
    shade -= 0.30 * (_bump((x - 11) / 2) + _bump((x + 11) / 2)) * _bump((tip + 3) / 4)
    shade -= own.uniform(0.25, 0.6) * (_bump((x - 5.5) / 2.6) + _bump((x + 5.5) / 2.6)) * _bump((tip + 0.5) / 1.8)
    shade -= 0.15 * _bump(x / 9) * _bump((tip - 2) / 2.5)
    shade -= 0.05 * _bump(x / 2.2) * _bump((tip - 10) / 6)
    fold = own.uniform(0, 0.16)
    for side in (-1, 1):
        shade -= fold * _bump((side * x - 13 - 0.75 * (tip + 3)) / 2.5) * _bump((tip - 10) / 12)
    shade -= own.uniform(0.05, 0.2) * _bump(x / 14) * _bump((y - 0.45 * face.chin) / 3.5)
    shade += own.uniform(0, 0.1) * _bump(x / 9) * _bump((y - 0.78 * face.chin) / 5)
    for _ in range(own.integers(0, 5)):  # moles
        shade -= own.uniform(0.05, 0.3) * _bump(np.hypot(x - own.uniform(-40, 40), y - own.uniform(-40, 40)) / 0.9)
    grain = np.clip(0.8 + 0.15 * cloud(own, face.stubble_grain), 0, 1.3)
    below = _step((np.hypot(x / 1.25, y + 6) - 16) / 10) * _step((y + 0.35 * np.abs(x) - 4) / 10)
    above = _bump((tip - 0.62 * face.nose) / (0.2 * face.nose)) * _step((25 - np.abs(x)) / 6)
    shade *= 1 - 0.5 * np.clip(face.beard * below + face.moustache * above, 0, 1) * grain
    # Outside of the jaw: neck below, background or hair beside.
    rim = ((np.abs(x) / face.jaw) ** 2.6 + (np.clip(y + 8, 0, None) / (face.chin + 8)) ** 2.6) ** (1 / 2.6)
    inside = _step((1 - rim) * 22)
    picture = face.skin * (shade - 0.25 * np.clip(1 - (1 - rim) * 5, 0, 1))
    neck = face.skin * rng.uniform(0.5, 0.85) * (1 + light_x * x / face.jaw)
    behind = rng.uniform(10, 220) * (1 + 0.1 * cloud(rng, 10))
    outside = np.where(np.abs(x) < rng.uniform(0.75, 1.0) * face.jaw, neck, behind)
    return (picture * inside + cv2.GaussianBlur(outside, (0, 0), 2) * (1 - inside)).astype(np.float32)


def _pose(rng: np.random.Generator, frames: int) -> np.ndarray:
    """Where every pixel of every frame lies in the face: affine (F, 2, 3), from the crop's centre to the mouth's."""
    times = np.arange(frames) / FPS
    drift = lambda most, period: most * wander(rng, times, period)  # noqa: E731
    angle = rng.normal(0, 0.035) + drift(rng.uniform(0, 0.04), 1.0)
    scale = rng.uniform(0.9, 1.12) * (1 + drift(rng.uniform(0, 0.03), 1.3))
    shear = rng.normal(0, 0.04) + drift(rng.uniform(0, 0.03), 1.5)
    squeeze = rng.uniform(0.92, 1.08)
    shake = rng.uniform(0.05, 0.4)
    offset = [rng.normal(0, 1.3) + drift(rng.uniform(0, 2), 0.7) + rng.normal(0, shake, frames) for _ in range(2)]
    cos, sin = np.cos(angle) / scale, np.sin(angle) / scale
    rows = [[cos * squeeze, sin + shear, offset[0]], [-sin * squeeze, cos, offset[1]]]
    return np.array([[np.broadcast_to(v, frames) for v in row] for row in rows], np.float32).transpose(2, 0, 1)


def render(face: Face, track: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Film a face that makes the given movements.

    Args:
        face: who.
        track: (F, features) of `visemes.articulate`.
        rng: draws light, pose, camera: what differs from clip to clip.

    Returns:
        uint8 (F, 96, 96).
    """
    frames = len(track)
    skin, pose = _skin(face, rng), _pose(rng, frames)
    grid = np.mgrid[0:SIZE, 0:SIZE][::-1].astype(np.float32) + 0.5 - SIZE / 2  # (2, y, x): x, then y
    place = np.einsum("fij,jyx->fiyx", pose[:, :, :2], grid) + pose[:, :, 2, None, None]
    x, y = place[:, 0], place[:, 1]

    gap = face.opening * track[:, 0]
    # The lower jaw takes the skin below the mouth along.
    drop = 0.55 * gap[:, None, None] * np.clip(y / 12, 0, 1)
    rise = 0.25 * gap[:, None, None] * np.clip(-y / 8, 0, 1) * np.clip((y + face.nose) / 8, 0, 1)
    film = np.empty((frames, SIZE, SIZE), np.float32)
    centre = len(skin) / 2 - 0.5
    for k in range(frames):
        cv2.remap(
            skin, x[k] + centre, y[k] - drop[k] + rise[k] + centre, cv2.INTER_LINEAR, film[k], cv2.BORDER_REPLICATE
        )

    window = np.s_[:, 16:84, 10:86]  # the lips' part of the crop
    film[window] = draw_lips(face, track, x[window], y[window], film[window])
    return _camera(film, rng)


def draw_lips(face: Face, track: np.ndarray, x: np.ndarray, y: np.ndarray, under: np.ndarray) -> np.ndarray:
    """Lips, teeth, tongue and the dark between them, over the skin.

    Args:
        face: shape and grey levels.
        track: (F, features) of `visemes.articulate`.
        x, y: (F, h, w) px of the crop from the middle of the mouth, right and down.
        under: (F, h, w) grey levels of the skin.

    Returns:
        (F, h, w) grey levels.
    """
    _, wide, round_, press, bite, teeth, tongue = (column[:, None, None] for column in track.T)
    gap = face.opening * track[:, 0, None, None]
    half = face.half_width * (0.87 + 0.26 * wide) * (1 - 0.27 * round_)
    u = x * (1 + face.skew * np.sign(x)) / half
    arch = np.clip(1 - u * u, 0, None)  # 1 in the middle, 0 in the corners
    bend = face.smile * (1 - wide * 0.5) * (u * u - 0.3)
    thick = (1 + 0.3 * round_) * (1 - 0.4 * press) * np.sqrt(arch) * (0.55 + 0.45 * arch)
    inner_arch = np.clip(1 - (u / 0.94) ** 2, 0, None) ** (1.05 - 0.4 * round_)
    upper_in = bend - 0.38 * gap * inner_arch
    lower_in = bend + 0.62 * gap * inner_arch
    bow = 1 - face.bow * _bump(u / 0.14) + 0.12 * _bump((np.abs(u) - 0.25) / 0.15)
    upper_out = upper_in - face.upper_lip * thick * bow
    lower_out = lower_in + face.lower_lip * thick * (1 - 0.55 * bite)

    middle = np.abs(u) < 1
    lip = face.skin * face.lip * np.clip(under / face.skin, 0.5, 1.3) ** 0.5
    on_upper = _step(y - upper_out) * _step(upper_in - y) * middle
    on_lower = _step(y - lower_in) * _step(lower_out - y) * middle
    across_upper = np.clip((y - upper_out) / np.maximum(upper_in - upper_out, 0.5), 0, 1)
    across_lower = np.clip((y - lower_in) / np.maximum(lower_out - lower_in, 0.5), 0, 1)
    upper_tone = lip * (1.0 - 0.22 * across_upper)
    lower_tone = lip * (0.9 + 0.2 * across_lower + face.shine * _bump((across_lower - 0.4) / 0.18) * arch)
    # The shadow below the lower lip, and the line where closed lips meet.
    out = under * (1 - 0.16 * _bump((y - lower_out - 2.5) / 2.2) * arch)
    out = out + on_upper * (upper_tone - out)
    out = out + on_lower * (lower_tone - out)
    seam = face.seam * (1 + 0.3 * press) * np.sqrt(arch) * (1 - 0.4 * u * u)
    out = out * (1 - seam * _bump((y - (upper_in + lower_in) / 2) / (0.9 + 0.25 * gap)))

    hole = _step(y - upper_in) * _step(lower_in - y) * middle * np.clip(2 * (lower_in - upper_in), 0, 1)
    tone = face.inside * (0.7 + 0.3 * np.abs(u)) * np.ones_like(y)
    crown = 1 - 0.35 * u * u - 0.12 * _bump((np.abs((x / 4.2) % 1 - 0.5) - 0.5) / 0.12)
    low_edge = lower_in - face.teeth_height * (0.15 + 0.75 * teeth)  # lower teeth: raised where the rows meet
    tone = tone + _step(y - low_edge) * 0.75 * (face.teeth * crown * 0.8 - tone) * (0.25 + 0.75 * teeth)
    up_edge = upper_in + face.teeth_height * (0.5 + 0.5 * teeth)
    tone = tone + _step(up_edge - y) * 0.9 * (face.teeth * crown - tone)
    blade = lower_in - gap * (0.12 + 0.55 * tongue) * _bump(u / 0.5)
    tone = tone + _step(y - blade) * _step(1.6 * (0.75 - np.abs(u)) * 8) * (0.62 * face.skin - tone) * (
        0.35 + 0.6 * tongue
    )
    out = out + hole * (tone - out)
    # Upper teeth on the lower lip.
    edge = bite * _step(1.5 - np.abs(y - lower_in + 0.5)) * (np.abs(u) < 0.6)
    return out + 0.7 * edge * (face.teeth * crown - out)


def _camera(film: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Blur, contrast, gamma and sensor noise; grey levels."""
    blur, gain, gamma = rng.uniform(0.2, 1.1), rng.uniform(0.75, 1.25), rng.uniform(0.8, 1.25)
    level, noise = rng.uniform(-25, 25), rng.uniform(0.5, 4)
    for frame in film:
        cv2.GaussianBlur(frame, (0, 0), blur, frame)
    film = np.clip(film / 255, 0, 1.2) ** gamma * 255
    film = (film - 110) * gain + 110 + level
    film += noise * rng.standard_normal(film.shape, np.float32)
    return np.clip(film + 0.5, 0, 255).astype(np.uint8)
