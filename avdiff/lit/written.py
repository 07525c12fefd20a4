"""Training whose result is a file or folder of its own, beside the checkpoints."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

import lightning.pytorch as pl


class WrittenModel(pl.LightningModule, ABC):
    """Writes what it has learned at the end of each validation and of the fit.

    The latter is all that is left to do for a fit that was ended before its last validation and is started again.

    Attributes:
        out: where to; None for nowhere.
    """

    out: Path | None = None

    @abstractmethod
    def write(self, out: Path) -> None:
        """Write what has been learned; only the first process is asked to."""

    def on_validation_end(self) -> None:
        if not self.trainer.sanity_checking:
            self.on_fit_end()

    def on_fit_end(self) -> None:
        if self.out is not None and self.trainer.is_global_zero:
            self.write(self.out)
