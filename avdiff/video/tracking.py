"""Faces through time: boxes and points of one face from picture to picture, and the tracks of one person."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from avdiff.extras import lazy
from avdiff.types import VIDEO_FPS
from avdiff.video.faces import POINTS, Face, FaceDetector, overlap

cv2 = lazy("cv2")


@dataclass(frozen=True)
class Track:
    """One face in consecutive pictures.

    Attributes:
        start: index of the first picture at 25 a second; the last is start + F - 1.
        box: (F, 4) left, top, right, bottom in pixels.
        landmarks: (F, 68, 2) pixels, smoothed.
        seen: (F,) bool; elsewhere box and landmarks are interpolated.
        identity: vector of the detector's `describe`, or None.
    """

    start: int
    box: np.ndarray
    landmarks: np.ndarray
    seen: np.ndarray
    identity: np.ndarray | None = None

    @property
    def stop(self) -> int:
        return self.start + len(self.seen)


@dataclass(frozen=True)
class Person:
    """All tracks of one person, in order of time and never two at once."""

    tracks: tuple[Track, ...]

    def seen(self, frames: int) -> np.ndarray:
        """(frames,) bool: in which of the first pictures the face was seen."""
        seen = np.zeros(frames, bool)
        for track in self.tracks:
            part = seen[track.start : track.stop]
            part |= track.seen[: len(part)]
        return seen


@dataclass
class _Growing:
    """A track while it grows: what was found at which picture."""

    found: dict[int, Face] = field(default_factory=dict)
    identities: list[np.ndarray] = field(default_factory=list)

    @property
    def last(self) -> int:
        return next(reversed(self.found))

    @property
    def box(self) -> np.ndarray:
        return self.found[self.last].box


class FaceTracker:
    """Follows every face of a video through its pictures.

    The detector looks at every `detector.stride`-th picture. Where the same faces are there before and after, boxes
    between are interpolated and only points are fitted; where a face comes or goes, every picture is looked at.

    Args:
        detector: finds and describes faces.
        nearness: intersection over union from which a face continues a track.
        patience: pictures after which a lost face does not continue its track.
        bridge: gaps up to so many pictures count as seen.
        cut: mean change of a thumbnail's grey levels (of 255) from one picture to the next that is a cut to another
            scene; it ends every track, and so does a change of the resolution.
        jump: change that may be one, as between two heads before the same wall; a face continues its track unless it is known
            to be another's, and so does one that was not seen for a while.
        another: distance of identity vectors, as a multiple of the detector's `same_person`, from which a face is known to be
            another's: a head that is turned lies far from itself as well.
        descriptions: identity vectors taken of a track, two seconds apart; their mean is the track's.
    """

    def __init__(
        self,
        detector: FaceDetector,
        *,
        nearness: float = 0.3,
        patience: int = 50,
        bridge: int = 5,
        cut: float = 24.0,
        jump: float = 6.0,
        another: float = 1.2,
        descriptions: int = 3,
    ) -> None:
        self.detector = detector
        self.nearness = nearness
        self.patience = patience
        self.bridge = bridge
        self.cut = cut
        self.jump = jump
        self.another = another
        self.descriptions = descriptions

    def track(self, frames: Iterable[np.ndarray]) -> list[Track]:
        """Every track, by its first picture.

        Args:
            frames: (height, width, 3) uint8 RGB at 25 a second, from the video's start. Few are held at a time.
        """
        tracks: list[_Growing] = []
        skipped: list[tuple[int, np.ndarray]] = []
        done: list[_Growing] = []
        before: np.ndarray | None = None
        shape: tuple[int, ...] | None = None
        for index, frame in enumerate(frames):
            thumb = _thumbnail(frame)
            change = 0.0 if before is None else float(np.abs(thumb - before).mean())
            if shape is not None and frame.shape != shape:
                change = np.inf  # pixels of another size: boxes do not go on
            before, shape = thumb, frame.shape
            if change > self.jump:
                for i, picture in skipped:
                    self._extend(tracks, i, picture, self.detector.detect(picture))
                skipped.clear()
                if change > self.cut:
                    done += tracks
                    tracks = []
            elif index % self.detector.stride:
                skipped.append((index, frame))
                continue
            faces = self.detector.detect(frame)
            live = [t for t in tracks if skipped and t.last == skipped[0][0] - 1]
            pairs = self._match(live, faces)
            if len(pairs) == len(live) == len(faces):
                for track, face in pairs:
                    self._fill(track, skipped, index, face)
            else:
                for i, picture in skipped:
                    self._extend(tracks, i, picture, self.detector.detect(picture))
            self._extend(tracks, index, frame, faces, jumped=change > self.jump)
            skipped.clear()
        for i, picture in skipped:
            self._extend(tracks, i, picture, self.detector.detect(picture))
        return sorted((self._finish(t) for t in done + tracks), key=lambda t: (t.start, t.box[0, 0]))

    def _match(self, tracks: list[_Growing], faces: list[Face]) -> list[tuple[_Growing, Face]]:
        """Pairs of track and face, those that overlap most first."""
        scores = [(overlap(t.box, f.box), i, j) for i, t in enumerate(tracks) for j, f in enumerate(faces)]
        pairs: dict[int, int] = {}
        for score, i, j in sorted(scores, reverse=True):
            if score >= self.nearness and i not in pairs and j not in pairs.values():
                pairs[i] = j
        return [(tracks[i], faces[j]) for i, j in pairs.items()]

    def _fill(self, track: _Growing, skipped: list[tuple[int, np.ndarray]], index: int, face: Face) -> None:
        """Points of the pictures between two detections of the same face."""
        first, before = track.last, track.found[track.last]
        for i, picture in skipped:
            share = (i - first) / (index - first)
            box = (1 - share) * before.box + share * face.box
            points = (1 - share) * before.landmarks + share * face.landmarks
            between = self.detector.follow(picture, Face(box, points))
            if between is not None:
                track.found[i] = between

    def _extend(
        self, tracks: list[_Growing], index: int, frame: np.ndarray, faces: list[Face], *, jumped: bool = False
    ) -> None:
        """Give each face of a picture to the track that it continues, or to a new one; tracks that were there last come first."""
        near = [t for t in tracks if index - t.last <= self.patience]
        last = max((t.last for t in near), default=index)
        pairs = self._match([t for t in near if t.last == last], faces)
        taken = {id(face) for _, face in pairs}
        pairs += self._match([t for t in near if t.last < last], [face for face in faces if id(face) not in taken])
        pairs = [
            (t, f) for t, f in pairs if not ((jumped or index - t.last > self.bridge) and self._another(t, frame, f))
        ]
        taken = {id(face) for _, face in pairs}
        new = [(_Growing(), face) for face in faces if id(face) not in taken]
        tracks += [track for track, _ in new]
        for track, face in pairs + new:
            track.found[index] = face
            described = len(track.identities)
            if described < self.descriptions and len(track.found) > 2 * VIDEO_FPS * described:
                identity = self.detector.describe(frame, face)
                if identity is not None:
                    track.identities.append(identity)

    def _another(self, track: _Growing, frame: np.ndarray, face: Face) -> bool:
        """Whether a face is known to be of another person than the track."""
        identity = self.detector.describe(frame, face) if track.identities else None
        return identity is not None and _apart(track.identities, identity) >= self.another * self.detector.same_person

    def _finish(self, track: _Growing) -> Track:
        at = np.array(list(track.found))
        every = np.arange(at[0], at[-1] + 1)
        values = np.stack([np.concatenate([f.box, f.landmarks.ravel()]) for f in track.found.values()])
        values = np.stack([np.interp(every, at, column) for column in values.T], axis=1)
        after = np.searchsorted(at, every)
        gap = at[after] - at[np.maximum(after - 1, 0)] - 1
        return Track(
            start=int(at[0]),
            box=values[:, :4],
            landmarks=smooth(values[:, 4:].reshape(-1, POINTS, 2)),
            seen=np.isin(every, at) | (gap <= self.bridge),
            identity=np.mean(track.identities, axis=0) if track.identities else None,
        )


def smooth(landmarks: np.ndarray, reach: int = 6) -> np.ndarray:
    """Steady points, (F, 68, 2), as BRAVEn's preparation does it: the mean shape of up to `reach` pictures to each
    side (fewer near the ends, the same number to both), moved to where the face is now.
    """
    count = len(landmarks)
    index = np.arange(count)
    side = np.minimum(np.minimum(index, count - 1 - index), reach)
    total = np.concatenate([np.zeros((1, *landmarks.shape[1:])), landmarks.cumsum(0)])
    mean = (total[index + side + 1] - total[index - side]) / (2 * side + 1)[:, None, None]
    return mean - mean.mean(1, keepdims=True) + landmarks.mean(1, keepdims=True)


def _thumbnail(frame: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(cv2.resize(frame, (32, 18), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY).astype(float)


def people(tracks: list[Track], same_person: float, *, shortest: int = VIDEO_FPS) -> list[Person]:
    """Whose tracks are whose.

    Args:
        tracks: of one video.
        same_person: tracks that are never there together and whose identity vectors are nearer than this are one
            person's.
        shortest: pictures; a person seen for fewer is no source.

    Returns:
        People in order of appearance, from left to right.
    """
    groups: list[list[Track]] = []
    for track in sorted(tracks, key=lambda t: (t.start, t.box[0, 0])):
        near = [(_distance(group, track), i) for i, group in enumerate(groups) if group[-1].stop <= track.start]
        distance, best = min(near, default=(np.inf, 0))
        if distance < same_person:
            groups[best].append(track)
        else:
            groups.append([track])
    return [Person(tuple(group)) for group in groups if sum(int(t.seen.sum()) for t in group) >= shortest]


def _distance(group: list[Track], track: Track) -> float:
    known = [t.identity for t in group if t.identity is not None]
    if track.identity is None or not known:
        return float("inf")
    return _apart(known, track.identity)


def _apart(known: Sequence[np.ndarray], identity: np.ndarray) -> float:
    return float(np.linalg.norm(np.mean(known, axis=0) - identity))
