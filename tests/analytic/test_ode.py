"""Order of convergence of the ODE solvers, on a prior whose trajectories are known."""

from __future__ import annotations

import pytest
import torch

from avdiff.samplers.ode import Euler, Heun, ODESolver
from tests.gaussian import GaussianProduct, white

S, START, END = 0.05, 1.0, 0.01


@pytest.mark.parametrize(("solver", "order"), [(Euler, 1), (Heun, 2)])
def test_order(solver: type[ODESolver], order: int) -> None:
    prior = GaussianProduct(white(S), S)
    x = torch.ones(1, 1, 1, dtype=torch.float64)
    exact = ((S**2 + END**2) / (S**2 + START**2)) ** 0.5  # x(sigma) is proportional to sqrt(s^2 + sigma^2)
    error = [abs(solver(n, END, to_zero=False).solve(prior, x, START).item() - exact) for n in (80, 160)]
    assert error[0] / error[1] == pytest.approx(2**order, rel=0.1)


@pytest.mark.parametrize(("solver", "evaluations"), [(Euler(2), 2), (Heun(2), 3), (Heun(2, to_zero=False), 4)])
def test_evaluations(solver: ODESolver, evaluations: int) -> None:
    prior = GaussianProduct(white(S), S)
    solver.solve(prior, torch.ones(1, 1, 1), START)
    assert prior.evaluations == evaluations


def test_one_step_to_zero_is_tweedie() -> None:
    prior, x = GaussianProduct(white(S), S), torch.randn(1, 1, 5)
    torch.testing.assert_close(Euler(1).solve(prior, x, START), prior.denoise(x, START))
