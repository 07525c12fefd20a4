"""How often someone who is heard and not seen is noticed, and what a confidence says of the result.

    python -m experiments.benchmarks.unseen FOLDER [--clips 5] [--skip 0] [--method NAME]

On the mixtures of `avdiff recordings FOLDER` with GRID s1 (real2: with another speaker; real1: one speaker), in noise. Of real2
both speakers are seen, or one of the two, or the first while the second begins half way; of real1 the speaker is seen, or a
picture that stands still. Printed: how often the decision is right, what SI-SDR the visible speakers have with no off-screen
speaker, with one and by that decision, and the rank correlation of the confidence with SI-SDR, of voices and of their seconds.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from scipy.stats import spearmanr
from torch import Tensor

from avdiff.audio.io import resample
from avdiff.audio.rumble import without_rumble
from avdiff.confidence import Confidence, Witnesses, announced
from avdiff.methods import load_method
from avdiff.metrics.si_sdr import si_sdr
from avdiff.priors.store import load_prior
from avdiff.rng import ClipNoise
from avdiff.types import NOISE, OFFSCREEN, SAMPLE_RATE, SPEAKER, Observation
from avdiff.video.decode import VideoFrames
from avdiff.video.faces import DlibFaces
from avdiff.video.talkers import find_talkers, seen_longest
from datamodules.recordings import KNOWN, RATE, RecordedMixture, RecordedMixtures

QUIET = 1e-3  # of a voice's mean power; seconds of less are not scored


@dataclass(frozen=True)
class Case:
    """A mixture with some of its speakers seen.

    Attributes:
        kind: of the case.
        sources: (K, T) at 16 kHz, noise last.
        seen: which of them are seen.
        still: whether their pictures stand still, as of people who do not speak.
    """

    kind: str
    sources: Tensor
    seen: tuple[int, ...]
    still: bool = False

    @property
    def unseen(self) -> bool:
        return self.still or len(self.seen) < len(self.sources) - 1


def cases(mixture: RecordedMixture) -> Iterator[Case]:
    """Everything that a mixture is made into."""
    sources = resample(mixture.sources, RATE, SAMPLE_RATE)
    if len(mixture.faces) == 1:
        yield Case("one, seen", sources, (0,))
        yield Case("one, a face that stands still", sources, (0,), still=True)
        return
    late = sources.clone()
    late[1, : late.shape[1] // 2] = 0
    yield Case("two, both seen", sources, (0, 1))
    yield Case("two, the first seen", sources, (0,))
    yield Case("two, the second seen", sources, (1,))
    yield Case("two, the second late and not seen", late, (0,))


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="with grid/s1, grid/others and esc10")
    parser.add_argument("--clips", type=int, default=5, help="mixtures of two speakers, and as many of one")
    parser.add_argument(
        "--skip", type=int, default=0, help="so many of each before them: UNSEEN was chosen on the first five"
    )
    parser.add_argument("--method", default="local_em")
    options = parser.parse_args()
    console = Console(width=110)
    separator, prior, detector = load_method(options.method), load_prior("speech"), DlibFaces()
    mouths: dict[Path, np.ndarray] = {}

    def mouth(video: Path, frames: int) -> np.ndarray:
        if video not in mouths:
            pictures = list(VideoFrames(video))
            mouths[video] = seen_longest(find_talkers(lambda stage: pictures, detector)).mouth(0, len(pictures))[0]
        crops = mouths[video]
        return crops[np.minimum(np.arange(frames), len(crops) - 1)]

    judged: list[tuple[Case, Confidence, float, float]] = []
    voices: list[tuple[float, float]] = []
    seconds: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory() as work:
        for mixture in RecordedMixtures(options.folder, Path(work), options.skip + options.clips, (KNOWN,)):
            if int(mixture.key.rpartition("-")[2]) < options.skip:
                continue
            for case in cases(mixture):
                heard = without_rumble(case.sources.sum(0))
                frames = -(-len(heard) // 640)
                crops = np.stack([mouth(mixture.faces[k], frames) for k in case.seen])
                if case.still:
                    crops = crops[:, :1].repeat(frames, 1)
                found, lips = [], None
                for offscreen in (0, 1):
                    layout = (SPEAKER,) * len(case.seen) + (OFFSCREEN,) * offscreen + (NOISE,)
                    observation = Observation((mixture.key,), heard[None], torch.from_numpy(crops)[None], None, layout)
                    found.append(separator.separate(observation, rng=ClipNoise(0, (mixture.key,))).sources[0])
                    lips = announced(prior, observation) if lips is None else lips
                witnesses = Witnesses(len(case.seen))
                witnesses.add(found[0], found[1], lips)
                sure = witnesses.judge()
                scores = [[si_sdr(of[i], case.sources[k]) for i, k in enumerate(case.seen)] for of in found]
                judged.append((case, sure, float(np.mean(scores[0])), float(np.mean(scores[1]))))
                if case.still:
                    continue
                for i, k in enumerate(case.seen):
                    voices.append((sure.overall(i), scores[0][i]))
                    truth = case.sources[k]
                    for second in range(len(heard) // SAMPLE_RATE):
                        part = slice(second * SAMPLE_RATE, (second + 1) * SAMPLE_RATE)
                        if truth[part].square().mean() > QUIET * truth.square().mean():
                            score = float(si_sdr(found[0][i, part], truth[part]))
                            seconds.append((float(sure.voices[i, second]), score))
                console.print(f"{mixture.key} {case.kind}: {sure.share:.1f} dB")
    table = Table("case", "mixtures", "said to be unseen", "SI-SDR, 0", "1", "auto", box=None)
    rows = {
        kind: [row for row in judged if row[0].kind == kind] for kind in dict.fromkeys(row[0].kind for row in judged)
    }
    rows["all with someone unseen"] = [row for row in judged if row[0].unseen]
    rows["all with everyone seen"] = [row for row in judged if not row[0].unseen]
    for kind, of in rows.items():
        said = [sure.someone_unseen for _, sure, _, _ in of]
        speaking = [row for row in of if not row[0].still]
        means = [np.mean([row[i] for row in speaking]) if speaking else np.nan for i in (2, 3)]
        auto = np.mean([row[3 if row[1].someone_unseen else 2] for row in speaking]) if speaking else np.nan
        table.add_row(kind, str(len(of)), str(sum(said)), *(f"{value:.2f}" for value in (*means, auto)))
    console.print(table)
    for name, pairs in (("voices", voices), ("seconds", seconds)):
        known = np.array([pair for pair in pairs if np.isfinite(pair).all()])
        console.print(
            f"rank correlation of confidence and SI-SDR, {len(known)} {name}: {spearmanr(known).statistic:.2f}"
        )


if __name__ == "__main__":
    main()
