"""Pre-training of the small lip encoder: it learns to read lips before any diffusion training, as BRAVEn did."""

from __future__ import annotations

import math
from pathlib import Path

import torch
import torch.nn.functional as F
import torchaudio
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn

from avdiff.errors import UserError, at_least, positive
from avdiff.lit.augmentation import VisualAugmentation
from avdiff.lit.validation import weight_of
from avdiff.lit.written import WrittenModel
from avdiff.nets.state import read_weights, write_weights
from avdiff.nets.visual import LipEncoder
from avdiff.rng import drawn_by
from avdiff.types import SAMPLE_RATE

UNKNOWN = 255  # phoneme label of a frame without one
MELS = 24
HOPS = 4  # spectrogram frames a video frame: 10 ms


class LipReader(WrittenModel):
    """Two tasks on the features of each video frame: its phoneme (cross-entropy), and the log-mel spectrum heard in it (L1).

    The second needs no labels, so real talkers take part.

    A batch is a dict: `audio` (B, T), `visual` (B, F, 96, 96) uint8, `seen` (B, F) bool, `phonemes` (B, F) uint8 with 255
    for unknown.

    Args:
        encoder: what is trained.
        phonemes: number of phoneme classes.
        learning_rate: of Adam: a warm-up over a twentieth of the trainer's max_steps, then a cosine decay to zero.
        out: safetensors file for the encoder at the end of each validation and of the fit; None for none.
        initial: such a file to start from.
        augmentation: of the mouth crops; None for crops as they are.
        seed: of the augmentation, which depends on it, the epoch, the batch and the rank alone.
    """

    def __init__(
        self,
        encoder: LipEncoder,
        phonemes: int = 48,
        learning_rate: float = 1e-3,
        out: Path | None = None,
        initial: Path | None = None,
        augmentation: VisualAugmentation | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        positive(learning_rate=learning_rate)
        at_least(1, phonemes=phonemes)
        if initial is not None:
            if not initial.is_file():
                raise UserError(f"initial weights {initial} do not exist; leave out --model.init_args.initial")
            state = {name.removeprefix("encoder."): value for name, value in read_weights(initial).items()}
            encoder.load_state_dict(state)
        self.encoder, self.learning_rate, self.out, self.seed = encoder, learning_rate, out, seed
        self.augmentation = augmentation
        self.classify = nn.Linear(encoder.dim, phonemes)
        self.hear = nn.Linear(encoder.dim, MELS * HOPS)
        self.mel = torchaudio.transforms.MelSpectrogram(
            SAMPLE_RATE, n_fft=512, hop_length=160, n_mels=MELS, f_max=7600.0
        )

    def heard(self, audio: Tensor) -> Tensor:
        """(B, T) -> (B, F, 96): log-mel of each video frame, level-normalised, floored 50 dB below the clip's level."""
        audio = audio / audio.square().mean(-1, keepdim=True).sqrt().clamp_min(1e-4)
        with torch.autocast(audio.device.type, enabled=False):
            mel = self.mel(audio.float())
        log = (mel / mel.mean((1, 2), keepdim=True).clamp_min(1e-8) + 1e-5).log10()
        frames = audio.shape[-1] * 25 // SAMPLE_RATE
        return log[..., : frames * HOPS].unflatten(-1, (frames, HOPS)).permute(0, 2, 1, 3).flatten(2)

    def _losses(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Of the phonemes and of the spectrum, and for each phoneme that is known and seen whether it was read."""
        visual = batch["visual"]
        if self.training and self.augmentation is not None:
            visual = self.augmentation(visual)
        features = self.encoder(visual)
        labels = torch.where(batch["seen"], batch["phonemes"].long(), UNKNOWN)
        logits = self.classify(features).flatten(0, 1)
        known = labels.flatten() != UNKNOWN
        phoneme = F.cross_entropy(logits, labels.flatten(), ignore_index=UNKNOWN) if known.any() else logits.sum() * 0
        correct = (logits.argmax(-1) == labels.flatten())[known].float()
        seen = batch["seen"][..., None]
        difference = (self.hear(features) - self.heard(batch["audio"])).abs() * seen
        return phoneme, difference.sum() / (seen.sum() * difference.shape[-1]).clamp_min(1), correct

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        with drawn_by(self.device, self.seed, self.current_epoch, batch_idx, self.global_rank):
            phoneme, mel, correct = self._losses(batch)
        self.log_dict({"train/phoneme": phoneme, "train/mel": mel}, prog_bar=True)
        if len(correct):
            self.log("train/accuracy", correct.mean(), prog_bar=True)
        return phoneme + 2 * mel

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        phoneme, mel, correct = self._losses(batch)
        values = {"val/phoneme": phoneme, "val/mel": mel}
        self.log_dict(values, prog_bar=True, batch_size=weight_of(batch, len(batch["audio"])), sync_dist=True)
        if weight_of(batch, 1):
            self._read += torch.tensor([float(correct.sum()), len(correct)], device=self.device)

    def on_validation_epoch_start(self) -> None:
        self._read = torch.zeros(2, device=self.device)  # phonemes that were read, of how many

    def on_validation_epoch_end(self) -> None:
        right, known = self.trainer.strategy.reduce(self._read, reduce_op="sum")
        if known:
            self.log("val/accuracy", right / known, prog_bar=True)

    def write(self, out: Path) -> None:
        write_weights(out, {f"encoder.{name}": tensor for name, tensor in self.encoder.state_dict().items()})

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        optimizer = torch.optim.Adam(self.parameters(), lr=self.learning_rate)
        total = int(self.trainer.estimated_stepping_batches)

        def rate(step: int) -> float:
            rise = max(1, round(0.05 * total))
            fall = min(1.0, max(0.0, (step - rise) / max(1, total - rise)))
            return min(1.0, (step + 1) / rise) * 0.5 * (1 + math.cos(math.pi * fall))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
