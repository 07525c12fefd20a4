"""Training of systems that learn from mixtures: what they share."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torchmetrics.functional.audio import scale_invariant_signal_distortion_ratio

from avdiff.errors import UserError, at_least, positive
from avdiff.lit.augmentation import VisualAugmentation
from avdiff.lit.validation import weight_of
from avdiff.nets.state import first_difference, read_weights
from avdiff.nets.visual import VisualEncoder
from avdiff.rng import drawn_by

Batch = dict[str, Any]


class SupervisedModel(pl.LightningModule):
    """A network that is shown mixtures and told what is in them.

    A batch is a dict: `mixture` (B, T); `sources` (B, K + 1, T), K talkers and noise, whose sum it is; `visual` (B, K, F, ...);
    `seen` (B, K, F) bool, all False for a talker without video; `layout`.

    Args:
        network: what is trained.
        learning_rate: of Adam.
        warmup_steps: linear ramp of the learning rate from zero.
        decay_steps: cosine decay to a hundredth of the learning rate, ending at this step; 0 for a constant rate.
        lips: of a network with a frozen encoder: "speech" for that of the shipped prior, or a safetensors file (or a folder with
            model.safetensors) with `encoder.*`, as `make train-speech` leaves it; None for an encoder that is trained, or
            features.
        initial: weights to start from: a folder that `avdiff export` wrote.
        seed: of all draws. Those of a step depend on it, the epoch, the batch and the rank alone.
    """

    def __init__(
        self,
        network: nn.Module,
        learning_rate: float,
        warmup_steps: int = 0,
        decay_steps: int = 0,
        lips: str | None = None,
        initial: Path | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        positive(learning_rate=learning_rate)
        at_least(0, warmup_steps=warmup_steps, decay_steps=decay_steps)
        self.network = network
        self.learning_rate, self.warmup_steps, self.decay_steps = learning_rate, warmup_steps, decay_steps
        self.seed = seed
        if lips is not None:
            _load_lips(network.encoder, lips)  # type: ignore[arg-type]
        if initial is not None:
            file = initial / "model.safetensors"
            if not file.is_file():
                raise UserError(f"initial weights {file} do not exist; leave out --model.init_args.initial")
            own = network.state_dict()
            state = {name: value.to(own[name].dtype) for name, value in read_weights(file).items() if name in own}
            if odd := first_difference(own, state):
                raise UserError(f"{file} does not fit this network: first difference at {odd!r}")
            network.load_state_dict(state)

    @abstractmethod
    def loss(self, batch: Batch) -> Tensor:
        """Of a batch, a number."""

    @abstractmethod
    def estimate(self, batch: Batch) -> Tensor:
        """(B, K, T), the talkers of a batch in which all are seen."""

    def nothing(self) -> Tensor:
        """Zero, with gradients for every process to wait for: all or part of the loss where nobody is seen."""
        return zero_of(p for p in self.parameters() if p.requires_grad)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        with drawn_by(self.device, self.seed, self.current_epoch, batch_idx, self.global_rank):
            if batch["visual"].ndim == 5:  # features made beforehand cannot be augmented
                visual = VisualAugmentation()(batch["visual"].flatten(0, 1)).view_as(batch["visual"])
                batch = {**batch, "visual": visual}
            loss = self.loss(batch)
        self.log("train/loss", loss, prog_bar=True, batch_size=len(batch["mixture"]))
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """SI-SDR of the talkers and what is gained over the mixture, in dB, in all and by number of talkers."""
        talkers = batch["sources"].shape[1] - 1
        clean, found = batch["sources"][:, :talkers], self.estimate(batch).float()
        before = scale_invariant_signal_distortion_ratio(batch["mixture"][:, None].expand_as(clean), clean)
        after = scale_invariant_signal_distortion_ratio(found, clean)
        count = weight_of(batch, len(clean))
        for name, value in {"si_sdr": after.mean(), "si_sdr_gain": (after - before).mean()}.items():
            self.log(f"val/{name}", value, prog_bar=True, batch_size=count * talkers, sync_dist=True)
            self.log(f"val/{name}_talkers{talkers}", value, batch_size=count * talkers, sync_dist=True)

    def optimizer(self) -> torch.optim.Optimizer:
        return torch.optim.Adam([p for p in self.parameters() if p.requires_grad], lr=self.learning_rate)

    def configure_optimizers(self) -> Any:
        optimizer = self.optimizer()
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _rate(self, step: int) -> float:
        rate = min(1.0, (step + 1) / self.warmup_steps) if self.warmup_steps else 1.0
        if self.decay_steps:
            rate *= 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, step / self.decay_steps)))
        return rate


def zero_of(parameters: Iterable[nn.Parameter]) -> Tensor:
    """Zero, with a gradient of zero for each: every process waits for those, also where its batch has no use for them."""
    return sum((0 * p.sum() for p in parameters), torch.zeros(()))


def rows_of_talkers(batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Each talker who is seen as a row of their own: mixture (N, T), target (N, T), visual (N, F, ...), seen (N, F)."""
    seen = batch["seen"]
    row, talker = seen.any(2).nonzero(as_tuple=True)
    return batch["mixture"][row], batch["sources"][row, talker], batch["visual"][row, talker], seen[row, talker]


def _load_lips(encoder: VisualEncoder, source: str) -> None:
    path = Path(str(resources.files("avdiff") / "weights" / "speech")) if source == "speech" else Path(source)
    file = path / "model.safetensors" if path.is_dir() else path
    if not file.is_file():
        raise UserError(
            f"there is no lip encoder {file}; give --model.init_args.lips speech, or train one: make train-speech"
        )
    state = {
        name.removeprefix("encoder."): value.float()
        for name, value in read_weights(file).items()
        if name.startswith("encoder.")
    }
    own = {name: value.shape for name, value in encoder.state_dict().items()}
    if own != {name: value.shape for name, value in state.items()}:
        raise UserError(f"{file} does not hold the lip encoder of this preset; give the one that it was made with")
    encoder.load_state_dict(state)
