"""Training of variational autoencoders of speech: on clean frames, on mixtures, and with two branches."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn

from avdiff.audio.mixing import power
from avdiff.errors import UserError, at_least, ordered, positive, share
from avdiff.lit.augmentation import VisualAugmentation
from avdiff.lit.supervised import zero_of
from avdiff.lit.validation import place_of, weight_of
from avdiff.lit.written import WrittenModel
from avdiff.nets.vae import Gaussian
from avdiff.nets.visual import VisualEncoder
from avdiff.priors.vae import PRESETS, ConditionalVAE, MinVAE, SpeechVAE, load_lips, load_vae, save_vae
from avdiff.rng import drawn_by


@dataclass(frozen=True)
class Frames:
    """Spectra and lips of a batch of clips.

    Attributes:
        clean: (B, N, bins) power of clean speech at its own level.
        target: (B, N, bins) power of the same speech as it is in the mixture.
        mixture: (B, N, bins) power of a mixture of root mean square 1.
        features: (B, pictures, dim) of the lips.
        seen: (B, pictures) bool.
    """

    clean: Tensor
    target: Tensor
    mixture: Tensor
    features: Tensor
    seen: Tensor


QUIET = 1e-4  # power added to every bin, 40 dB below the talker or mixture: what is quieter need not be told exactly


def distortion(clean: Tensor, log_variance: Tensor) -> Tensor:
    """Sum over bins of ln sigma² + |s|² / sigma²: (..., bins) twice -> (...). Itakura-Saito, but for a constant."""
    return (log_variance + (clean + QUIET) * (-log_variance).exp()).sum(-1)


def _noise(like: Gaussian) -> Tensor:
    return torch.randn_like(like.mean)


class Objective(nn.Module, ABC):
    """A VAE and what it is trained for.

    Attributes:
        vae: what is trained.
    """

    vae: SpeechVAE

    @abstractmethod
    def losses(self, frames: Frames, v: Tensor | None, progress: float) -> Tensor:
        """Loss of every frame, (B, N).

        Args:
            frames: of a batch.
            v: the lips' vectors, (B, N, dim).
            progress: share of the training that is done.
        """

    def before_batch(self) -> None:
        """Before the losses of a batch in training, where all processes draw alike."""

    def before_step(self) -> None:
        """Between the gradients and the step of the optimizer."""


class ConditionalObjective(Objective):
    """The evidence lower bound, and the same for z from the prior, so that the lips are used (TASLP 2020).

    beta (distortion(z) + KL(q || p)) + (1 - beta) distortion(z_p), z ~ q(z | s, v), z_p ~ p(z | v).

    Args:
        vae: with one posterior.
        beta: weight of the bound. Public code: 1 or 0.9.
        blind: share of the batches in which weights that act on sound stay as they are, so that the lips' learn. Public code:
            0.2.
        mixed: the posterior is given the mixture, q(z | x, v), and the target is the talker as loud as there
            (arXiv 2008.07191).
    """

    def __init__(self, vae: ConditionalVAE, beta: float = 0.9, blind: float = 0.2, mixed: bool = False) -> None:
        super().__init__()
        self.vae: ConditionalVAE = vae
        self.beta, self.mixed = beta, mixed
        self.blind = blind if vae.posterior.lips is not None else 0.0
        self._blinded = False  # this batch

    def before_batch(self) -> None:
        self._blinded = float(torch.rand(())) < self.blind

    def losses(self, frames: Frames, v: Tensor | None, progress: float) -> Tensor:
        heard, target = (frames.mixture, frames.target) if self.mixed else (frames.clean, frames.clean)
        vae = self.vae
        blind = self.training and self._blinded
        with _untouched(self._sound() if blind else []):
            posterior, prior = vae.infer(heard, v), vae.latent_prior(v, heard)
            offset = vae.decoder.offset(v)
            loss = distortion(target, vae.decoder(posterior.sample(_noise(posterior)), offset))
            loss = loss + posterior.divergence(prior)
            if self.training and self.beta != 1 and vae.prior is not None:
                loss = self.beta * loss + (1 - self.beta) * distortion(
                    target, vae.decoder(prior.sample(_noise(prior)), offset)
                )
        return loss + zero_of(self._sound_parameters()) if blind else loss

    def _sound(self) -> list[nn.Linear]:
        """What acts on sound."""
        return [self.vae.posterior.audio, self.vae.posterior.head, self.vae.decoder.latent]

    def _sound_parameters(self) -> Iterator[nn.Parameter]:
        return (p for module in self._sound() for p in module.parameters())

    def before_step(self) -> None:
        for p in self._sound_parameters():
            if p.grad is not None and not p.grad.any():  # the batch was blind
                p.grad = None


@contextmanager
def _untouched(modules: list[nn.Linear]) -> Iterator[None]:
    """What is computed inside gives these modules no gradient."""
    for module in modules:
        module.requires_grad_(False)
    try:
        yield
    finally:
        for module in modules:
            module.requires_grad_(True)


class MinObjective(Objective):
    """Responsibility-weighted bounds of the two branches of MIN-VAE.

    pi_n = alpha / (alpha + (1 - alpha) exp(bound_a - bound_v)), loss pi bound_a + (1 - pi) bound_v, alpha the mean of pi: a
    running one, alpha <- alpha + alpha_rate (mean of a batch - alpha), where the public code takes that of each epoch, of which a
    short training has none. Of several processes the first's counts.

    Args:
        vae: with two branches.
        noisy: share of clips whose audio is disturbed. Public code: 0.5, by 50 U(0, 1) on spectra at another scale.
        disturbance: what is added to their power, times U(0, 1).
        alone: share of the training in which both branches learn alike; the public code starts from branches that were
            trained alone.
        alpha_rate: of the running mean; 0 keeps alpha as it is.
    """

    def __init__(
        self, vae: MinVAE, noisy: float = 0.5, disturbance: float = 1.0, alone: float = 0.5, alpha_rate: float = 0.01
    ) -> None:
        super().__init__()
        self.vae: MinVAE = vae
        self.noisy, self.disturbance, self.alone, self.alpha_rate = noisy, disturbance, alone, alpha_rate

    def losses(self, frames: Frames, v: Tensor | None, progress: float) -> Tensor:
        assert v is not None
        clean, vae = frames.clean, self.vae
        heard = clean
        if self.training:
            hit = torch.rand_like(clean[:, :1, :1]) < self.noisy
            heard = clean + self.disturbance * hit * torch.rand_like(clean)
        audio, video = vae.components(clean)
        bounds = [
            distortion(clean, vae.decoder(posterior.sample(_noise(posterior)))) + posterior.divergence(prior)
            for posterior, prior in ((vae.heard(heard), audio), (vae.seen(v), video))
        ]
        with torch.no_grad():
            odds = (bounds[0] - bounds[1]).clamp(-30, 30).exp()
            pi = vae.alpha / (vae.alpha + (1 - vae.alpha) * odds)
            if self.training and progress < self.alone:
                pi = torch.full_like(pi, 0.5)
            if self.training:
                vae.alpha.lerp_(pi.mean().clamp(0.01, 0.99), self.alpha_rate)
        return pi * bounds[0] + (1 - pi) * bounds[1]


def objective(preset: str, lips: VisualEncoder, alpha_rate: float) -> Objective:
    """The VAE of a preset with what it is trained for."""
    vae = PRESETS[preset](lips)
    if isinstance(vae, MinVAE):
        return MinObjective(vae, alpha_rate=alpha_rate)
    assert isinstance(vae, ConditionalVAE)
    return ConditionalObjective(vae, mixed=preset == "mixed_vae")


class VAEModel(WrittenModel):
    """One or several VAEs, trained side by side on the same clips: the lips, which cost most, are then read once for all.

    A batch is one of `datamodules.training_mixtures`: `mixture` (B, T), `sources` (B, K + 1, T), `visual` (B, K, F, ...), `seen`
    (B, K, F) bool. Every talker is a clean clip too.

    Args:
        presets: names in `avdiff.priors.vae.PRESETS`.
        lips: source of the speech prior whose lip encoder they have.
        learning_rate: of Adam, with a cosine decay to zero over the trainer's max_steps.
        dropout: share of the clips whose lips are not shown: talkers off-screen are taken for these.
        gain_db: levels of clean speech around root mean square 1.
        alpha_rate: see `MinObjective`.
        out: folder for a folder a VAE at the end of each validation and of the fit; None for none.
        initial: such a folder to start from; a speaker-dependent VAE starts from the independent one.
        seed: of levels, mixtures, latent draws and augmentation; a step's depend on it, the epoch, the batch and the rank; which
            batches are blind, on no rank.
    """

    def __init__(
        self,
        presets: tuple[str, ...] = ("audio_vae", "conditional_vae", "mixed_vae", "min_vae"),
        lips: str = "speech",
        learning_rate: float = 1e-3,
        dropout: float = 0.2,
        gain_db: tuple[float, float] = (-4.0, 4.0),
        alpha_rate: float = 0.01,
        out: Path | None = None,
        initial: Path | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        positive(learning_rate=learning_rate)
        at_least(0, alpha_rate=alpha_rate)
        share(dropout=dropout)
        ordered(gain_db=gain_db)
        if unknown := [name for name in presets if name not in PRESETS]:
            raise UserError(f"there is no VAE {unknown[0]!r}; presets are {', '.join(PRESETS)}")
        self.encoder, self.source = load_lips(lips), lips
        self.objectives = nn.ModuleDict({name: objective(name, self.encoder, alpha_rate) for name in presets})
        self.learning_rate, self.dropout, self.gain_db = learning_rate, dropout, gain_db
        self.out, self.seed = out, seed
        if initial is not None:
            self._start_from(initial)

    def _start_from(self, folder: Path) -> None:
        for name, trained in self._objectives().items():
            trained.vae.load_state_dict(load_vae(str(folder / name)).state_dict())

    def _objectives(self) -> Mapping[str, Objective]:
        return dict(self.objectives.items())  # type: ignore[arg-type]

    # -- data

    def frames(self, batch: dict[str, Tensor], visual: Tensor) -> Frames:
        """Spectra and lips of every talker of a batch of mixtures."""
        mixture, speech = batch["mixture"], batch["sources"][:, :-1]
        vae = next(iter(self._objectives().values())).vae
        low, high = self.gain_db
        gain = 10 ** ((low + (high - low) * torch.rand((*speech.shape[:2], 1), device=speech.device)) / 20)
        level = power(mixture)[:, None].sqrt().clamp_min(1e-8)
        with torch.no_grad():
            features = self.encoder(visual.flatten(0, 1))
        heard = vae.power(mixture / level)[:, None].expand(-1, speech.shape[1], -1, -1)
        clean, target = vae.power(gain * _unit(speech)), vae.power(speech / level[..., None])
        clean, target, heard = (x.flatten(0, 1) for x in (clean, target, heard))
        return Frames(clean, target, heard, features, batch["seen"].flatten(0, 1))

    def _losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        visual = batch["visual"]
        if visual.ndim == 5:  # crops; features made beforehand cannot be varied
            visual = VisualAugmentation()(visual.flatten(0, 1)).unflatten(0, visual.shape[:2])
        frames = self.frames(batch, visual)
        keep = torch.rand(len(frames.seen), 1, device=visual.device) >= self.dropout
        return self._each(frames, frames.seen & keep)

    def _each(self, frames: Frames, seen: Tensor) -> dict[str, Tensor]:
        """Mean loss a frame of every VAE."""
        done = self.global_step / max(1, self.trainer.estimated_stepping_batches) if self._trainer else 0.0
        out = {}
        with torch.autocast(seen.device.type, enabled=False):
            for name, each in self._objectives().items():
                project = each.vae.project
                v = None if project is None else project(frames.features.float(), seen, frames.clean.shape[1])
                out[name] = each.losses(frames, v, done).mean()
        return out

    # -- steps

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        with drawn_by(self.device, self.seed, self.current_epoch, batch_idx):
            for each in self._objectives().values():
                each.before_batch()
        with drawn_by(self.device, self.seed, self.current_epoch, batch_idx, self.global_rank):
            losses = self._losses(batch)
        self.log_dict({f"train/{name}": loss for name, loss in losses.items()}, batch_size=len(batch["mixture"]))
        return torch.stack(list(losses.values())).sum()

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        with drawn_by(self.device, self.seed, place_of(batch, batch_idx)):
            frames = self.frames(batch, batch["visual"])
            other = {"": (frames.features, frames.seen)}
            other["_no_lips"] = (frames.features, torch.zeros_like(frames.seen))
            other["_other_lips"] = (frames.features.roll(1, 0), frames.seen.roll(1, 0))
            for suffix, (features, seen) in other.items():
                shown = Frames(frames.clean, frames.target, frames.mixture, features, seen)
                for name, loss in self._each(shown, seen).items():
                    self.log(f"val/{name}{suffix}", loss, batch_size=weight_of(batch, len(seen)), sync_dist=True)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        for each in self._objectives().values():
            each.before_step()

    def write(self, out: Path) -> None:
        for name, each in self._objectives().items():
            save_vae(out / name, name, self.source, each.vae)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        parameters = [p for p in self.parameters() if p.requires_grad]
        optimizer = torch.optim.Adam(parameters, lr=self.learning_rate)
        steps = max(1, int(self.trainer.estimated_stepping_batches))

        # a function, which checkpoints do not hold: going on with more steps is going on with their cosine
        def rate(step: int) -> float:
            return 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps)))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def _unit(audio: Tensor) -> Tensor:
    """Clips (..., T) at root mean square 1; silence stays."""
    rms = power(audio)[..., None].sqrt()
    return audio * torch.where(rms > 1e-4, 1 / rms.clamp_min(1e-8), torch.zeros_like(rms))
