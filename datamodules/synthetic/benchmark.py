"""The fixed lists of mixtures of the embedded corpus: what every method here is measured on.

Levels are SSNAPS's (`avdiff.audio.mixing.PAPER_LEVELS`); off-screen talkers count as speakers there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from avdiff.audio.mixing import PAPER_LEVELS, mix, power
from avdiff.errors import UserError
from avdiff.files import load_cached, whole
from avdiff.types import NOISE, OFFSCREEN, SPEAKER, Role
from datamodules.mixtures import Entry, Mixture, MixtureList
from datamodules.synthetic.corpus import cache_folder
from datamodules.synthetic.natural import MISSING, VOICES, draw_natural_spec, installed, make_natural_clip
from datamodules.synthetic.noises import UNMATCHED, first_kind, make_noise
from datamodules.synthetic.seeds import stream
from datamodules.synthetic.talkers import CONTINUOUS, FACES, GRID, ClipSpec, draw_spec, make_clip
from datamodules.synthetic.voices import VARIANTS


@dataclass(frozen=True)
class Condition:
    """What the mixtures of a list have in common.

    Attributes:
        speakers: seen and heard.
        offscreen: heard only.
        grid: every talker says one whole GRID sentence, whose transcript is known; else continuous speech.
        unmatched: noise of kinds that are held out of all training.
        natural: natural voices, which have to be installed; else those of the synthesiser that everyone has.
    """

    speakers: int
    offscreen: int = 0
    grid: bool = False
    unmatched: bool = False
    natural: bool = False

    @property
    def layout(self) -> tuple[Role, ...]:
        """One role a source."""
        return (*[SPEAKER] * self.speakers, *[OFFSCREEN] * self.offscreen, NOISE)


CONDITIONS: dict[str, Condition] = {
    "speakers1": Condition(1),
    "speakers2": Condition(2),
    "speakers3": Condition(3),
    "offscreen2": Condition(1, offscreen=1),
    "offscreen3": Condition(2, offscreen=1),
    "unmatched1": Condition(1, unmatched=True),
    "unmatched2": Condition(2, unmatched=True),
    "grid1": Condition(1, grid=True),
    "grid2": Condition(2, grid=True),
    "natural1": Condition(1, natural=True),
    "natural2": Condition(2, natural=True),
    "natural3": Condition(3, natural=True),
}
NATURAL = tuple(name for name, condition in CONDITIONS.items() if condition.natural)


def conditions_of(split: str) -> list[str]:
    """The lists of a split."""
    return [name for name, of in CONDITIONS.items() if split == "test" or not of.unmatched]


class EmbeddedBenchmark(MixtureList):
    """Mixtures of 4 s at 16 kHz, the same for everyone; made when asked for and kept in the cache.

    Args:
        split: "test"; "val" for all choices. Validation has no unmatched lists: choices must not see those noises.
        conditions: names in CONDITIONS; None for all that the split has, without those of natural voices where these are not
            installed: `left_out` then says so.
        clips: mixtures a condition. The first 5 of 50 are the 5 of 5.
        cache: folder; None for `corpus.cache_folder()`.

    Raises:
        UserError: a list of natural voices was asked for, which are not installed.
    """

    def __init__(
        self, split: str = "test", conditions: Sequence[str] | None = None, clips: int = 50, cache: Path | None = None
    ) -> None:
        available = conditions_of(split)
        if split not in ("test", "val"):
            raise ValueError(f"the benchmark was asked for split {split!r}; it has 'test' and 'val'")
        if not isinstance(clips, int) or clips < 1:
            raise ValueError(f"the benchmark was asked for {clips} clips a condition; ask for at least 1")
        if wrong := [name for name in conditions or () if name not in available]:
            raise ValueError(f"{split} has no condition {wrong[0]!r}; it has {', '.join(available)}")
        self.left_out = "" if conditions or installed() else f"left out: {', '.join(NATURAL)} ({MISSING})"
        if natural := [name for name in conditions or () if name in NATURAL and not installed()]:
            raise UserError(f"the list {natural[0]} needs natural voices: {MISSING}")
        self.split, self.clips = split, clips
        self.conditions = tuple(conditions or (name for name in available if installed() or name not in NATURAL))
        self.cache = (Path(cache) if cache else cache_folder()) / f"benchmark_{split}"

    def entries(self) -> Sequence[Entry]:
        return [
            Entry(f"{self.split}-{name}-{index:03d}", CONDITIONS[name].layout, name)
            for name in self.conditions
            for index in range(self.clips)
        ]

    def __getitem__(self, index: int) -> Mixture:
        entry = self.entries()[index]
        name, number = self._place(index)
        file = self.cache / f"{entry.key}.npz"
        kept = load_cached(file)
        if set(kept) != {"sources", "mouth", "transcripts"}:
            sources, mouth, transcripts = _make(self.split, name, number)
            kept = {"sources": sources, "mouth": mouth, "transcripts": transcripts}
            with whole(file) as partial, partial.open("wb") as out:
                np.savez(out, **kept)  # type: ignore[arg-type]
        parts, film = torch.from_numpy(kept["sources"]), torch.from_numpy(kept["mouth"])
        said = tuple(map(str, kept["transcripts"]))
        return Mixture(entry.key, name, entry.layout, parts, parts.sum(0), film, transcripts=said)

    def _place(self, index: int) -> tuple[str, int]:
        """Condition of a mixture, and its number there."""
        return self.conditions[index // self.clips], index % self.clips

    def kinds_of_noise(self) -> dict[str, str]:
        """Clip id -> the kind of noise in it."""
        return {entry.key: first_kind(*_noise(self.split, *self._place(i))) for i, entry in enumerate(self.entries())}


def cast(split: str, name: str, number: int) -> list[ClipSpec]:
    """Who speaks in a mixture: talkers of different voices and faces."""
    condition, rng = CONDITIONS[name], stream("cast", split, name, number)
    talkers = condition.speakers + condition.offscreen
    voices, draw = (VOICES, draw_natural_spec) if condition.natural else (VARIANTS, draw_spec)
    variants, faces = rng.permutation(voices[split]), rng.permutation(FACES[split])
    kind = GRID if condition.grid else CONTINUOUS
    return [
        draw(f"{name}-{number}-{k}", split, kind=kind, variant=str(variants[k]), face=int(faces[k]))
        for k in range(talkers)
    ]


def _make(split: str, name: str, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sources as they are in the mixture, mouths of the visible speakers, transcripts of GRID sentences."""
    condition = CONDITIONS[name]
    make = make_natural_clip if condition.natural else make_clip
    clips = [make(spec) for spec in cast(split, name, number)]
    noise = make_noise(*_noise(split, name, number))
    speech = torch.from_numpy(np.stack([clip.audio for clip in clips]))
    sources = _levels(speech, torch.from_numpy(noise.audio), stream("levels", split, name, number))
    mouth = np.stack([clip.mouth for clip in clips[: condition.speakers]])
    transcripts = [clip.transcript for clip in clips] if condition.grid else []
    return sources.numpy(), mouth, np.array(transcripts, dtype=np.str_)


def _noise(split: str, name: str, number: int) -> tuple[str, int]:
    """Split and index of a mixture's noise: every list has clips of its own."""
    return UNMATCHED if CONDITIONS[name].unmatched else split, 1000 * (1 + list(CONDITIONS).index(name)) + number


def _levels(speech: Tensor, noise: Tensor, rng: np.random.Generator) -> Tensor:
    """Talkers (K, T) and noise (T,) at the ratios of their list: (K + 1, T)."""
    levels = PAPER_LEVELS[len(speech)]
    sir = rng.uniform(*levels.sir) if len(speech) == 2 else levels.sir[0]
    # One number is drawn for each range of SNR, used or not: the lists that exist were made so.
    snrs = {1: rng.uniform(*PAPER_LEVELS[1].snr), 2: rng.uniform(*PAPER_LEVELS[2].snr), 3: PAPER_LEVELS[3].snr[0]}
    sources = mix(speech, noise, sir, snrs[len(speech)])
    loud = 10 ** (rng.uniform(-10, 0) / 20) * 0.06 / power(sources.sum(0)).sqrt()
    return sources * torch.minimum(loud, 0.9 / sources.sum(0).abs().max())
