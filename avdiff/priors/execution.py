"""Execution of the priors' networks: windows, rows of a call, precision, compilation. None of it knows sources or guidance."""

from __future__ import annotations

import copy
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from avdiff.priors.base import DiffusionPrior
from avdiff.priors.tiled import tiled_denoise, tiled_estimate

P = TypeVar("P", bound=DiffusionPrior)
M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True)
class Execution:
    """Options of running a denoiser on rows of any number and length.

    Attributes:
        overlap: of the windows that a recording longer than a prior's training clips is cut into, in samples.
        max_rows: most windows in one network call, to bound memory.
        bf16: run the networks in bfloat16 where torch's autocast allows it.
    """

    overlap: int = 16_000
    max_rows: int = 32
    bf16: bool = False

    def denoise(self, prior: DiffusionPrior, x: Tensor, sigma: Tensor, cond: Tensor | None) -> Tensor:
        """`DiffusionPrior.denoise` of several sources: (B, k, T), (B, k) and (B, k, F, D) or None to (B, k, T)."""
        with self._precision(x):
            rows = tiled_denoise(prior, *_rows(x, sigma, cond), self.overlap, self.max_rows)
        return rows.unflatten(0, x.shape[:2])

    def estimate(self, prior: DiffusionPrior, x: Tensor, sigma: Tensor, cond: Tensor | None) -> tuple[Tensor, Tensor]:
        """`DiffusionPrior.estimate` of several sources: sigma and variance are (B, k, bins, frames)."""
        with self._precision(x):
            mean, variance = tiled_estimate(prior, *_rows(x, sigma, cond), self.overlap, self.max_rows)
        return mean.unflatten(0, x.shape[:2]), variance.unflatten(0, x.shape[:2])

    def _precision(self, x: Tensor) -> AbstractContextManager[object]:
        return torch.autocast(x.device.type, torch.bfloat16) if self.bf16 else nullcontext()


def _rows(x: Tensor, sigma: Tensor, cond: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """(B, k, ...) each to (B k, ...)."""
    return x.flatten(0, 1), sigma.flatten(0, 1), None if cond is None else cond.flatten(0, 1)


def with_compiled_network(prior: P) -> P:
    """The prior with its network run as code of torch.compile, on a GPU as CUDA graphs; itself where it evaluates none.

    Weights are shared with the prior that was given, under the same names; that one runs its network as before. Hooks of the
    network that is compiled run outside of the compiled code.
    """
    network = prior.evaluated
    name = next((name for name, child in prior.named_children() if child is network), None)
    if network is None or name is None:
        return prior
    run, other = _twin(network), _twin(prior)
    run.forward = torch.compile(network.forward, mode="reduce-overhead")
    setattr(other, name, run)
    return other


def _twin(module: M) -> M:
    """A module with the same weights and submodules, and tables of its own of submodules and hooks."""
    twin = copy.copy(module)
    for table in ("_modules", "_forward_hooks", "_forward_pre_hooks"):
        setattr(twin, table, getattr(module, table).copy())
    return twin
