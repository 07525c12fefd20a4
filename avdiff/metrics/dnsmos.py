"""DNSMOS: the overall quality of P.835, told without a reference."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torchmetrics.functional.audio.dnsmos as implementation
from torch import Tensor

from avdiff.errors import UserError
from avdiff.extras import need
from avdiff.metrics.base import Undefined, clip_array

FILES = ("DNSMOS/sig_bak_ovr.onnx", "DNSMOS/model_v8.onnx")
SHORTEST = 0.1  # seconds; shorter clips would be repeated a hundred times to fill the model's window


@dataclass(frozen=True)
class Dnsmos:
    """torchmetrics' DNSMOS P.835 (Reddy et al., ICASSP 2022), overall, with networks from a path; nothing is downloaded.

    Args:
        weights: folder with DNSMOS/sig_bak_ovr.onnx and DNSMOS/model_v8.onnx of github.com/microsoft/DNS-Challenge.

    Raises:
        UserError: one of them is missing, or cannot be read.
    """

    weights: Path

    def __post_init__(self) -> None:
        for module in ("librosa", "onnxruntime", "requests"):  # which torchmetrics needs for it
            need(module)
        for name in FILES:
            if not (Path(self.weights) / name).is_file():
                raise UserError(
                    f"{self.weights} has no {name}; give the folder that holds DNSMOS/ of github.com/microsoft/DNS-Challenge"
                )
            try:
                implementation._cached_load_session(str(Path(self.weights).resolve() / name), torch.device("cpu"), 1)
            except Exception as error:  # onnxruntime's own, by what is wrong with the file
                raise UserError(
                    f"{Path(self.weights) / name} is damaged or no ONNX network ({type(error).__name__}); fetch it again"
                ) from error

    def __call__(self, estimate: Tensor, reference: Tensor, sample_rate: int) -> float:
        """Overall quality of the estimate (T,), from 1 to 5; the reference is not looked at.

        Raises:
            Undefined: the estimate is silent, not finite or under 0.1 s.
        """
        samples = torch.from_numpy(clip_array(estimate, "estimate")).float()
        if len(samples) < SHORTEST * sample_rate:
            raise Undefined(f"the estimate is shorter than {SHORTEST} s")
        implementation.DNSMOS_DIR = str(Path(self.weights).resolve())
        scores = implementation.deep_noise_suppression_mean_opinion_score(samples, sample_rate, False, num_threads=1)
        return float(scores[3])  # P.808, signal, background, overall
