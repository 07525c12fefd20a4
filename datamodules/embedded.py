"""The embedded corpus as DataModules: what `DATA=synthetic` trains on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datamodules.clips import CleanClips, WithVoice
from datamodules.synthetic.corpus import noise_corpus, speech_corpus


class EmbeddedSpeech(CleanClips):
    """Synthetic talkers with rendered lips.

    Args:
        noise: noises of which some clips have one beside them: `avdiff.lit.covariance` takes their spectrograms, in place of
            another talker's, for the noise that speech is to be told from. None for talkers alone.
        noise_share: of the clips that have one.
        clips: see `datamodules.clips.CleanClips`, here and for the other arguments.
    """

    def __init__(self, noise: CleanClips | None = None, noise_share: float = 0.5, **clips: Any) -> None:
        super().__init__(**clips)
        self.noise, self.noise_share = noise, noise_share

    def generate(self, split: str, clips: int) -> Path:
        return speech_corpus(split, clips, workers=self.generators).folder

    def prepare_data(self) -> None:
        super().prepare_data()
        if self.noise is not None:
            self.noise.prepare_data()

    def setup(self, stage: str) -> None:
        super().setup(stage)
        if self.noise is not None:
            self.noise.seconds = self.seconds
            self.noise.setup(stage)
            self.train = WithVoice(self.train, self.noise.train, random=True, share=self.noise_share)


class EmbeddedVoices(EmbeddedSpeech):
    """The same talkers, heard only."""

    video = False


class EmbeddedNoise(CleanClips):
    """Procedural noises.

    Args:
        voices: embedded talkers, of whom each noise has one beside it: `avdiff.lit.covariance` takes their spectrograms
            for the noise that a noise is to be told from. 0 for none.
        batch_size, seconds, workers, real, repeat, clips, val_clips, generators, seed, speed: see `datamodules.clips.CleanClips`.
    """

    video = False

    def __init__(
        self,
        voices: int = 0,
        batch_size: int = 8,
        seconds: float = 2.0,
        workers: int = 0,
        real: Sequence[Path] = (),
        repeat: int = 1,
        clips: int = 1000,
        val_clips: int = 48,
        generators: int | None = None,
        seed: int = 0,
        speed: tuple[float, float] = (1.0, 1.0),
    ) -> None:
        super().__init__(batch_size, seconds, workers, real, repeat, clips, 0, val_clips, generators, seed, speed)
        self.talkers: EmbeddedVoices | None = None
        if voices:
            self.talkers = EmbeddedVoices(
                batch_size=batch_size, seconds=seconds, clips=voices, val_clips=val_clips, generators=generators
            )

    def generate(self, split: str, clips: int) -> Path:
        return noise_corpus(split, clips, workers=self.generators).folder

    def prepare_data(self) -> None:
        super().prepare_data()
        if self.talkers is not None:
            self.talkers.prepare_data()

    def setup(self, stage: str) -> None:
        super().setup(stage)
        if self.talkers is not None:
            self.talkers.setup(stage)
            self.train = WithVoice(self.train, self.talkers.train, random=True)
            self.val = WithVoice(self.val, self.talkers.val, random=False)
