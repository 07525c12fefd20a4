"""Mixtures drawn anew for every batch: what systems are trained on that learn to separate from mixtures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from avdiff.audio.mixing import PAPER_LEVELS, Levels, mix, power
from avdiff.errors import UserError, at_least, ordered, share
from avdiff.rng import stream_seed
from avdiff.types import NOISE, SAMPLES_PER_FRAME, SPEAKER, VIDEO_FPS
from datamodules.clips import padded
from datamodules.parts import Parts, Pool, Source
from datamodules.sampling import Draw, Draws

SILENT = -60.0  # dB of full scale: a crop whose mean power is below is drawn again
TRIES = 100
PEAK = 0.9  # of a mixture, at most

Batch = dict[str, Any]


@dataclass(frozen=True)
class MixtureDraw(Draw):
    """What a sampler asks for: a mixture of so many talkers. All else follows from the seed."""

    talkers: int


class MixtureDraws(Draws):
    """Draws of mixtures, as many talkers in every mixture of a batch, and of the batches of all processes at that step.

    Args:
        mixtures: an epoch.
        talkers: fewest and most.
        batch_size, seed, rank, processes, epoch, done: see `Draws`.
    """

    def __init__(
        self,
        mixtures: int,
        talkers: tuple[int, int],
        batch_size: int,
        seed: int = 0,
        rank: int = 0,
        processes: int = 1,
        epoch: int = 0,
        done: int = 0,
    ) -> None:
        self.talkers, step = talkers, batch_size * processes
        # a run that goes on with other batches begins at the next whole one: a batch is of one number of talkers
        super().__init__(mixtures, batch_size, seed, rank, processes, epoch, -(-done // step) * step)

    def __iter__(self) -> Iterator[Draw]:
        fewest, most = self.talkers
        for place in range(self.done + self.rank, self.usable, self.num_replicas):
            chosen = stream_seed(self.seed, "talkers", self.epoch, place // self.step)
            seed = stream_seed(self.seed, "mixture", self.epoch, place)
            yield MixtureDraw(place, seed, fewest + chosen % (most - fewest + 1))


class DrawnMixtures(Dataset[Batch]):
    """The mixture of a draw, as a dict.

    mixture     (T,) the sum of
    sources     (K + 1, T), K talkers and noise, as they are in it
    visual      (K, F, ...) mouth crops uint8, or features; zero where nobody is seen
    seen        (K, F) bool, all False for a talker whose video is dropped or missing: these come last
    layout      one role a source, as if all were seen

    Args:
        speech, noise: clips to draw from.
        frames: of a mixture, at 25 fps. Shorter clips are padded with silence at their end.
        levels: ranges of SIR and SNR by number of talkers.
        dropout: probability that the video of a talker is dropped.
        unseen: talkers of a mixture who may lose theirs; one always keeps it.
        loudness: range of a mixture's root mean square, dB of full scale.
    """

    def __init__(
        self,
        speech: Pool,
        noise: Pool,
        frames: int,
        levels: Mapping[int, Levels],
        dropout: float,
        unseen: int,
        loudness: tuple[float, float],
    ) -> None:
        self.speech, self.noise, self.frames, self.levels = speech, noise, frames, levels
        self.dropout, self.unseen, self.loudness = dropout, unseen, loudness

    def __getitem__(self, draw: MixtureDraw) -> Batch:
        rng = np.random.default_rng(draw.seed)
        talkers: list[_Crop] = []
        for _ in range(draw.talkers):
            talkers.append(self._crop(self.speech, rng, {name for talker in talkers for name in talker.people}))
        noise = self._crop(self.noise, rng, set())
        for talker in self._dropped(talkers, rng):
            talker.seen[:] = False
        talkers.sort(key=lambda talker: not talker.seen.any())
        speech = torch.stack([talker.audio for talker in talkers])
        sources = mix(speech, noise.audio, *self.levels[draw.talkers].draw(rng.uniform))
        level = 10 ** (rng.uniform(*self.loudness) / 20) / power(sources.sum(0)).sqrt()
        sources = sources * torch.minimum(level, PEAK / sources.sum(0).abs().max())
        return {
            "mixture": sources.sum(0),
            "sources": sources,
            "visual": torch.from_numpy(np.stack([talker.visual() for talker in talkers])),
            "seen": torch.from_numpy(np.stack([talker.seen for talker in talkers])),
            "layout": (*[SPEAKER] * draw.talkers, NOISE),
        }

    def _dropped(self, talkers: Sequence[_Crop], rng: np.random.Generator) -> list[_Crop]:
        """Those who lose their video."""
        chosen = [talker for talker in talkers if rng.random() < self.dropout and talker.seen.any()]
        already = sum(not talker.seen.any() for talker in talkers)
        return chosen[: max(0, min(self.unseen, len(talkers) - 1) - already)]

    def _crop(self, pool: Pool, rng: np.random.Generator, taken: set[str]) -> _Crop:
        for _ in range(TRIES):
            parts, clip = pool.draw(rng)
            people = set(parts.people[clip].tolist())
            spare = max(0, int(parts.frames[clip]) - self.frames)
            start = int(rng.integers(spare + 1))
            if people & taken:
                continue
            audio = torch.from_numpy(padded(parts.audio(clip, start, self.frames), self.frames * SAMPLES_PER_FRAME))
            if power(audio) >= 10 ** (SILENT / 10):
                return _Crop(parts, clip, start, self.frames, people, audio)
        raise UserError(
            f"{TRIES} clips were drawn for one mixture and all were near silent (below {SILENT:g} dB) or of people who are in it "
            "already; give clips of more people (those whose speaker is not named count as one), or fewer talkers"
        )


class _Crop:
    """A stretch of a clip."""

    def __init__(self, parts: Parts, clip: int, start: int, frames: int, people: set[str], audio: Tensor) -> None:
        self.parts, self.clip, self.start, self.frames = parts, clip, start, frames
        self.people, self.audio = people, audio
        self.seen = padded(parts.seen(clip, start, frames), frames)

    def visual(self) -> np.ndarray:
        """(F, ...), zero where it is not seen at all."""
        if not self.seen.any():
            return np.zeros((self.frames, *self.parts.shape), self.parts.dtype)
        return padded(self.parts.visual(self.clip, self.start, self.frames), self.frames)


def stacked(items: Sequence[Batch]) -> Batch:
    """A batch of mixtures of one layout: tensors get a batch axis, the layout stays one."""
    batch: Batch = {name: torch.stack([item[name] for item in items]) for name in items[0] if name != "layout"}
    return {**batch, "layout": items[0]["layout"]}


class TrainingMixtures:
    """What mixtures to train on are drawn from, and how.

    A mixture is a function of (seed, epoch, place in the epoch), so processes draw different ones, and a run that was stopped
    goes on with those that it would have had.

    Args:
        speech: talkers.
        noise: what else there is.
        talkers: fewest and most in a mixture; as many in each of a batch. FlowAVSE is trained for one number (SSNAPS).
        seconds: of a mixture.
        mixtures: an epoch.
        val_mixtures: for validation, always the same, with no video dropped.
        dropout: probability that a talker's video is dropped.
        unseen: talkers of a mixture who may lose theirs; one always keeps it. SSNAPS has at most one who is not seen.
        loudness: range of a mixture's root mean square, dB of full scale. SSNAPS is silent.
        levels: ranges of SIR and SNR by number of talkers; None for SSNAPS's.
    """

    def __init__(
        self,
        speech: Sequence[Source],
        noise: Sequence[Source],
        talkers: tuple[int, int] = (1, 3),
        seconds: float = 4.0,
        mixtures: int = 20_000,
        val_mixtures: int = 150,
        dropout: float = 0.0,
        unseen: int = 1,
        loudness: tuple[float, float] = (-35.0, -15.0),
        levels: dict[int, Levels] | None = None,
    ) -> None:
        self.speech, self.noise, self.talkers, self.mixtures = speech, noise, talkers, mixtures
        self.frames, self.val_mixtures, self.dropout, self.unseen = (
            round(seconds * VIDEO_FPS),
            val_mixtures,
            dropout,
            unseen,
        )
        self.loudness, self.levels = loudness, PAPER_LEVELS if levels is None else levels
        at_least(1 / VIDEO_FPS, seconds=seconds)
        at_least(1, mixtures=mixtures, val_mixtures=val_mixtures)
        at_least(0, unseen=unseen)
        share(dropout=dropout)
        ordered(loudness=loudness)
        fewest, most = talkers
        if not 1 <= fewest <= most:
            raise UserError(f"talkers is {talkers}; give the fewest and the most, such as [1, 3]")
        if missing := [count for count in range(fewest, most + 1) if count not in self.levels]:
            raise UserError(f"levels has no ranges for {missing[0]} talkers; it has {', '.join(map(str, self.levels))}")
        if not speech or not noise:
            raise UserError("training mixtures need at least one source of speech and one of noise")

    def prepare(self) -> None:
        """Make what is made on first use."""
        for source in (*self.speech, *self.noise):
            source.prepare()

    def open(self, split: str) -> DrawnMixtures:
        """Mixtures of the clips of "train" or "val".

        Raises:
            UserError: there are none.
        """
        speech, noise = (
            Pool([(source.open(split), source.repeat if split == "train" else 1) for source in sources])
            for sources in (self.speech, self.noise)
        )
        if len({(parts.shape, parts.dtype) for parts, _ in speech.parts}) > 1:
            raise UserError(
                "some of the speech has mouth crops and some has features, or of another size; give all the same"
            )
        dropout = self.dropout if split == "train" else 0.0
        return DrawnMixtures(speech, noise, self.frames, self.levels, dropout, self.unseen, self.loudness)

    def validation(self, batch_size: int, processes: int = 1) -> list[list[MixtureDraw]]:
        """The draws of each validation batch: the same mixtures whatever the size of a batch, each number of talkers alike.

        Processes that take turns have as many talkers at every turn: where their batches do not come out even, some are taken
        twice.
        """
        fewest, most = self.talkers
        counts = range(fewest, most + 1)
        batches = []
        for talkers in counts:
            share = [
                MixtureDraw(i, stream_seed("validation", i), talkers)
                for i in range(talkers - fewest, self.val_mixtures, len(counts))
            ]
            own = [share[start : start + batch_size] for start in range(0, len(share), batch_size)]
            batches += [own[turn % len(own)] for turn in range(-(-len(own) // processes) * processes)]
        return batches


class ValidationBatches(Dataset[Batch]):
    """One item a batch, because a batch has one layout; `place` is its place, `weight` its mixtures, 0 where they come again.

    Args:
        mixtures: that are drawn.
        draws: of each batch.
    """

    def __init__(self, mixtures: DrawnMixtures, draws: Sequence[Sequence[MixtureDraw]]) -> None:
        self.mixtures, self.draws = mixtures, draws

    def __len__(self) -> int:
        return len(self.draws)

    def __getitem__(self, index: int) -> Batch:
        draws = self.draws[index]
        place = self.draws.index(draws)
        batch = stacked([self.mixtures[draw] for draw in draws])
        return {**batch, "place": place, "weight": len(draws) if place == index else 0}
