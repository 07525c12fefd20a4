"""The embedded corpus as DataModules: what `DATA=synthetic` trains on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from avdiff.errors import UserError
from datamodules.clips import CleanClips, WithVoice
from datamodules.synthetic.corpus import natural_corpus, noise_corpus, speech_corpus


class EmbeddedSpeech(CleanClips):
    """Synthetic talkers with rendered lips.

    Args:
        noise: noises of which some clips have one beside them: `avdiff.lit.covariance` takes their spectrograms, in place of
            another talker's, for the noise that speech is to be told from. None for talkers alone.
        noise_share: of the clips that have one.
        natural: speakers of other voices beside these, `NaturalSpeech`; validation has both.
        natural_repeat: how often a natural training clip is seen for each time an embedded one is.
        clips: see `datamodules.clips.CleanClips`, here and for the other arguments.
    """

    def __init__(
        self,
        noise: CleanClips | None = None,
        noise_share: float = 0.5,
        natural: CleanClips | None = None,
        natural_repeat: int = 1,
        **clips: Any,
    ) -> None:
        super().__init__(**clips)
        self.beside, self.beside_share = noise, noise_share
        self.joined, self.joined_repeat = natural, natural_repeat

    def generate(self, split: str, clips: int) -> Path:
        return speech_corpus(split, clips, workers=self.generators).folder


class NaturalSpeech(CleanClips):
    """Natural voices with rendered lips. They are spoken on first use, for which the voices must be installed.

    Args:
        clips: see `datamodules.clips.CleanClips`, here and for the other arguments.
    """

    def generate(self, split: str, clips: int) -> Path:
        return natural_corpus(split, clips, workers=self.generators).folder


class EmbeddedVoices(EmbeddedSpeech):
    """The same talkers, heard only."""

    video = False


class EmbeddedNoise(CleanClips):
    """Procedural noises.

    Args:
        voices: embedded talkers, of whom each noise has one beside it: `avdiff.lit.covariance` takes their spectrograms
            for the noise that a noise is to be told from. 0 for none.
        real_voices: folders of prepared real talkers among them, as `real` are of noises.
        clips: see `datamodules.clips.CleanClips`, here and for the other arguments.
    """

    video = False

    def __init__(self, voices: int = 0, real_voices: Sequence[Path] = (), **clips: Any) -> None:
        super().__init__(**clips)
        if real_voices and not voices:
            raise UserError(
                f"{len(real_voices)} folders of real voices were given, but of the embedded ones, which they join, there are 0: "
                "give them too (--data.voices 7500)"
            )
        if voices:
            self.beside = EmbeddedVoices(
                clips=voices, real=real_voices, val_clips=self.val_clips, generators=self.generators
            )

    def generate(self, split: str, clips: int) -> Path:
        return noise_corpus(split, clips, workers=self.generators).folder

    def setup(self, stage: str) -> None:
        super().setup(stage)
        if self.beside is not None:
            self.val = WithVoice(self.val, self.beside.val, random=False)
