"""Natural speech with timed phonemes, by Kokoro-82M.

The model (Apache-2.0) is no part of this project: `datamodules.synthetic.voice_packages` fetches it. What runs is the
published model, cut in two at the durations of the phonemes: one part tells them, the other speaks with any.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from avdiff.extras import lazy
from datamodules.synthetic.onnx_graph import with_float_convolutions, with_given, with_outputs

onnxruntime = lazy("onnxruntime")

RATE = 24_000  # Hz
SAMPLES = 600  # of a frame, in which durations are counted
LONGEST = 508  # tokens
TIMING, SPEAKING, VOCABULARY, VOICES = "timing.onnx", "speaking.onnx", "vocab.json", "voices"
_DURATIONS, _GIVEN, _AUDIO = "/encoder/Clip_output_0", "durations", "audio"


def cut(model: bytes) -> tuple[bytes, bytes]:
    """The published model as what tells durations and what speaks with them."""
    return with_outputs(model, [_DURATIONS]), with_given(
        with_outputs(with_float_convolutions(model), [_AUDIO]), _DURATIONS, _GIVEN
    )


class Kokoro:
    """Kokoro from a folder that `avdiff prepare voices` left.

    Args:
        folder: with timing.onnx, speaking.onnx, vocab.json and voices/*.bin.
    """

    def __init__(self, folder: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._timing, self._speaking = (
            onnxruntime.InferenceSession(str(folder / name), options, providers=["CPUExecutionProvider"])
            for name in (TIMING, SPEAKING)
        )
        self._vocabulary: dict[str, int] = json.loads((folder / VOCABULARY).read_text(encoding="utf-8"))["vocab"]
        self._folder = folder
        self._tables: dict[str, np.ndarray] = {}

    def style(self, voices: Sequence[tuple[str, float]], count: int) -> np.ndarray:
        """The style vector (1, 256) of a blend.

        Args:
            voices: names, with weights that sum to 1.
            count: tokens that are said.
        """
        weights, tables = [weight for _, weight in voices], np.stack([self._table(name)[count] for name, _ in voices])
        return np.tensordot(np.asarray(weights, np.float32), tables, 1)

    def durations(self, text: str, voices: Sequence[tuple[str, float]], speed: float) -> np.ndarray:
        """Frames of each token, and of the silences around them: (n + 2,) float32, whole numbers.

        Args:
            text: n tokens, a letter each.
            voices: see `style`.
            speed: 1 is the voice's own.
        """
        return self._timing.run(None, self._asked(text, voices, speed))[0][0]

    def speak(self, text: str, voices: Sequence[tuple[str, float]], durations: np.ndarray) -> np.ndarray:
        """Sound, float32 at 24 kHz, 600 samples for each frame but the last, which is not defined.

        Args:
            text, voices: see `durations`.
            durations: (n + 2,) frames.
        """
        asked = {**self._asked(text, voices, 1.0), _GIVEN: durations[None].astype(np.float32)}  # the speed is not used
        return self._speaking.run(None, asked)[0][:-SAMPLES]

    def _asked(self, text: str, voices: Sequence[tuple[str, float]], speed: float) -> dict[str, np.ndarray]:
        numbers = [self._vocabulary[letter] for letter in text]
        return {
            "tokens": np.array([[0, *numbers, 0]]),
            "style": self.style(voices, len(numbers)),
            "speed": np.array([speed], np.float32),
        }

    def _table(self, name: str) -> np.ndarray:
        if name not in self._tables:
            self._tables[name] = np.fromfile(self._folder / VOICES / f"{name}.bin", "<f4").reshape(-1, 1, 256)
        return self._tables[name]
