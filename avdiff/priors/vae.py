"""Variational autoencoders of speech as priors: which parts see the lips, and their weights on disk."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import torch
import yaml
from torch import Tensor, nn

from avdiff.errors import UserError
from avdiff.nets.state import first_difference, read_config, read_weights, write_weights
from avdiff.nets.vae import Decoder, Gaussian, GaussianMixture, LipPrior, LipProjection, Posterior
from avdiff.nets.visual import VisualEncoder
from avdiff.priors.store import load_prior
from avdiff.priors.variance import VariancePrior

LATENT, HIDDEN = 32, 128


def load_lips(source: str) -> VisualEncoder:
    """The frozen lip encoder of a trained speech prior.

    Args:
        source: see `avdiff.priors.store.load_prior`.

    Raises:
        UserError: the prior takes no video.
    """
    encoder = load_prior(source).encoder
    if encoder is None:
        raise UserError(f"prior {source!r} has no lip encoder; give a speech prior that takes video, such as speech")
    encoder.freeze()
    return encoder


class SpeechVAE(VariancePrior, ABC):
    """p(z | v) p(s | z, v), and q(z | s or x, v) to start from: sigma²_fn = exp(decoder(z_n, v_n)).

    Args:
        lips: frozen encoder of what is seen, or None.
        project: of its features, for all parts that see them; None without lips.
        decoder: ln sigma².
    """

    def __init__(self, lips: VisualEncoder | None, project: LipProjection | None, decoder: Decoder) -> None:
        super().__init__()
        if (lips is None) != (project is None):
            raise ValueError("lips and their projection go together; give both or neither")
        self.lips, self.project, self.decoder = lips, project, decoder

    def see(self, visual: Tensor, seen: Tensor, frames: int) -> Tensor | None:
        """Visual input (B, pictures, ...), seen (B, pictures) -> v (B, frames, dim); None for a VAE without lips."""
        if self.lips is None or self.project is None:
            return None
        with torch.no_grad():
            features = self.lips(visual)
        return self.project(features, seen, frames)

    def unseen(self, count: int, frames: int) -> Tensor | None:
        """v of talkers who are not seen, (count, frames, dim); None for a VAE without lips."""
        return None if self.project is None else self.project.unseen.expand(count, frames, -1)

    @abstractmethod
    def latent_prior(self, v: Tensor | None, like: Tensor) -> Gaussian | GaussianMixture:
        """p(z | v) for v (..., dim), or for as many frames as `like` (..., anything) has."""

    @abstractmethod
    def infer(self, power: Tensor, v: Tensor | None) -> Gaussian:
        """q(z | power (..., bins), v): where EM starts."""

    def own_state(self) -> dict[str, Tensor]:
        """Weights, those of the lip encoder left out."""
        return {name: value for name, value in self.state_dict().items() if not name.startswith("lips.")}


def _standard(like: Tensor, latent: int) -> Gaussian:
    zero = like.new_zeros(()).expand(*like.shape[:-1], latent)
    return Gaussian(zero, zero)


class ConditionalVAE(SpeechVAE):
    """One Gaussian prior and one posterior. Which parts see the lips makes A-VAE, AV-VAE and AV-CVAE of it.

    Args:
        lips, project, decoder: see `SpeechVAE`.
        posterior: q(z | s[, v]), or q(z | x[, v]) where it is trained on mixtures.
        prior: p(z | v); None for N(0, I).
    """

    def __init__(
        self,
        lips: VisualEncoder | None,
        project: LipProjection | None,
        decoder: Decoder,
        posterior: Posterior,
        prior: LipPrior | None = None,
    ) -> None:
        super().__init__(lips, project, decoder)
        self.posterior, self.prior = posterior, prior

    def latent_prior(self, v: Tensor | None, like: Tensor) -> Gaussian:
        if self.prior is None or v is None:
            return _standard(like, self.decoder.latent.in_features)
        return self.prior(v)

    def infer(self, power: Tensor, v: Tensor | None) -> Gaussian:
        return self.posterior(power, None if self.posterior.lips is None else v)


class MinVAE(SpeechVAE):
    """MIN-VAE (Sadeghi, Alameda-Pineda, 2021, "Mixture of Inference Networks"): a frame's z comes from what is heard or seen.

    p(z) = alpha N(m_a, s_a²) + (1 - alpha) N(m_v, s_v²), q(z | s) or q(z | v), p(s | z). EM starts from what is seen, which noise
    does not reach.

    Args:
        lips, project, decoder: see `SpeechVAE`.
        heard: q(z | s).
        seen: q(z | v).
    """

    alpha: Tensor

    def __init__(
        self, lips: VisualEncoder, project: LipProjection, decoder: Decoder, heard: Posterior, seen: LipPrior
    ) -> None:
        super().__init__(lips, project, decoder)
        self.heard, self.seen = heard, seen
        latent = decoder.latent.in_features
        self.audio_prior = nn.Parameter(torch.zeros(2, latent))
        self.video_prior = nn.Parameter(torch.zeros(2, latent))
        self.register_buffer("alpha", torch.tensor(0.5))

    def components(self, like: Tensor) -> tuple[Gaussian, Gaussian]:
        """Priors of the two branches, (..., latent) for like (..., anything)."""
        shape = (*like.shape[:-1], -1)
        first, second = (
            Gaussian(prior[0].expand(shape), prior[1].expand(shape)) for prior in (self.audio_prior, self.video_prior)
        )
        return first, second

    def latent_prior(self, v: Tensor | None, like: Tensor) -> GaussianMixture:
        return GaussianMixture(self.alpha, *self.components(like))

    def infer(self, power: Tensor, v: Tensor | None) -> Gaussian:
        assert v is not None
        return self.seen(v)


def audio_vae(lips: VisualEncoder) -> SpeechVAE:
    """A-VAE: N(0, I), q(z | s), p(s | z); no lips (Leglaive et al., 2018)."""
    bins = VariancePrior().bins
    return ConditionalVAE(None, None, Decoder(bins, LATENT, HIDDEN), Posterior(bins, LATENT, HIDDEN))


def conditional_vae(lips: VisualEncoder) -> SpeechVAE:
    """AV-CVAE: p(z | v), q(z | s, v), p(s | z, v) (Sadeghi et al., TASLP 2020)."""
    bins, dim = VariancePrior().bins, HIDDEN
    project = LipProjection(lips.dim, dim)
    posterior = Posterior(bins, LATENT, HIDDEN, dim)
    return ConditionalVAE(lips, project, Decoder(bins, LATENT, HIDDEN, dim), posterior, LipPrior(dim, LATENT, HIDDEN))


def mixed_vae(lips: VisualEncoder) -> SpeechVAE:
    """p(z | v), q(z | x, v) of mixed speech x, p(s | z, v) (arXiv 2008.07191). In shape it is `conditional_vae`."""
    return conditional_vae(lips)


def min_vae(lips: VisualEncoder) -> SpeechVAE:
    """MIN-VAE: q(z | s) or q(z | v), p(s | z)."""
    bins, dim = VariancePrior().bins, HIDDEN
    seen = LipPrior(dim, LATENT, HIDDEN)
    return MinVAE(
        lips, LipProjection(lips.dim, dim), Decoder(bins, LATENT, HIDDEN), Posterior(bins, LATENT, HIDDEN), seen
    )


PRESETS: dict[str, Callable[[VisualEncoder], SpeechVAE]] = {
    preset.__name__: preset for preset in (audio_vae, conditional_vae, mixed_vae, min_vae)
}


def _folder(source: str) -> Path:
    if source in PRESETS:
        return Path(str(resources.files("avdiff") / "weights" / "vae" / source))
    return Path(source)


def save_vae(folder: Path, preset: str, lips: str, vae: SpeechVAE) -> None:
    """Write config.yaml and a half-precision model.safetensors without the lip encoder.

    Args:
        preset: name in PRESETS.
        lips: source of the speech prior whose lip encoder it has.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_weights(
        folder / "model.safetensors", {name: value.detach().half() for name, value in vae.own_state().items()}
    )
    (folder / "config.yaml").write_text(yaml.safe_dump({"preset": preset, "lips": lips}))


