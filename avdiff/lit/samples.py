"""What a prior does to a few fixed clips, in the logger: audio and spectrograms, validation by validation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger

from avdiff.lit.score import ScoreModel
from avdiff.report.figures import Panel, spectrograms

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class DenoisedClips(pl.Callback):
    """Logs noisy, denoised and clean versions of the first validation clips, with the same noise every time.

    Audio and one picture go to TensorBoard and W&B; other loggers have no place for them.

    Args:
        clips: how many.
        levels: noise levels in units of sigma_data.
    """

    def __init__(self, clips: int = 2, levels: Sequence[float] = (0.3, 1.2)) -> None:
        self.clips, self.levels = clips, tuple(levels)

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: object,
        batch: dict[str, torch.Tensor],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        loggers = [logger for logger in trainer.loggers if isinstance(logger, (TensorBoardLogger, WandbLogger))]
        if batch_idx or trainer.sanity_checking or not trainer.is_global_zero or not loggers:
            return
        model = cast(ScoreModel, pl_module)
        first = {name: value[: self.clips] for name, value in batch.items() if isinstance(value, torch.Tensor)}
        generator = torch.Generator(device=model.device).manual_seed(0)
        clean = model.levelled(first["audio"], generator)
        cond = model.condition(first)
        panels, sounds = [], {}
        for level in self.levels:
            sigma = clean.new_full((len(clean),), level * model.prior.sigma_data)
            noise = torch.randn(clean.shape, generator=generator, device=clean.device)
            noisy = clean + sigma[:, None] * noise
            denoised = model.prior.denoise(noisy, sigma, cond)
            for k in range(len(clean)):
                signals = {"noisy": noisy[k], "denoised": denoised[k], "clean": clean[k]}
                arrays = {name: signal.float().cpu().numpy() for name, signal in signals.items()}
                panels.append([Panel(f"clip {k}, noise {level}: {name}", array) for name, array in arrays.items()])
                sounds[f"clip{k}_noise{level}_denoised"] = arrays["denoised"]
        rate = model.prior.sample_rate
        for logger in loggers:
            _log(logger, trainer.global_step, spectrograms(panels, rate), sounds, rate)


def _log(
    logger: TensorBoardLogger | WandbLogger, step: int, picture: Figure, sounds: dict[str, np.ndarray], rate: int
) -> None:
    def audible(samples: np.ndarray) -> np.ndarray:
        return samples / max(1e-3, float(np.abs(samples).max()))

    if isinstance(logger, TensorBoardLogger):
        logger.experiment.add_figure("samples/spectrograms", picture, step)
        for name, samples in sounds.items():
            logger.experiment.add_audio(f"samples/{name}", audible(samples), step, sample_rate=rate)
    else:
        logger.log_image("samples/spectrograms", [picture], step=step)
        for name, samples in sounds.items():
            logger.log_audio(f"samples/{name}", [audible(samples)], step=step, sample_rate=[rate])
