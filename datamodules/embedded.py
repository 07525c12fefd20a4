"""The embedded corpus as DataModules: what `DATA=synthetic` trains on."""

from __future__ import annotations

from pathlib import Path

from datamodules.clips import CleanClips
from datamodules.synthetic.corpus import noise_corpus, speech_corpus


class EmbeddedSpeech(CleanClips):
    """Synthetic talkers with rendered lips. See `datamodules.clips.CleanClips` for the arguments."""

    def generate(self, split: str, clips: int) -> Path:
        return speech_corpus(split, clips, workers=self.generators).folder


class EmbeddedVoices(EmbeddedSpeech):
    """The same talkers, heard only."""

    video = False


class EmbeddedNoise(CleanClips):
    """Procedural noises. See `datamodules.clips.CleanClips` for the arguments."""

    video = False

    def generate(self, split: str, clips: int) -> Path:
        return noise_corpus(split, clips, workers=self.generators).folder