def load_vae(source: str) -> SpeechVAE:
    """A trained VAE in eval mode, float32, without gradients.

    Args:
        source: a name of PRESETS for a shipped one, or a folder that a training of `avdiff.lit.vae` wrote.

    Raises:
        UserError: a file is missing, or the weights belong to another preset.
    """
    folder = _folder(source)
    config, weights = folder / "config.yaml", folder / "model.safetensors"
    for file in (config, weights):
        if not file.is_file():
            raise UserError(
                f"VAE {source!r}: {file} does not exist; give {', '.join(PRESETS)} for a shipped one, or a folder that "
                "`avdiff fit` with experiments/train/vae.yaml wrote"
            )
    settings = read_config(config)
    if settings["preset"] not in PRESETS:
        raise UserError(f"{config} names the unknown preset {settings['preset']!r}; there are {', '.join(PRESETS)}")
    vae = PRESETS[settings["preset"]](load_lips(settings["lips"]))
    state = {name: value.float() for name, value in read_weights(weights).items()}
    if odd := first_difference(vae.own_state(), state):
        raise UserError(f"{weights} does not fit preset {settings['preset']}: first difference at {odd!r}")
    vae.load_state_dict(state, strict=False)  # the lip encoder has its own
    return vae.eval().requires_grad_(False)
