"""One call from a recording to its voices, for programs: what `avdiff separate` does for people."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from avdiff.extras import check
from avdiff.methods import load_method
from avdiff.recording import SeparationReport, default_folder, separate_file, separate_mixture
from avdiff.separators.base import Separator
from avdiff.video.decode import probe
from avdiff.video.faces import FaceDetector


def separate(
    recording: Path | str,
    folder: Path | str | None = None,
    *,
    faces: Sequence[Path | str] = (),
    mouths: Sequence[Path | str] = (),
    offscreen: int = 0,
    method: str | Separator = "local_em",
    seed: int = 0,
    detector: FaceDetector | None = None,
    device: torch.device | str = "cpu",
) -> SeparationReport:
    """Separate a recording into one WAV a voice and one for the noise; `avdiff.recording` lists the files.

    Args:
        recording: a video in which the speakers are seen, or with `faces` or `mouths` a file with sound.
        folder: to write to. None: NAME_separated in the current folder.
        faces: one video a speaker, each of which starts when the recording starts.
        mouths: the same, or behind these, of crops of the mouth.
        offscreen: speakers who are heard and not seen, 0 or 1.
        method: a name of experiments/methods, a YAML file, or a separator such as `load_method` gives.
        seed: of the sampling noise.
        detector: of faces. None: the one that works without a download.
        device: that the method runs on.

    Raises:
        UserError: the recording cannot be separated; the sentence says why and what to change.
    """
    check("video")
    recording = Path(recording)
    separator = (load_method(method) if isinstance(method, str) else method).to(device)
    folder = default_folder(recording) if folder is None else folder
    if faces or mouths or (offscreen and not probe(recording).width):  # sound alone
        return separate_mixture(
            recording,
            faces,
            separator,
            folder,
            mouths=mouths,
            offscreen=offscreen,
            seed=seed,
            detector=detector,
            device=device,
        )
    return separate_file(recording, separator, folder, offscreen=offscreen, seed=seed, detector=detector, device=device)
