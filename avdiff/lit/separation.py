"""Separation under Lightning: `avdiff predict` for every method there is."""

from __future__ import annotations

import lightning.pytorch as pl

from avdiff.errors import UserError
from avdiff.rng import ClipNoise
from avdiff.samplers.base import Callback
from avdiff.separators.base import Separator
from avdiff.types import Observation, Separation


class SeparationModule(pl.LightningModule):
    """Runs a separator on batches of mixtures.

    The result of a clip depends on the seed and on its key, not on its batch or process. A separator with a prior in it
    loads its own weights: there is no checkpoint of this module.

    Args:
        separator: the method.
        seed: of the sampling noise.
    """

    def __init__(self, separator: Separator, seed: int = 0) -> None:
        super().__init__()
        self.separator = separator
        self.seed = seed
        self.on_sampler_step: Callback | None = None

    def setup(self, stage: str) -> None:
        if stage == "predict" and self.separator.oracle:
            reveal = getattr(getattr(self.trainer, "datamodule", None), "reveal", None)
            if reveal is None:
                raise UserError(
                    "the method has a prior that is told the sources, which the data given cannot tell; give a list of mixtures "
                    "whose parts are known (datamodules.mixtures.Mixtures)"
                )
            reveal()

    def predict_step(self, batch: Observation) -> Separation:
        return self.separator.separate(batch, rng=ClipNoise(self.seed, batch.key), callback=self.on_sampler_step)
