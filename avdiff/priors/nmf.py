"""NMF dictionaries of speech: spectral patterns whose non-negative sums are the variances of a voice."""

from __future__ import annotations

import copy
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import torch
from torch import Tensor, nn

from avdiff.errors import UserError
from avdiff.nets.state import read_weights, write_weights
from avdiff.priors.variance import VariancePrior
from avdiff.types import Observation

SHIPPED = "nmf"
TALKERS = "talkers.json"  # of enrolled voices: clip id -> the voices of its talkers, in the order of the layout


class Dictionary(VariancePrior):
    """sigma²_fn = sum_r h_nr w_rf: rows of W are spectral patterns of mean 1 (Févotte et al., Neural Computation 21, 2009).

    Args:
        rank: patterns.
        n_fft, hop: of the STFT.
    """

    def __init__(self, rank: int = 64, n_fft: int = 1024, hop: int = 320) -> None:
        super().__init__(n_fft, hop)
        self.rank = rank
        self.log_patterns = nn.Parameter(0.5 * torch.randn(rank, self.bins))

    @property
    def patterns(self) -> Tensor:
        """W, (rank, bins), every row of mean 1."""
        patterns = self.log_patterns.float().exp()
        return patterns / patterns.mean(1, keepdim=True)


def _file(folder: Path) -> Path:
    return folder / "model.safetensors"


def save_dictionary(folder: Path, dictionary: Dictionary) -> None:
    """Write model.safetensors in half precision; a card beside it is left alone."""
    folder.mkdir(parents=True, exist_ok=True)
    scale = torch.tensor([dictionary.stft.n_fft, dictionary.stft.hop])
    write_weights(_file(folder), {"log_patterns": dictionary.patterns.detach().log().half(), "stft": scale})


def load_dictionary(source: str) -> Dictionary:
    """A trained dictionary in eval mode, without gradients.

    Args:
        source: "nmf" for the shipped one, or a folder that a training of `avdiff.lit.nmf.DictionaryModel` wrote.

    Raises:
        UserError: the folder holds none.
    """
    folder = Path(str(resources.files("avdiff") / "weights" / SHIPPED)) if source == SHIPPED else Path(source)
    if not _file(folder).is_file():
        raise UserError(
            f"dictionary {source!r}: {_file(folder)} does not exist; give {SHIPPED} for the shipped one, "
            "or a folder that `avdiff fit` with experiments/train/nmf.yaml wrote"
        )
    state = read_weights(_file(folder))
    if state.keys() != {"log_patterns", "stft"}:
        raise UserError(f"{_file(folder)} holds {', '.join(sorted(state))}; a dictionary has log_patterns and stft")
    n_fft, hop = state["stft"].tolist()
    dictionary = Dictionary(len(state["log_patterns"]), n_fft, hop)
    dictionary.load_state_dict({"log_patterns": state["log_patterns"].float()})
    return dictionary.eval().requires_grad_(False)


class Voices(nn.Module, ABC):
    """Which dictionary each talker of a mixture has."""

    @property
    @abstractmethod
    def prior(self) -> VariancePrior:
        """Whose STFT all of them share."""

    def restricted(self, speakers: Sequence[int]) -> Voices:
        """The voices of some of a recording's speakers: see `avdiff.separators.base.Separator.restricted`."""
        return self

    @abstractmethod
    def patterns(self, observation: Observation, talkers: int) -> Tensor:
        """W of every talker, (B, talkers, rank, bins)."""


class AnyVoice(Voices):
    """One dictionary for whoever speaks. It tells speech from noise, but not two talkers from each other.

    Args:
        dictionary: of many voices.
    """

    def __init__(self, dictionary: Dictionary) -> None:
        super().__init__()
        self.dictionary = dictionary

    @property
    def prior(self) -> VariancePrior:
        return self.dictionary

    def patterns(self, observation: Observation, talkers: int) -> Tensor:
        return self.dictionary.patterns.expand(len(observation.key), talkers, -1, -1)


class EnrolledVoices(Voices):
    """A dictionary for every voice, learned from its enrolment, and a list that says who speaks in which clip.

    Args:
        folder: holds a dictionary's folder for every voice, and talkers.json: {"clip id": ["voice", ...], ...}.

    Raises:
        UserError: a part of the folder is missing.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = Path(folder)
        self.some: tuple[int, ...] | None = None  # of a recording's speakers; None for all of them
        self.talkers = read_talkers(self.folder)
        names = sorted({voice for voices in self.talkers.values() for voice in voices})
        self.dictionaries = nn.ModuleList(load_dictionary(str(self.folder / name)) for name in names)
        self.rows = {name: row for row, name in enumerate(names)}
        if len({dictionary.rank for dictionary in self._all()}) > 1:
            raise UserError(f"the dictionaries in {folder} have different ranks; train them all with one")

    def _all(self) -> list[Dictionary]:
        return list(self.dictionaries)  # type: ignore[arg-type]

    @property
    def prior(self) -> VariancePrior:
        return self._all()[0]

    def restricted(self, speakers: Sequence[int]) -> EnrolledVoices:
        other = copy.copy(self)
        other.some = tuple(speakers)
        return other

    def patterns(self, observation: Observation, talkers: int) -> Tensor:
        rows = [enrolled(self.talkers, key, talkers, self.folder, self.some) for key in observation.key]
        every = torch.stack([dictionary.patterns for dictionary in self._all()])
        index = torch.tensor([[self.rows[voice] for voice in row] for row in rows], dtype=torch.long)
        return every[index.to(every.device)]


def read_talkers(folder: Path) -> dict[str, list[str]]:
    """The list of who speaks in which clip.

    Raises:
        UserError: it is missing, empty, or no such list.
    """
    file = folder / TALKERS
    if not file.is_file():
        raise UserError(
            f'{file} does not exist; it says who speaks in which clip: {{"clip id": ["voice", ...]}}. For the embedded voices: '
            "avdiff prepare enrolment enrolment, then make train-enrolled"
        )
    talkers = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(talkers, dict) or not any(talkers.values()):
        raise UserError(f'{file} names no voice; it must be {{"clip id": ["voice", ...], ...}}')
    return talkers


def enrolled(
    talkers: dict[str, list[str]], key: str, count: int, folder: Path, some: tuple[int, ...] | None = None
) -> list[str]:
    """The voices of a clip, of which a stretch of a longer recording (clip@second) has the same, or some: which, from 0.

    Raises:
        UserError: the clip is not listed with so many talkers.
    """
    voices = talkers.get(key, talkers.get(key.rpartition("@")[0], []))
    if some is not None and len(voices) > max(some, default=-1):
        voices = [voices[talker] for talker in some]
    if len(voices) != count:
        raise UserError(
            f"{folder / TALKERS} lists {len(voices)} voice(s) for clip {key!r}, which has {count} talker(s); "
            "enrol and list them, or take the speaker-independent method"
        )
    return voices
