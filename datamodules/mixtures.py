"""Mixtures: lists of them to separate, and the DataModule of these and of mixtures to train on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from avdiff.audio.mixing import scale_to_ratio
from avdiff.errors import UserError
from avdiff.types import NOISE, OFFSCREEN, SAMPLE_RATE, SPEAKER, Observation, Role
from datamodules.sampling import VALIDATION_BATCH, EveryNth, TrainingClips
from datamodules.training_mixtures import DrawnMixtures, MixtureDraws, TrainingMixtures, ValidationBatches, stacked


@dataclass(frozen=True)
class Mixture:
    """A mixture whose parts are known.

    Attributes:
        key: clip id, unlike any other of its list.
        condition: the condition of a benchmark that it belongs to.
        layout: one role a source.
        sources: (K, T) float32 as they are in the mixture.
        mixture: (T,) their sum, or as it was recorded; NaN all over where a list that only serves for scoring does not give it.
        mouth: (K_visible, F, 96, 96) uint8, or features (K_visible, F, D) of it; None without a visible speaker.
        seen: (K_visible, F) bool, where a method may see the mouth; None where it always may.
        transcripts: what each talker says, where it is known.
    """

    key: str
    condition: str
    layout: tuple[Role, ...]
    sources: Tensor
    mixture: Tensor
    mouth: Tensor | None = None
    seen: Tensor | None = None
    transcripts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Entry:
    """What is known of a mixture before it is made.

    Attributes:
        key, layout: of `Mixture`.
        condition: likewise; "" where the list has only one.
    """

    key: str
    layout: tuple[Role, ...]
    condition: str = ""


class MixtureList(ABC):
    """A fixed list of mixtures, made when they are asked for."""

    @abstractmethod
    def entries(self) -> Sequence[Entry]:
        """Every mixture of the list, in its order."""

    @abstractmethod
    def __getitem__(self, index: int) -> Mixture:
        """The mixture of entry `index`."""

    def version(self, index: int) -> str:
        """What tells the mixture of entry `index` from another of its key, without making it.

        Estimates and scores of another are not taken for its own. Here it is the class of the list and its settings that
        are texts or numbers, but for `clips`: a list that reads files says what they hold.
        """
        told = {
            name: value
            for name, value in sorted(vars(self).items())
            if name != "clips" and isinstance(value, str | int | float | None)
        }
        return f"{type(self).__qualname__} {told}"

    def scenes(self) -> dict[str, str]:
        """Clip id -> the scene that its noise is of.

        Raises:
            UserError: the list does not say it.
        """
        raise UserError("this list does not say what scenes its noise is of; leave --scenes out")


class ToyMixtures(MixtureList):
    """Two white Gaussian sources of one level, so that the posterior is known: x_k | y ~ N(y / 2, std² / 2).

    Every second clip has one of them alone, so that layouts vary.

    Args:
        clips: how many.
        samples: length of a clip.
        std: of each source.
        seed: of all samples.
    """

    def __init__(self, clips: int = 8, samples: int = 64, std: float = 0.1, seed: int = 0) -> None:
        self.clips, self.samples, self.std, self.seed = clips, samples, std, seed

    def entries(self) -> Sequence[Entry]:
        return [Entry(f"toy/{i:03d}", (NOISE,) if i % 2 else (OFFSCREEN, NOISE)) for i in range(self.clips)]

    def __getitem__(self, index: int) -> Mixture:
        entry = self.entries()[index]
        white = torch.randn(2, self.samples, generator=torch.Generator().manual_seed(self.seed * 100_003 + index))
        sources = self.std * white[: len(entry.layout)]
        return Mixture(entry.key, "toy", entry.layout, sources, sources.sum(0))


class Changed(MixtureList):
    """Another list, each mixture changed in some way.

    Args:
        mixtures: the list.
    """

    def __init__(self, mixtures: MixtureList) -> None:
        self.mixtures = mixtures

    def entries(self) -> Sequence[Entry]:
        return self.mixtures.entries()

    def __getitem__(self, index: int) -> Mixture:
        return self.change(self.mixtures[index])

    def version(self, index: int) -> str:
        return f"{super().version(index)} of {self.mixtures.version(index)}"

    def scenes(self) -> dict[str, str]:
        return self.mixtures.scenes()

    @abstractmethod
    def change(self, mixture: Mixture) -> Mixture:
        """What the list has in its place."""


class FirstMixtures(MixtureList):
    """The first mixtures of every condition of another list.

    Args:
        mixtures: the list.
        clips: so many of a condition, or all where it has fewer.
    """

    def __init__(self, mixtures: MixtureList, clips: int) -> None:
        self.mixtures = mixtures
        by_condition: dict[str, list[int]] = {}
        for index, entry in enumerate(mixtures.entries()):
            by_condition.setdefault(entry.condition, []).append(index)
        self.places = sorted(index for places in by_condition.values() for index in places[:clips])

    def entries(self) -> Sequence[Entry]:
        entries = self.mixtures.entries()
        return [entries[index] for index in self.places]

    def __getitem__(self, index: int) -> Mixture:
        return self.mixtures[self.places[index]]

    def version(self, index: int) -> str:
        return self.mixtures.version(self.places[index])

    def scenes(self) -> dict[str, str]:
        return self.mixtures.scenes()


class WrongLips(Changed):
    """A list whose lips are taken away, or given to another of its talkers: what a method owes to them.

    Args:
        mixtures: the list.
        lips: "withheld", or "swapped" among the visible talkers of each mixture.

    Raises:
        UserError: lips of a talker who is seen alone are to be swapped.
    """

    def __init__(self, mixtures: MixtureList, lips: Literal["withheld", "swapped"]) -> None:
        if lips not in ("withheld", "swapped"):
            raise ValueError(f"lips is {lips!r}; expected 'withheld' or 'swapped'")
        super().__init__(mixtures)
        self.lips = lips
        if lips == "swapped" and (lone := [e.key for e in mixtures.entries() if e.layout.count(SPEAKER) < 2]):
            raise UserError(
                f"lips can be swapped only between two visible talkers, and {lone[0]} has fewer; "
                "choose lists with two or more, such as --condition speakers2"
            )

    def change(self, mixture: Mixture) -> Mixture:
        if mixture.mouth is None:
            return mixture
        if self.lips == "swapped":
            seen = None if mixture.seen is None else mixture.seen.roll(1, 0)
            return replace(mixture, mouth=mixture.mouth.roll(1, 0), seen=seen)
        return replace(mixture, seen=torch.zeros(mixture.mouth.shape[:2], dtype=torch.bool))


class BlankFeatures(Changed):
    """A list with features that say nothing in place of mouths: for the time that networks take which read features.

    Args:
        mixtures: the list.
        dim: of a feature vector; BRAVEn Large has 1,024.
    """

    def __init__(self, mixtures: MixtureList, dim: int = 1024) -> None:
        super().__init__(mixtures)
        self.dim = dim

    def change(self, mixture: Mixture) -> Mixture:
        if mixture.mouth is None:
            return mixture
        return replace(mixture, mouth=torch.zeros(*mixture.mouth.shape[:2], self.dim))


class AtLevels(Changed):
    """A list at levels of its own: what a method owes to levels that it expects.

    Args:
        mixtures: the list; every source of a mixture must be heard.
        snr: of the talkers together over the noise, in dB.
        step: so many dB every talker is below the one before.
    """

    def __init__(self, mixtures: MixtureList, snr: float, step: float = 0.0) -> None:
        super().__init__(mixtures)
        self.snr, self.step = snr, step

    def change(self, mixture: Mixture) -> Mixture:
        noise = mixture.layout.index(NOISE)
        talkers = [k for k in range(len(mixture.layout)) if k != noise]
        sources = mixture.sources.clone()
        for below, k in enumerate(talkers):
            sources[k] = scale_to_ratio(sources[k], sources[talkers[0]], below * self.step)
        sources[noise] = scale_to_ratio(sources[noise], sources[talkers].sum(0), self.snr)
        return replace(mixture, sources=sources, mixture=sources.sum(0))


def collate(mixtures: Sequence[Mixture], sample_rate: int = SAMPLE_RATE, truth: bool = False) -> Observation:
    """What a method may see of mixtures of one layout and length; with `truth`, what an oracle is told too."""
    layouts, lengths = {m.layout for m in mixtures}, {m.mixture.shape[-1] for m in mixtures}
    if len(layouts) > 1 or len(lengths) > 1:
        raise ValueError(
            f"one batch was to hold mixtures of layouts {sorted(layouts)} and of {sorted(lengths)} samples; "
            "it takes one layout and one length: use batch_size 1"
        )
    if unknown := [m.key for m in mixtures if not m.mixture.isfinite().all()]:
        raise UserError(
            f"the list gives no mixture of {unknown[0]} that could be separated; give one without NaN in it"
        )
    mouths = [m.mouth for m in mixtures if m.mouth is not None]
    seen = [m.seen for m in mixtures if m.seen is not None]
    return Observation(
        key=tuple(m.key for m in mixtures),
        mixture=torch.stack([m.mixture for m in mixtures]),
        visual=torch.stack(mouths) if mouths else None,
        visual_mask=torch.stack(seen) if seen else None,
        layout=mixtures[0].layout,
        sample_rate=sample_rate,
        truth=torch.stack([m.sources for m in mixtures]) if truth else None,
    )


class _Batches(Dataset[Observation]):
    """One item a batch: a batch has one layout, which a sampler of single clips could not promise."""

    def __init__(self, mixtures: MixtureList, done: Set[str], batch_size: int, truth: bool) -> None:
        self.mixtures, self.truth = mixtures, truth
        by_layout: dict[tuple[Role, ...], list[int]] = {}
        for index, entry in enumerate(mixtures.entries()):
            if entry.key not in done:
                by_layout.setdefault(entry.layout, []).append(index)
        self.batches = [
            rows[start : start + batch_size] for rows in by_layout.values() for start in range(0, len(rows), batch_size)
        ]

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> Observation:
        return collate([self.mixtures[row] for row in self.batches[index]], truth=self.truth)


class Mixtures(TrainingClips):
    """Mixtures in batches of one layout, shared out over the processes: a fixed list, mixtures to train on, or both.

    Args:
        mixtures: the list that is separated by `avdiff predict`.
        batch_size: clips a batch. It changes the speed of predict, not its results.
        workers: processes that make mixtures ahead; 0 makes them in the process that separates.
        training: what mixtures to train on are drawn from.
        seed: of these.
    """

    def __init__(
        self,
        mixtures: MixtureList | None = None,
        batch_size: int = 1,
        workers: int = 0,
        training: TrainingMixtures | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, workers, seed)
        self.mixtures, self.training = mixtures, training
        self.allow_zero_length_dataloader_with_multiple_devices = True  # a resumed run may leave a rank nothing to do
        self._done: Set[str] = frozenset()
        self._truth = False

    def skip(self, keys: Set[str]) -> None:
        """Leave these clips out of the next predict run."""
        self._done = keys

    def reveal(self) -> None:
        """Tell the separator the sources themselves: it is an oracle."""
        self._truth = True

    def prepare_data(self) -> None:
        if self.training is not None:
            self.training.prepare()

    def setup(self, stage: str) -> None:
        if stage == "predict":
            return
        training = self._training()
        self.train, self.val = (training.open(split) for split in ("train", "val"))

    def train_dataloader(self) -> DataLoader:
        training = self._training()
        return self.loader(self.train, MixtureDraws(training.mixtures, training.talkers, **self.share()), stacked)

    def val_dataloader(self) -> DataLoader:
        assert isinstance(self.val, DrawnMixtures)
        rank, processes = self._rank()
        batches = ValidationBatches(self.val, self._training().validation(VALIDATION_BATCH // 2, processes))
        sampler = EveryNth(batches, len(batches), rank, processes)
        return DataLoader(batches, batch_size=None, sampler=sampler, num_workers=self.workers)

    def predict_dataloader(self) -> DataLoader[Observation]:
        if self.mixtures is None:
            raise UserError("there is no list to separate; give one as data.mixtures")
        if not self.mixtures.entries():
            raise UserError("the list of mixtures is empty, so that there is nothing to separate; give one with clips")
        batches = _Batches(self.mixtures, self._done, self.batch_size, self._truth)
        sampler = EveryNth(batches, len(batches), *self._rank())
        return DataLoader(batches, batch_size=None, sampler=sampler, num_workers=self.workers)

    def _rank(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _training(self) -> TrainingMixtures:
        if self.training is None:
            raise UserError("there are no mixtures to train on; say as data.training what they are drawn from")
        return self.training
