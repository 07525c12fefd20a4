"""Stand-ins for the natural voices: a model of a few nodes with Kokoro's inputs and inner names, and a speaker without any."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from datamodules.synthetic.kokoro import RATE, SAMPLES, SPEAKING, TIMING, VOCABULARY, VOICES, cut
from datamodules.synthetic.natural import ADVANCE
from datamodules.synthetic.natural import VOICES as NAMES
from datamodules.synthetic.pronounce import PAUSES
from tests.onnx_model import model, node

FRAMES = 3  # of a token at speed 1
LETTERS = " ,.?!;:ˈˌːabdefhijklmnopstuvwzæðŋɑɒɔəɛɜɡɪɹʃʊʌʒʤʧθᵊᵻAIOQTWY"


def toy_model() -> bytes:
    """Every token lasts 3 frames over the speed. A sine through a quantised convolution with a bias, times style 0."""
    numbers = {
        "zero": np.float32(0),
        "frames": np.float32(FRAMES),
        "one": np.float32(1),
        "samples": np.int64(SAMPLES),
        "from": np.int64(0),
        "step": np.int64(1),
        "pitch": np.float32(2 * np.pi * 200 / RATE),
        "row": np.array([1, 1, -1], np.int64),
        "flat": np.array([-1], np.int64),
        "kernel": np.array([[[120, 140, 160]]], np.uint8),
        "kernel_zero": np.uint8(130),
        "kernel_scale": np.float32(0.02),
        "bias": np.array([0.25], np.float32),
        "first": np.array([0], np.int64),
        "unused": np.ones(7, np.float32),
    }
    nodes = [
        node("Cast", ["tokens"], ["letters"], to=1),
        node("Mul", ["letters", "zero"], ["zeros"]),
        node("Add", ["zeros", "frames"], ["lengths"]),
        node("Div", ["lengths", "speed"], ["paced"]),
        node("Round", ["paced"], ["rounded"]),
        node("Clip", ["rounded", "one"], ["/encoder/Clip_output_0"]),
        node("Cast", ["/encoder/Clip_output_0"], ["whole"], to=7),
        node("ReduceSum", ["whole"], ["total"], keepdims=0),
        node("Mul", ["total", "samples"], ["length"]),
        node("Range", ["from", "length", "step"], ["places"]),
        node("Cast", ["places"], ["times"], to=1),
        node("Mul", ["times", "pitch"], ["phase"]),
        node("Sin", ["phase"], ["wave"]),
        node("Reshape", ["wave", "row"], ["x"]),
        node("DynamicQuantizeLinear", ["x"], ["x_quantised", "x_scale", "x_zero"]),
        node("ConvInteger", ["x_quantised", "kernel", "x_zero", "kernel_zero"], ["y"], pads=[1, 1]),
        node("Mul", ["x_scale", "kernel_scale"], ["scales"]),
        node("Div", ["bias", "scales"], ["bias_scaled"]),
        node("Floor", ["bias_scaled"], ["bias_floor"]),
        node("Cast", ["bias_floor"], ["bias_whole"], to=6),
        node("Reshape", ["bias_whole", "row"], ["bias_row"]),
        node("Add", ["y", "bias_row"], ["biased"]),
        node("Cast", ["biased"], ["biased_float"], to=1),
        node("Mul", ["biased_float", "scales"], ["filtered"]),
        node("Reshape", ["filtered", "flat"], ["line"]),
        node("Gather", ["style", "first"], ["colour"], axis=1),
        node("ReduceSum", ["colour"], ["gain"], keepdims=0),
        node("Mul", ["line", "gain"], ["audio"]),
    ]
    return model(
        nodes,
        {name: np.asarray(value) for name, value in numbers.items()},
        {"tokens": (np.int64, (1, "n")), "style": (np.float32, (1, 256)), "speed": (np.float32, (1,))},
        {"audio": (np.float32, ("length",))},
    )


def toy_voices(folder: Path) -> Path:
    """A folder as `avdiff prepare voices` leaves it."""
    (folder / VOICES).mkdir(parents=True)
    for part, data in zip((TIMING, SPEAKING), cut(toy_model()), strict=True):
        (folder / part).write_bytes(data)
    vocabulary = {letter: number for number, letter in enumerate(LETTERS, 1)}
    (folder / VOCABULARY).write_text(json.dumps({"vocab": vocabulary}), encoding="utf-8")
    for number, name in enumerate(sum(NAMES.values(), ()), 1):
        table = np.zeros((510, 1, 256), np.float32)
        table[:, :, 0] = number
        table.tofile(folder / VOICES / f"{name}.bin")
    return folder


class ToyKokoro:
    """Speaks a buzz where there are sounds, with the times of `toy_model`, as much ahead of them as Kokoro."""

    def durations(self, text: str, voices: Sequence[tuple[str, float]], speed: float) -> np.ndarray:
        return np.full(len(text) + 2, max(1, round(FRAMES / speed)), np.float32)

    def speak(self, text: str, voices: Sequence[tuple[str, float]], durations: np.ndarray) -> np.ndarray:
        sounding = [False, *(letter not in f"{PAUSES} " for letter in text), False]
        loud = np.repeat(sounding, (SAMPLES * durations).astype(int)).astype(np.float32)
        loud = np.roll(loud, -round(ADVANCE * RATE))
        buzz = np.random.default_rng(len(text)).standard_normal(len(loud)).astype(np.float32)
        return (0.2 * loud * buzz)[:-SAMPLES]
