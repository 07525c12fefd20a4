"""Word errors of a recogniser that knows the GRID grammar: intelligibility to a machine.

pocketsphinx carries its acoustic model and dictionary, so nothing is downloaded.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from avdiff.extras import lazy
from avdiff.types import SAMPLE_RATE

jiwer = lazy("jiwer")
pocketsphinx = lazy("pocketsphinx")

# M. Cooke et al., "An audio-visual corpus for speech perception and automatic speech recognition", JASA 2006, Table I
SLOTS = (
    "bin lay place set",
    "blue green red white",
    "at by in with",
    "a b c d e f g h i j k l m n o p q r s t u v x y z",
    "zero one two three four five six seven eight nine",
    "again now please soon",
)
LETTER = 3  # the slot of a sentence that is a letter
LETTER_NAMES = {"a": ["EY"], "z": ["Z IY", "Z EH D"]}  # the dictionary has the article, and one English name
NOISE_FLOOR = 10 ** (-30 / 20)  # relative to the clip's level: digital silence throws the recogniser off
PEAK = 0.5  # of full scale, so that neither clipping nor quantisation plays a part


class GridRecogniser:
    """Hears one sentence of the GRID grammar in whatever it is given.

    The same clip gives the same words whatever was heard before it: the noise floor is seeded, and features are
    normalised clip by clip.
    """

    def __init__(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            grammar, dictionary = Path(folder, "grid.gram"), Path(folder, "grid.dict")
            slots = " ".join(f"( {' | '.join(slot.split())} )" for slot in SLOTS)
            grammar.write_text(f"#JSGF V1.0;\ngrammar grid;\npublic <sentence> = {slots} ;\n")
            dictionary.write_text("\n".join(_pronunciations()) + "\n")
            model = pocketsphinx.get_model_path("en-us/en-us")
            self._decoder = pocketsphinx.Decoder(
                hmm=model, dict=str(dictionary), jsgf=str(grammar), cmn="batch", loglevel="FATAL"
            )

    def transcribe(self, clip: Tensor, sample_rate: int = SAMPLE_RATE) -> str:
        """(T,) -> six words, or "" where no sentence is found (or the clip is silent).

        Args:
            clip: any level.
            sample_rate: Hz.

        Raises:
            ValueError: another sample rate than 16000, or another shape.
        """
        if sample_rate != SAMPLE_RATE or clip.ndim != 1:
            raise ValueError(
                f"the recogniser takes one clip (samples,) at {SAMPLE_RATE} Hz; "
                f"{tuple(clip.shape)} at {sample_rate} Hz was given"
            )
        signal = np.nan_to_num(clip.detach().cpu().double().numpy())
        if not signal.any():
            return ""
        floor = np.random.default_rng(0).standard_normal(len(signal))
        signal = signal + NOISE_FLOOR * np.sqrt(np.mean(signal**2)) * floor
        pcm = (signal * (PEAK * 32767 / np.abs(signal).max())).astype(np.int16)
        self._decoder.reinit_feat()  # or features would depend on the clips before
        self._decoder.start_utt()
        self._decoder.process_raw(pcm.tobytes(), no_search=False, full_utt=True)
        self._decoder.end_utt()
        heard = self._decoder.hyp()
        return heard.hypstr if heard is not None else ""


def _pronunciations() -> list[str]:
    """Lines of the recogniser's dictionary for the words of the grammar, with their variants."""
    words = {word for slot in SLOTS for word in slot.split()} - LETTER_NAMES.keys()
    lines = Path(pocketsphinx.get_model_path("en-us/cmudict-en-us.dict")).read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if line.split(" ", 1)[0].split("(")[0] in words]
    for letter, names in LETTER_NAMES.items():
        kept += [f"{letter}{f'({k})' if k > 1 else ''} {sounds}" for k, sounds in enumerate(names, start=1)]
    return kept


def word_error_rate(references: Sequence[str], transcripts: Sequence[str]) -> float:
    """Substitutions, deletions and insertions over the words of all references: one figure for a corpus, not a mean.

    Args:
        references: what was said, one sentence a clip.
        transcripts: what was heard, in the same order.

    Raises:
        ValueError: not one transcript a reference, or none at all.
    """
    if not references or len(references) != len(transcripts):
        raise ValueError(f"{len(transcripts)} transcripts were given for {len(references)} references; give one each")
    return float(jiwer.wer(list(references), list(transcripts)))


def without_letter(sentence: str) -> str:
    """A GRID sentence without its letter: 25 letters sound alike even when clean, and hide what separation does."""
    words = sentence.split()
    return " ".join(words[:LETTER] + words[LETTER + 1 :])
