"""The people of a video and their mouths: the one recipe by which separation and the preparation of training data cut them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from avdiff.video.faces import FaceDetector
from avdiff.video.mouth import Room, mouth_crops, on_timeline, room_in_memory
from avdiff.video.tracking import FaceTracker, Person, people


@dataclass(frozen=True)
class Talker:
    """A person of a video and the mouth in every track: (F, 96, 96) uint8 each."""

    person: Person
    crops: list[np.ndarray]

    @property
    def pictures(self) -> int:
        """In how many pictures the face was seen."""
        return sum(int(track.seen.sum()) for track in self.person.tracks)

    def mouth(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """Crops of pictures start <= i < stop, (F, 96, 96) uint8, and in which of them the face was seen, (F,) bool."""
        return on_timeline(self.person, self.crops, start, stop)


def find_talkers(
    frames: Callable[[str], Iterable[np.ndarray]], detector: FaceDetector, room: Room = room_in_memory
) -> list[Talker]:
    """Everyone who is seen for a second or longer, in order of appearance.

    Args:
        frames: told what for, gives the pictures of the video, (height, width, 3) uint8 RGB at 25 a second, from its start.
        detector: of faces.
        room: for the crops: see `mouth_crops`.
    """
    found = people(FaceTracker(detector).track(frames("looking for faces")), detector.same_person)
    crops = mouth_crops(frames("cutting mouths"), found, room) if found else []
    return [Talker(person, mouths) for person, mouths in zip(found, crops, strict=True)]


def seen_longest(talkers: Sequence[Talker]) -> Talker:
    """Of one talker or more, the first of those seen in most pictures."""
    return max(talkers, key=lambda talker: talker.pictures)
