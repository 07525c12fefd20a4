"""Training of a score model: one LightningModule for speech (with video) and for noise."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor

from avdiff.audio.representation import squared_magnitude
from avdiff.errors import UserError, at_least, ordered, positive, share
from avdiff.lit.augmentation import AcousticAugmentation, VisualAugmentation
from avdiff.lit.covariance import RandomCovariance
from avdiff.lit.muon import Muon, hidden_matrices
from avdiff.lit.validation import place_of, weight_of
from avdiff.nets.state import read_weights
from avdiff.nets.visual import LipSpectrum
from avdiff.priors.edm import EDMPrior
from avdiff.rng import drawn_by

LEVELS = (0.02, 0.05, 0.12, 0.3, 0.6, 1.2, 2.4, 4.0)  # validation noise levels, in units of sigma_data

GAINS = (-12, -8, -4, 0, 4, 8)  # levels of the clips in dB, at which the error is told for one ratio of signal to noise
GAIN_NOISE = 1.2  # that ratio: the noise's deviation, in units of the signal's
LATE = 5  # frames at 25 a second that lips are shifted by in validation


class SigmaLaw(ABC):
    """Distribution of the training noise level."""

    @abstractmethod
    def sample(self, u: Tensor, sigma_data: float) -> Tensor:
        """Uniform (N,) in (0, 1) -> sigma (N,) in waveform units."""


@dataclass(frozen=True)
class LogNormal(SigmaLaw):
    """ln(sigma / sigma_data) ~ N(ln median, deviation²). Karras et al. (images): median 0.6, deviation 1.2.

    Lips act at high noise, so a speech prior wants a higher median than images do. A share `wide` of the levels is
    log-uniform in `span` instead, so that no level that a sampler may start from is strange to the network.
    """

    median: float = 1.2
    deviation: float = 1.2
    wide: float = 0.0
    span: tuple[float, float] = (0.01, 100.0)

    def sample(self, u: Tensor, sigma_data: float) -> Tensor:
        low, high = (math.log(end) for end in self.span)
        flat = low + (high - low) * u / max(self.wide, 1e-6)
        inner = (u - self.wide) / (1 - self.wide)
        normal = math.sqrt(2) * torch.erfinv((2 * inner - 1).clamp(-0.9999, 0.9999))
        return sigma_data * torch.exp(torch.where(u < self.wide, flat, math.log(self.median) + self.deviation * normal))


@dataclass(frozen=True)
class PolyUniform(SigmaLaw):
    """Uniform on the rho-warped grid, in waveform units: BUDDy's law (arXiv 2405.04272)."""

    low: float = 1e-5
    high: float = 10.0
    rho: float = 10.0

    def sample(self, u: Tensor, sigma_data: float) -> Tensor:
        low, high = self.low ** (1 / self.rho), self.high ** (1 / self.rho)
        return (high + u * (low - high)) ** self.rho


