"""Audio-visual speech separation by posterior sampling with diffusion priors.

    import avdiff

    avdiff.separate("talk.mp4", "out")  # a recording: one WAV a voice
    avdiff.load_method("local_em")(mixture, mouths=mouths, sample_rate=48_000).named["speaker1"]  # arrays

Every name below is imported when it is first asked for (PEP 562), so that `import avdiff` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from avdiff.api import separate as separate
    from avdiff.errors import UserError as UserError
    from avdiff.likelihood.autograd import Autograd as Autograd
    from avdiff.likelihood.base import Likelihood as Likelihood
    from avdiff.likelihood.mixing import GaussianLikelihood as GaussianLikelihood
    from avdiff.likelihood.mixing import SpectralLikelihood as SpectralLikelihood
    from avdiff.likelihood.separation_loss import SeparationLoss as SeparationLoss
    from avdiff.methods import load_method as load_method
    from avdiff.priors.adapter import AdaptedPrior as AdaptedPrior
    from avdiff.priors.adapter import AdaptedVisualPrior as AdaptedVisualPrior
    from avdiff.priors.base import ConditionalDiffusionPrior as ConditionalDiffusionPrior
    from avdiff.priors.base import DiffusionPrior as DiffusionPrior
    from avdiff.priors.edm import EDMPrior as EDMPrior
    from avdiff.priors.factorisation import FactorisedPrior as FactorisedPrior
    from avdiff.priors.gaussian import GaussianPrior as GaussianPrior
    from avdiff.priors.joint import JointPrior as JointPrior
    from avdiff.priors.oracle import LocalGaussianPrior as LocalGaussianPrior
    from avdiff.priors.store import load_prior as load_prior
    from avdiff.recording import SeparatedSource as SeparatedSource
    from avdiff.recording import SeparationReport as SeparationReport
    from avdiff.rng import ClipNoise as ClipNoise
    from avdiff.samplers.base import PosteriorSampler as PosteriorSampler
    from avdiff.samplers.conditional import ConditionalSampler as ConditionalSampler
    from avdiff.samplers.daps import DAPS as DAPS
    from avdiff.samplers.dps import DPS as DPS
    from avdiff.samplers.exact import ExactPosterior as ExactPosterior
    from avdiff.samplers.gauss_newton import GaussNewton as GaussNewton
    from avdiff.samplers.gaussian import ExactConditional as ExactConditional
    from avdiff.samplers.gaussian import TruncatedChain as TruncatedChain
    from avdiff.samplers.hmc import DampedHMC as DampedHMC
    from avdiff.samplers.hmc import SplitHMC as SplitHMC
    from avdiff.samplers.langevin import Langevin as Langevin
    from avdiff.samplers.local import LocalGaussian as LocalGaussian
    from avdiff.samplers.local_em import LocalEM as LocalEM
    from avdiff.samplers.ode import Euler as Euler
    from avdiff.samplers.ode import Heun as Heun
    from avdiff.samplers.ode import ODESolver as ODESolver
    from avdiff.samplers.paradiffuse import OUVE as OUVE
    from avdiff.samplers.paradiffuse import ParaDiffUSE as ParaDiffUSE
    from avdiff.samplers.schedule import PolySchedule as PolySchedule
    from avdiff.samplers.shares import MixtureShares as MixtureShares
    from avdiff.samplers.width import PosteriorWidth as PosteriorWidth
    from avdiff.samplers.width import Proportional as Proportional
    from avdiff.samplers.width import Width as Width
    from avdiff.separators.base import NotSeparated as NotSeparated
    from avdiff.separators.base import Separator as Separator
    from avdiff.separators.chunked import Chunked as Chunked
    from avdiff.separators.em import EMSeparator as EMSeparator
    from avdiff.separators.extraction import ExtractionSeparator as ExtractionSeparator
    from avdiff.separators.flowavse import FlowAVSESeparator as FlowAVSESeparator
    from avdiff.separators.posterior import PosteriorSeparator as PosteriorSeparator
    from avdiff.separators.posterior import Recipe as Recipe
    from avdiff.separators.ravss import RAVSSSeparator as RAVSSSeparator
    from avdiff.separators.visual_mask import VisualMaskSeparator as VisualMaskSeparator
    from avdiff.types import Observation as Observation
    from avdiff.types import Separation as Separation

# The module of every public name: what is above, for the interpreter. tests/unit/test_api.py holds the two together.
PUBLIC = {
    "AdaptedPrior": "avdiff.priors.adapter",
    "AdaptedVisualPrior": "avdiff.priors.adapter",
    "Autograd": "avdiff.likelihood.autograd",
    "Chunked": "avdiff.separators.chunked",
    "ClipNoise": "avdiff.rng",
    "ConditionalDiffusionPrior": "avdiff.priors.base",
    "ConditionalSampler": "avdiff.samplers.conditional",
    "DAPS": "avdiff.samplers.daps",
    "DPS": "avdiff.samplers.dps",
    "DampedHMC": "avdiff.samplers.hmc",
    "DiffusionPrior": "avdiff.priors.base",
    "EDMPrior": "avdiff.priors.edm",
    "EMSeparator": "avdiff.separators.em",
    "Euler": "avdiff.samplers.ode",
    "ExactConditional": "avdiff.samplers.gaussian",
    "ExactPosterior": "avdiff.samplers.exact",
    "ExtractionSeparator": "avdiff.separators.extraction",
    "FactorisedPrior": "avdiff.priors.factorisation",
    "FlowAVSESeparator": "avdiff.separators.flowavse",
    "GaussNewton": "avdiff.samplers.gauss_newton",
    "GaussianLikelihood": "avdiff.likelihood.mixing",
    "GaussianPrior": "avdiff.priors.gaussian",
    "Heun": "avdiff.samplers.ode",
    "JointPrior": "avdiff.priors.joint",
    "Langevin": "avdiff.samplers.langevin",
    "Likelihood": "avdiff.likelihood.base",
    "LocalEM": "avdiff.samplers.local_em",
    "LocalGaussian": "avdiff.samplers.local",
    "LocalGaussianPrior": "avdiff.priors.oracle",
    "MixtureShares": "avdiff.samplers.shares",
    "NotSeparated": "avdiff.separators.base",
    "ODESolver": "avdiff.samplers.ode",
    "OUVE": "avdiff.samplers.paradiffuse",
    "Observation": "avdiff.types",
    "ParaDiffUSE": "avdiff.samplers.paradiffuse",
    "PolySchedule": "avdiff.samplers.schedule",
    "PosteriorSampler": "avdiff.samplers.base",
    "PosteriorSeparator": "avdiff.separators.posterior",
    "PosteriorWidth": "avdiff.samplers.width",
    "Proportional": "avdiff.samplers.width",
    "RAVSSSeparator": "avdiff.separators.ravss",
    "Recipe": "avdiff.separators.posterior",
    "SeparatedSource": "avdiff.recording",
    "Separation": "avdiff.types",
    "SeparationLoss": "avdiff.likelihood.separation_loss",
    "SeparationReport": "avdiff.recording",
    "Separator": "avdiff.separators.base",
    "SpectralLikelihood": "avdiff.likelihood.mixing",
    "SplitHMC": "avdiff.samplers.hmc",
    "TruncatedChain": "avdiff.samplers.gaussian",
    "UserError": "avdiff.errors",
    "VisualMaskSeparator": "avdiff.separators.visual_mask",
    "Width": "avdiff.samplers.width",
    "load_method": "avdiff.methods",
    "load_prior": "avdiff.priors.store",
    "separate": "avdiff.api",
}

__all__ = tuple(PUBLIC)


def __getattr__(name: str) -> object:
    """Import the home of a public name, and remember it."""
    if name not in PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(PUBLIC[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *PUBLIC})
