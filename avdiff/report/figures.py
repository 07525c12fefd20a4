"""Pictures of signals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
import torch
from torchaudio.functional import spectrogram

from avdiff.extras import lazy

if TYPE_CHECKING:
    from matplotlib.figure import Figure

figures = lazy("matplotlib.figure")
cm = lazy("matplotlib.cm")
colors = lazy("matplotlib.colors")

N_FFT = 512  # 32 ms at 16 kHz
COLUMNS = 1200  # most pictured; a long recording is sampled


@dataclass(frozen=True)
class Panel:
    """One spectrogram.

    Attributes:
        title: above it.
        samples: (n,) float.
    """

    title: str
    samples: np.ndarray


def spectrograms(grid: Sequence[Sequence[Panel | None]], rate: int, *, decibels: float = 70.0) -> Figure:
    """Spectrograms in rows and columns on one scale of colours, so that levels can be compared.

    Args:
        grid: rows of panels; None leaves a place empty.
        rate: Hz of every panel.
        decibels: range of the scale, below the loudest point of all.
    """
    levels = [[None if panel is None else _levels(panel.samples, rate) for panel in row] for row in grid]
    top = max(float(level.max()) for row in levels for level in row if level is not None)
    columns = max(len(row) for row in grid)
    width, height = 1.6 + 4.4 * columns, 0.5 + 1.7 * len(grid)
    figure = figures.Figure(figsize=(width, height), dpi=110)
    # Margins by hand, in inches: a layout engine takes longer than all else together.
    figure.subplots_adjust(
        left=0.5 / width, right=1 - 1.1 / width, bottom=0.45 / height, top=1 - 0.3 / height, wspace=0.08, hspace=0.3
    )
    axes = figure.subplots(len(grid), columns, squeeze=False, sharex=True, sharey=True)
    for y, row in enumerate(axes):
        for x, ax in enumerate(row):
            panel = grid[y][x] if x < len(grid[y]) else None
            if panel is None:
                ax.set_visible(False)
                continue
            extent = (0.0, len(panel.samples) / rate, 0.0, rate / 2000)
            ax.imshow(
                levels[y][x], origin="lower", aspect="auto", extent=extent, vmin=top - decibels, vmax=top, cmap="magma"
            )
            ax.set_title(plain(panel.title), fontsize=10, loc="left")
            ax.tick_params(labelsize=8)
            if x == 0:
                ax.set_ylabel("kHz", fontsize=9)
            if y == len(grid) - 1:
                ax.set_xlabel("seconds", fontsize=9)
    scale = figure.add_axes((1 - 0.9 / width, 0.45 / height, 0.15 / width, 1 - 0.75 / height))
    figure.colorbar(
        cm.ScalarMappable(colors.Normalize(top - decibels, top), "magma"), cax=scale, label="dB of full scale"
    )
    return figure


def plain(text: str) -> str:
    """Text that people named as matplotlib shows it: a dollar is a dollar, and does not begin a formula."""
    return text.replace("$", r"\$")


def _levels(samples: np.ndarray, rate: int) -> np.ndarray:
    """(frequencies, columns) decibels of full scale."""
    x = torch.as_tensor(np.asarray(samples), dtype=torch.float32)
    hop = max(N_FFT // 4, len(x) // COLUMNS)
    window = torch.hann_window(N_FFT)
    power = spectrogram(
        x, pad=0, window=window, n_fft=N_FFT, hop_length=hop, win_length=N_FFT, power=2.0, normalized=False,
        pad_mode="constant",
    )  # fmt: skip
    return (10 * torch.log10(power / window.sum() ** 2 + 1e-12)).numpy()


def png(figure: Figure) -> bytes:
    """The figure as a PNG file."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