class ScoreModel(pl.LightningModule):
    """Denoising score matching: E || D(x0 + sigma n; sigma, v) - x0 ||² (SSNAPS, eq. 3), weighted as in EDM.

    A batch is a dict: `audio` (B, T) float; for a prior with video also `visual` (B, F, ...) and `seen` (B, F) bool; for a noise
    prior perhaps `voice` (B, T), whose spectrograms `covariance` takes for its noise in place of the clips' own.

    Args:
        prior: what is trained.
        sigma_law: distribution of the noise level.
        learning_rate: of the optimizer. BUDDy: 1e-4, constant.
        optimizer: "adam" (BUDDy) or "muon", see `avdiff.lit.muon`.
        warmup_steps: linear ramp of the learning rate from zero. BUDDy: none.
        decay_steps: cosine decay to a hundredth of the learning rate, ending at this step; 0 for a constant rate (BUDDy).
        dropout: probability that a clip's video is replaced by the null feature (classifier-free guidance training).
            SSNAPS is silent; LipVoicer, of the same first author, uses 0.2.
        gain_db: range of the clip level relative to sigma_data; what normalised mixtures leave to their sources.
        spectrum_batches: training batches that a coloured prior's spectrum is measured on before the first step.
        covariance: law of noise whose level differs from bin to bin, for a prior that takes it; None for white noise
            throughout (SSNAPS).
        likelihood_weight: weight of the negative log-likelihood of the error, for a prior that says its variance.
        remeasure: measure the spectrum, and what the lips say of it, although `initial` has both.
        initial: weights to start from, one or several: a folder with model.safetensors, or such a file. Parts that it lacks stay
            as they are; of what two hold, the later counts.
        visual_augmentation: of the mouth crops in training; None for crops as they are.
        acoustic_augmentation: of the clean sound in training; None for the sound as it is.
        seed: of levels, noise, dropped lips and augmentation. A step's draws depend on it, the epoch, the batch and the
            rank alone, so that a run that was stopped goes on as if it had not been.
    """

    def __init__(
        self,
        prior: EDMPrior,
        sigma_law: SigmaLaw | None = None,
        learning_rate: float = 1e-4,
        optimizer: Literal["adam", "muon"] = "adam",
        warmup_steps: int = 0,
        decay_steps: int = 0,
        dropout: float = 0.1,
        gain_db: tuple[float, float] = (-12.0, 3.0),
        spectrum_batches: int = 32,
        covariance: RandomCovariance | None = None,
        likelihood_weight: float = 0.1,
        remeasure: bool = False,
        initial: Path | list[Path] | None = None,
        visual_augmentation: VisualAugmentation | None = None,
        acoustic_augmentation: AcousticAugmentation | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        positive(learning_rate=learning_rate)
        at_least(0, warmup_steps=warmup_steps, decay_steps=decay_steps, spectrum_batches=spectrum_batches)
        at_least(0, likelihood_weight=likelihood_weight)
        share(dropout=dropout)
        ordered(gain_db=gain_db)
        self.prior = prior
        self.sigma_law = sigma_law or PolyUniform()
        self.learning_rate, self.warmup_steps, self.decay_steps = learning_rate, warmup_steps, decay_steps
        self.optimizer = optimizer
        self.dropout, self.gain_db, self.spectrum_batches = dropout, gain_db, spectrum_batches
        self.covariance, self.likelihood_weight, self.seed = covariance, likelihood_weight, seed
        self.visual_augmentation, self.acoustic_augmentation = visual_augmentation, acoustic_augmentation
        if covariance is not None and not prior.local:
            raise UserError(
                "covariance is set, but this prior's network is not told the noise level of every bin; take a preset that is, "
                "or leave covariance out: --model.init_args.covariance null"
            )
        self._measured = False
        for source in initial if isinstance(initial, list) else [initial]:
            if source is not None:
                self._start_from(source)
        self._measured = self._measured and not remeasure

    def _start_from(self, source: Path) -> None:
        file = source / "model.safetensors" if source.is_dir() else source
        if not file.is_file():
            raise UserError(
                f"initial weights {file} do not exist; train them first or leave out --model.init_args.initial"
            )
        state = {name: tensor.float() for name, tensor in read_weights(file).items()}
        missing, unexpected = self.prior.load_state_dict(state, strict=False)
        if unexpected:
            raise UserError(f"{file} holds {unexpected[0]!r}, which this prior has not; it belongs to another preset")
        self._measured = self._measured or "spectrum" not in missing

    # -- data

    def levelled(self, audio: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Scale each clip to a level drawn from `gain_db`; silence stays silent."""
        low, high = self.gain_db
        draw = torch.rand((*audio.shape[:-1], 1), generator=generator, device=audio.device)
        return self._at(audio, low + (high - low) * draw)

    def _at(self, audio: Tensor, gain: Tensor | float) -> Tensor:
        """Clips at a level in dB relative to sigma_data."""
        rms = audio.square().mean(-1, keepdim=True).sqrt()
        wanted = self.prior.sigma_data * 10 ** (gain / 20)
        return audio * torch.where(rms > 1e-4, wanted / rms.clamp_min(1e-8), torch.zeros_like(rms))

    def condition(self, batch: dict[str, Tensor], keep: Tensor | None = None) -> Tensor | None:
        """Conditioning vectors of a batch, with the null feature where `keep` (B,) is False."""
        if not self.prior.conditional:
            return None
        seen = batch["seen"]
        return self.prior.embed(batch["visual"], seen if keep is None else seen & keep[:, None])

    def _varied(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """A training batch as other cameras and microphones would have recorded it; features made beforehand stay."""
        if self.visual_augmentation is not None and "visual" in batch and batch["visual"].ndim == 4:
            batch = batch | {"visual": self.visual_augmentation(batch["visual"])}
        if self.acoustic_augmentation is not None:
            sounds = {name: batch[name] for name in ("audio", "voice") if name in batch}
            batch = batch | {name: self.acoustic_augmentation(x, self.prior.stft) for name, x in sounds.items()}
        return batch

    # -- loss

    def error(
        self, clean: Tensor, noise: Tensor, sigma: Tensor, cond: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Weighted loss, plain mean square error and negative log-likelihood of the error of each clip, all (B,).

        A flat prior gets EDM's weight 1 / c_out². A coloured one is weighted by 1 / (c_out mean c_out): half way between equal
        weight to every bin and equal weight to every sample (ours). The likelihood takes the error in a bin as Gaussian with
        the variance that the prior says; None for a prior that does not.

        Args:
            clean, noise: (B, T).
            sigma: what the prior is told of the noise, (B,) or (B, bins, frames).
            cond: see `condition`.
        """
        mean, variance = self.prior.predict(clean + noise, sigma, cond)
        difference = mean.float() - clean
        _, c_out, _, _ = self.prior.scalings(sigma)
        c_out = c_out.squeeze(1)
        with torch.autocast(difference.device.type, enabled=False):
            power = squared_magnitude(self.prior.stft(difference)) / self.prior.stft.energy
        weight = 1 / (c_out * c_out.mean(dim=(1, 2), keepdim=True))
        likelihood = None
        if variance is not None:
            likelihood = (power.detach() / variance + variance.log() - 2 * c_out.log()).mean((1, 2))
        return (weight * power).mean((1, 2)), difference.square().mean(-1), likelihood

    def _noise(self, clean: Tensor, sigma: Tensor, voice: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Noise of deviation sigma (B,) in mean square, shaped where `covariance` is set; and what the prior is told of it."""
        if self.covariance is None:
            return sigma[:, None] * torch.randn_like(clean), sigma
        noise, told = self.covariance.draw(self.prior.stft, clean if voice is None else voice)
        noise, told = sigma[:, None] * noise, sigma[:, None, None] * told
        return noise, self.covariance.estimate(self.prior.stft, clean, noise, told)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        with drawn_by(self.device, self.seed, self.current_epoch, batch_idx, self.global_rank):
            return self._training_loss(batch)

    def _training_loss(self, batch: dict[str, Tensor]) -> Tensor:
        batch = self._varied(batch)
        clean = self.levelled(batch["audio"])
        count = clean.shape[0]
        # stratified noise levels: one in each of B equal slices of the law
        u = (torch.randperm(count, device=clean.device) + torch.rand(count, device=clean.device)) / count
        sigma = self.sigma_law.sample(u, self.prior.sigma_data)
        keep = torch.rand(count, device=clean.device) >= self.dropout
        loss, _, likelihood = self.error(
            clean, *self._noise(clean, sigma, batch.get("voice")), self.condition(batch, keep)
        )
        self.log("train/loss", loss.mean(), prog_bar=True, batch_size=count)
        total = loss.mean()
        if likelihood is not None:
            self.log("train/error_likelihood", likelihood.mean(), batch_size=count)
            total = total + self.likelihood_weight * likelihood.mean()
        relative = sigma / self.prior.sigma_data
        for low, high in ((0, 0.1), (0.1, 0.5), (0.5, 2), (2, math.inf)):
            inside = (relative >= low) & (relative < high)
            if inside.any():
                self.log(f"train/loss_sigma_{low}", loss[inside].mean(), batch_size=int(inside.sum()))
        return total

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        audio = batch["audio"]
        generator = torch.Generator(device=audio.device).manual_seed(place_of(batch, batch_idx))
        self._weight = weight_of(batch, len(audio))
        clean = self.levelled(audio, generator)
        conditions = {"": self.condition(batch)}
        if self.prior.conditional:
            conditions |= {f"_{name}_lips": cond for name, cond in self._wrong_lips(batch).items()}
        self._validate_levels(clean, conditions, generator)
        self._validate_gains(audio, conditions[""], generator)
        if self.covariance is not None:
            self._validate_shaped(clean, batch.get("voice"), conditions, place_of(batch, batch_idx))

    def _log_error(self, name: str, square: Tensor, clean: Tensor) -> Tensor:
        """Log squared error (B,) in dB relative to the power of the clips (B, T), as val/error_db_<name>."""
        error = 10 * torch.log10(square.mean() / clean.square().mean())
        self.log(f"val/error_db_{name}", error, batch_size=self._weight, sync_dist=True)
        return error

    def _validate_levels(
        self, clean: Tensor, conditions: Mapping[str, Tensor | None], generator: torch.Generator
    ) -> None:
        """The error in white noise of every level, with every condition, and a linear denoiser's."""
        count, total = len(clean), []
        for level in LEVELS:
            sigma = clean.new_full((count,), level * self.prior.sigma_data)
            noise = sigma[:, None] * torch.randn(clean.shape, generator=generator, device=clean.device)
            errors = {}
            for name, cond in conditions.items():
                loss, square, _ = self.error(clean, noise, sigma, cond)
                errors[name] = self._log_error(f"sigma_{level}{name}", square, clean)
                if not name:
                    total.append(loss.mean())
            linear = self.prior.wiener(clean + noise, sigma) - clean
            self._log_error(f"sigma_{level}_wiener", linear.square().mean(-1), clean)
            if self.prior.conditional:
                gain = errors["_no_lips"] - errors[""]
                self.log(f"val/lips_gain_db_sigma_{level}", gain, batch_size=self._weight, sync_dist=True)
        self.log("val/loss", torch.stack(total).mean(), prog_bar=True, batch_size=self._weight, sync_dist=True)

    def _validate_gains(self, audio: Tensor, cond: Tensor | None, generator: torch.Generator) -> None:
        """The error at one ratio of signal to noise, by the level of the clips."""
        for decibel in GAINS:
            clean = self._at(audio, decibel)
            sigma = clean.new_full((len(clean),), GAIN_NOISE * self.prior.sigma_data * 10 ** (decibel / 20))
            noise = torch.randn(clean.shape, generator=generator, device=clean.device)
            _, square, _ = self.error(clean, sigma[:, None] * noise, sigma, cond)
            self._log_error(f"gain_{decibel}", square, clean)

    def _validate_shaped(
        self, clean: Tensor, voice: Tensor | None, conditions: Mapping[str, Tensor | None], seed: int
    ) -> None:
        """The error in noise whose level differs from bin to bin, as loud as the data."""
        with torch.random.fork_rng(devices=[clean.device] if clean.is_cuda else []):
            torch.manual_seed(seed)
            shaped = self._noise(clean, clean.new_full((len(clean),), self.prior.sigma_data), voice)
        for name, cond in conditions.items():
            _, square, likelihood = self.error(clean, *shaped, cond)
            self._log_error(f"shaped{name}", square, clean)
            if likelihood is not None and not name:
                self.log("val/error_likelihood", likelihood.mean(), batch_size=self._weight, sync_dist=True)

    def _wrong_lips(self, batch: dict[str, Tensor]) -> dict[str, Tensor | None]:
        """What lips could say that is not what was said: nothing, what another talker's say, one frame, the same 0.2 s late."""
        visual, seen = batch["visual"], batch["seen"]
        frozen = visual[:, visual.shape[1] // 2, None].expand_as(visual)
        return {
            "no": self.condition(batch, torch.zeros(len(seen), dtype=torch.bool, device=seen.device)),
            "other": self.condition({"visual": visual.roll(1, 0), "seen": seen.roll(1, 0)}),
            "frozen": self.condition(batch | {"visual": frozen}),
            "late": self.condition(batch | {"visual": visual.roll(LATE, 1), "seen": seen.roll(LATE, 1)}),
        }

    # -- set-up

    def on_fit_start(self) -> None:
        if self.prior.coloured and not self._measured and self.spectrum_batches:
            self._measure_spectrum()
        self._measured = True

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["spectrum_measured"] = self._measured

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._measured = checkpoint["spectrum_measured"]

    @torch.no_grad()
    def _measure_spectrum(self) -> None:
        """Long-term spectrum of the training data at their mean level, smoothed over three bins."""
        loader = self.trainer.datamodule.train_dataloader()  # type: ignore[attr-defined]
        total = torch.zeros_like(self.prior.spectrum)
        for _, batch in zip(range(self.spectrum_batches), loader, strict=False):
            audio = self._varied({"audio": batch["audio"].to(total.device)})["audio"]
            audio = audio[audio.square().mean(-1).sqrt() > 1e-4]
            if len(audio):
                audio = audio / audio.square().mean(-1, keepdim=True).sqrt()
                total += squared_magnitude(self.prior.stft(audio)).mean(-1).sum(0)
        if not total.any():
            raise UserError("the first training clips are silent; is the data set the right one?")
        density = torch.nn.functional.avg_pool1d(total[None, None], 3, 1, 1, count_include_pad=False)[0, 0]
        density = self.trainer.strategy.reduce(density / density.mean(), reduce_op="mean")
        self.prior.spectrum.copy_(density.clamp_min(1e-4).sqrt())
        if self.prior.heard is not None:
            self._measure_heard(self.prior.heard, loader)

    def _measure_heard(self, heard: LipSpectrum, loader: Iterable[dict[str, Tensor]]) -> None:
        """Fit the lips' spectrum to the training data: each process to its own share, then the mean."""
        assert self.prior.encoder is not None
        features, powers = [], []
        for _, batch in zip(range(2 * self.spectrum_batches), loader, strict=False):
            batch = self._varied({name: tensor.to(self.device) for name, tensor in batch.items()})
            audio, seen = batch["audio"], batch["seen"]
            rms = audio.square().mean(-1, keepdim=True).sqrt()
            seen = seen & (rms > 1e-4)
            power = squared_magnitude(self.prior.stft(audio / rms.clamp_min(1e-4))) / self.prior.stft.energy
            power = power / self.prior.spectrum.square()[:, None]
            power = heard.powers(power[..., : seen.shape[1] * heard.hops])
            features.append(self.prior.encoder(batch["visual"])[seen])
            powers.append(power[seen])
        if sum(map(len, features)) < 2:
            raise UserError(
                "no lips were seen in the first training clips; give talkers with video to a prior with video"
            )
        heard.fit(torch.cat(features).float(), torch.cat(powers).float())
        for parameter in heard.parameters():
            parameter.copy_(self.trainer.strategy.reduce(parameter, reduce_op="mean"))

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        optimizer: torch.optim.Optimizer
        if self.optimizer == "muon":
            optimizer = Muon(*hidden_matrices(self), lr=self.learning_rate)
        else:
            parameters = [p for p in self.parameters() if p.requires_grad]
            optimizer = torch.optim.Adam(parameters, lr=self.learning_rate, betas=(0.9, 0.999))
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _rate(self, step: int) -> float:
        rate = min(1.0, (step + 1) / self.warmup_steps) if self.warmup_steps else 1.0
        if self.decay_steps:
            progress = min(1.0, step / self.decay_steps)
            rate *= 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress))
        return rate
