"""Which detector looks for faces: by name, or the best that is at hand."""

from __future__ import annotations

from avdiff.errors import UserError
from avdiff.video.faces import DlibFaces, FaceDetector
from avdiff.video.mesh import DETECTOR, MESH, MediaPipeFaces, model

AUTO, MEDIAPIPE, DLIB = "auto", "mediapipe", "dlib"
CHOICES = (AUTO, MEDIAPIPE, DLIB)


def missing() -> str | None:
    """One sentence on what `MediaPipeFaces` lacks here; None if it has all."""
    try:
        for name in (DETECTOR, MESH):
            model(name)
    except UserError as error:
        return str(error)
    return None


def resolve(name: str = AUTO) -> str:
    """Which detector a name of `CHOICES` stands for here: "mediapipe" or "dlib".

    Raises:
        UserError: there is none of this name, or its models are missing.
    """
    if name not in CHOICES:
        raise UserError(f"--faces {name} is no detector; give one of {', '.join(CHOICES)}")
    lack = missing()
    if name == MEDIAPIPE and lack:
        raise UserError(lack)
    return (DLIB if lack else MEDIAPIPE) if name == AUTO else name


def find_detector(name: str = AUTO) -> FaceDetector:
    """A detector of faces. "auto" is MediaPipe's where its models are installed, else dlib's, which then says so in its notes.

    Raises:
        UserError: see `resolve`.
    """
    if resolve(name) == MEDIAPIPE:
        return MediaPipeFaces()
    lack = missing() if name == AUTO else None
    return DlibFaces(notes=(f"Faces were looked for with dlib, which sees frontal ones only. {lack}.",) if lack else ())
