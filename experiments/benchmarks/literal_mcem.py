"""How much faster VAE-MCEM is than its equations taken literally, one clip at a time.

    python -m experiments.benchmarks.literal_mcem [--clips 4] [--talkers 2] [--iterations 10] [--threads 2]

The same mixtures of the embedded benchmark's validation list, VAE and numbers of draws, in one run: a transcription of the
equations of Metropolis-Hastings MCEM for one clip (a move of all talkers at once, likelihoods of both ends of every move, loops
over samples and talkers in the M-step), this package one clip at a time, and all clips in one batch. Gains are free in all.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from avdiff.em.base import FLOOR
from avdiff.em.mcem import MCEM, MetropolisHastings
from avdiff.em.mixture import Talkers
from avdiff.em.vae import talkers
from avdiff.metrics.si_sdr import si_sdr
from avdiff.priors.vae import load_vae
from avdiff.rng import ClipNoise
from datamodules.mixtures import collate
from datamodules.synthetic.benchmark import EmbeddedBenchmark


def literal(power: Tensor, model: Talkers, rank: int, iterations: int, steps: MetropolisHastings) -> Tensor:
    """Shares (1, K + 1, N, F) of one clip, |x|² (1, N, F)."""
    x, (count, frames) = power[0], model.start.shape[1:3]
    z, g = model.start.clone(), model.gain[0].clone()
    w, h = torch.rand(rank, x.shape[1]), torch.rand(frames, rank) * x.mean()

    def variance(s: Tensor) -> Tensor:
        return sum((g[k, :, None] * s[0, k] for k in range(count)), h @ w + FLOOR)  # type: ignore[return-value]

    def log_joint(s: Tensor, z: Tensor) -> Tensor:
        v = variance(s)
        return -(x / v + v.log()).sum(-1) + model.prior.log_prob(z)[0].sum(0)

    def sample(draws: int, burn_in: int) -> list[Tensor]:
        nonlocal z
        kept, s = [], model.log_variance(z).exp()
        for i in range(draws):
            proposal = z + steps.variance**0.5 * torch.randn_like(z)
            s_new = model.log_variance(proposal).exp()
            accept = torch.rand(frames).log() < log_joint(s_new, proposal) - log_joint(s, z)
            z = torch.where(accept[None, None, :, None], proposal, z)
            s = torch.where(accept[None, None, :, None], s_new, s)
            if i >= burn_in:
                kept.append(s)
        return kept

    for _ in range(iterations):
        kept = sample(steps.draws, steps.burn_in)

        def sums() -> tuple[Tensor, Tensor]:
            inverse = [1 / variance(s) for s in kept]  # noqa: B023
            return sum(i**2 for i in inverse), sum(inverse)  # type: ignore[return-value]

        square, first = sums()
        w = w * ((h.T @ (x * square)) / (h.T @ first)).sqrt()
        square, first = sums()
        h = h * (((x * square) @ w.T) / (first @ w.T)).sqrt()
        h, w = h * w.sum(1), w / w.sum(1, keepdim=True)
        for k in range(count):
            upper = sum((x * s[0, k] / variance(s) ** 2).sum(-1) for s in kept)
            lower = sum((s[0, k] / variance(s)).sum(-1) for s in kept)
            g[k] = g[k] * (upper / lower).sqrt()  # type: ignore[operator]
        torch.stack([(x / variance(s) + variance(s).log()).mean() for s in kept]).mean()  # the cost
    kept = sample(steps.last_draws, steps.last_burn_in)
    speech = [sum(g[k, :, None] * s[0, k] / variance(s) for s in kept) / len(kept) for k in range(count)]
    return torch.stack([*speech, 1 - sum(speech)])[None]  # type: ignore[arg-type,list-item]


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=4, help="mixtures")
    parser.add_argument("--talkers", type=int, default=2, choices=(1, 2, 3), help="in each")
    parser.add_argument("--iterations", type=int, default=10, help="of EM")
    parser.add_argument("--threads", type=int, default=2, help="cores")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    mixtures = EmbeddedBenchmark("val", [f"speakers{options.talkers}"], options.clips)
    items = [mixtures[i] for i in range(options.clips)]
    vae, steps = load_vae("conditional_vae"), MetropolisHastings()
    method = MCEM(steps, options.iterations, tolerance=0.0)
    observation = collate(items)
    unit = observation.mixture.square().mean(-1, keepdim=True).sqrt()
    spectrum = vae.transform(observation.mixture / unit)
    power = spectrum.abs().square()

    def known(rows: list[int]) -> Talkers:
        return talkers(vae, power[rows], observation.select(rows), options.talkers, 0.5)

    def ours(rows: list[int]) -> Tensor:
        rng = ClipNoise(0, tuple(observation.key[row] for row in rows))
        return method.run(power[rows], known(rows), 1, 4, rng).shares

    alone = [[row] for row in range(options.clips)]
    ways: dict[str, tuple[list[list[int]], Callable[[list[int]], Tensor]]] = {
        "literal, a clip at a time": (
            alone,
            lambda rows: literal(power[rows], known(rows), 4, options.iterations, steps),
        ),
        "avdiff, a clip at a time": (alone, ours),
        f"avdiff, {options.clips} clips at a time": ([list(range(options.clips))], ours),
    }
    table = Table("", "seconds a mixture", "of processor time", "SI-SDR of talkers, dB", box=None)
    for name, (groups, run) in ways.items():
        wall, cpu = time.perf_counter(), time.process_time()
        shares = torch.cat([run(rows) for rows in groups])
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        estimates = vae.inverse(shares * spectrum[:, None], observation.mixture.shape[-1])
        scores = [
            si_sdr(estimates[i, k], item.sources[k]) for i, item in enumerate(items) for k in range(options.talkers)
        ]
        figures = (wall / options.clips, cpu / options.clips, sum(scores) / len(scores))
        table.add_row(name, *(f"{figure:.2f}" for figure in figures))
    Console().print(table)


if __name__ == "__main__":
    main()
