"""NISQA v2.0: speech quality as people would judge it, told without a reference."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torchmetrics.functional.audio.nisqa as implementation
from torch import Tensor

from avdiff.errors import UserError
from avdiff.extras import need
from avdiff.metrics.base import Undefined, clip_array

WEIGHTS = "nisqa.tar"
LICENCE = "NISQA's weights are under CC BY-NC-SA 4.0: not for commercial use."
DIMENSIONS = ("mos", "noisiness", "discontinuity", "coloration", "loudness")


@dataclass(frozen=True)
class Nisqa:
    """torchmetrics' NISQA (Mittag et al., Interspeech 2021) with weights from a path; nothing is downloaded.

    Args:
        weights: nisqa.tar of github.com/gabrielmittag/NISQA, or its folder.

    Raises:
        UserError: there is no such file, or it holds something else.
    """

    weights: Path

    def __post_init__(self) -> None:
        for module in ("librosa", "requests"):  # which torchmetrics needs for it
            need(module)
        if not self._file.is_file() or self._file.name != WEIGHTS:
            raise UserError(
                f"{self.weights} is not NISQA's {WEIGHTS}; fetch weights/{WEIGHTS} of github.com/gabrielmittag/NISQA "
                f"(NISQA v2.0) and give its path. {LICENCE}"
            )
        self._use()
        try:
            implementation._load_nisqa_model()
        except Exception as error:  # whatever torch and the network make of another file
            raise UserError(
                f"{self._file} is damaged or not NISQA v2.0 ({type(error).__name__}); fetch it again"
            ) from error

    @property
    def _file(self) -> Path:
        given = Path(self.weights)
        return given / WEIGHTS if given.is_dir() else given

    def _use(self) -> None:
        folder = str(self._file.resolve().parent)
        if folder != implementation.NISQA_DIR:
            implementation.NISQA_DIR = folder
            implementation._load_nisqa_model.cache_clear()

    def dimensions(self, clip: Tensor, sample_rate: int) -> dict[str, float]:
        """Overall quality and its four dimensions, each from 1 to 5, of a clip (T,) at any rate.

        Raises:
            Undefined: it is silent, not finite, too short (about 0.2 s) or too long (about 52 s).
        """
        samples = torch.from_numpy(clip_array(clip, "estimate")).float()
        self._use()
        try:
            values = implementation.non_intrusive_speech_quality_assessment(samples, sample_rate)
        except RuntimeError as error:
            raise Undefined(str(error)) from error
        return dict(zip(DIMENSIONS, values.tolist(), strict=True))

    def __call__(self, estimate: Tensor, reference: Tensor, sample_rate: int) -> float:
        """Overall quality of the estimate; the reference is not looked at."""
        return self.dimensions(estimate, sample_rate)["mos"]
