"""Any likelihood with its gradient by back-propagation, as a first implementation has it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from avdiff.likelihood.base import BoundLikelihood, Curvature, GaussianSum, Likelihood
from avdiff.types import Observation


@dataclass(frozen=True)
class Autograd(Likelihood):
    """The same log p(y | x), differentiated by torch: the values of the analytic gradient at a higher price.

    It is what `avdiff benchmark speed` starts from, and a check of a likelihood that is new.

    Attributes:
        likelihood: whose `log_prob` is differentiated; a guidance loss keeps its own gradient.
        separately: one source after the other, each with a forward of its own: SSNAPS, eq. (12) and (17) read line by line.
    """

    likelihood: Likelihood
    separately: bool = True

    @property
    def closed_form(self) -> bool:
        return self.likelihood.closed_form

    def bind(self, observation: Observation) -> BoundLikelihood:
        return _BoundAutograd(self.likelihood.bind(observation), self.separately)


@dataclass(frozen=True)
class _BoundAutograd:
    inner: BoundLikelihood
    separately: bool

    @property
    def gaussian(self) -> GaussianSum | None:
        return self.inner.gaussian

    def log_prob(self, x: Tensor) -> Tensor:
        return self.inner.log_prob(x)

    def grad(self, x: Tensor, sigma: float) -> Tensor:
        x = x.detach()
        groups = x.split(1, dim=1) if self.separately else [x]
        parts, before = list[Tensor](), 0
        for group in groups:
            after = before + group.shape[1]
            with torch.enable_grad():
                leaf = group.clone().requires_grad_()
                value = self.inner.log_prob(torch.cat([x[:, :before], leaf, x[:, after:]], dim=1)).sum()
                parts += torch.autograd.grad(value, leaf)
            before = after
        grad, tilt = torch.cat(parts, dim=1), self.inner.tilt(x, sigma)
        return grad if tilt is None else grad + tilt

    def curvature(self, x: Tensor) -> Curvature:
        return self.inner.curvature(x)

    def tilt(self, x: Tensor, sigma: float) -> Tensor | None:
        return self.inner.tilt(x, sigma)
