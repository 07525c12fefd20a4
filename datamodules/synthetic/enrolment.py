"""Enrolment of the embedded voices: half a minute of each, with sentences and faces that no test has, and who speaks where.

<folder>/<voice>/train/    8 clips of 4 s: audio.npy, mouth.npy, phonemes.npy, meta.jsonl
<folder>/<voice>/val/      2 more
<folder>/talkers.json      {"test-speakers2-000": ["m7", "linda"], ...}
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from datamodules.synthetic.benchmark import CONDITIONS, NATURAL, EmbeddedBenchmark, cast, conditions_of
from datamodules.synthetic.corpus import SHAPES, Made, Progress, fill, talker
from datamodules.synthetic.talkers import CONTINUOUS, ClipSpec, draw_spec
from datamodules.synthetic.voices import VARIANTS

CLIPS = {"train": 8, "val": 2}


def folder_of(voice: str) -> str:
    """Name of a voice's folder."""
    return voice.replace(" ", "_")


def enrolment_spec(voice: str, index: int) -> ClipSpec:
    """A clip of a voice of any split that says a sentence of training, with a face of training: no test has either."""
    return draw_spec(f"enrolment-{voice}-{index}", "train", kind=CONTINUOUS, variant=voice)


@dataclass(frozen=True)
class _Enrolment:
    voice: str
    first: int

    def __call__(self, index: int) -> Made:
        return talker(enrolment_spec(self.voice, self.first + index))


def enrolments(folder: Path, split: str, workers: int | None = None, progress: Progress | None = None) -> Sequence[str]:
    """Make the enrolments of a split's voices, or what of them is missing.

    Args:
        folder: to write to.
        split: "test" or "val": whose benchmark they are for.
        workers: processes; None for one a core.
        progress: called with (voices there, voices wanted).

    Returns:
        Names of the voices' folders.
    """
    voices = VARIANTS[split]
    for done, voice in enumerate(voices, 1):
        first = 0
        for part, clips in CLIPS.items():
            fill(folder / folder_of(voice) / part, SHAPES, _Enrolment(voice, first), clips, workers, None)
            first += clips
        if progress:
            progress(done, len(voices))
    (folder / "talkers.json").write_text(json.dumps(who_speaks(split), indent=1) + "\n", encoding="utf-8")
    return [folder_of(voice) for voice in voices]


def who_speaks(split: str) -> dict[str, list[str]]:
    """The voices of every mixture of the benchmark, in the order of its layout."""
    benchmark = EmbeddedBenchmark(split, [name for name in conditions_of(split) if name not in NATURAL])
    talkers = {}
    for entry in benchmark.entries():
        _, name, number = entry.key.rsplit("-", 2)
        assert name in CONDITIONS
        talkers[entry.key] = [folder_of(spec.voice.variant) for spec in cast(split, name, int(number))]
    return talkers
