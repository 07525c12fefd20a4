"""Several posterior draws a mixture: what their mean gains, and whether their spread tells the error.

    python -m experiments.benchmarks.posterior_draws [--method NAME] [--set NAME=VALUE ...] [--draws 8] [--condition speakers2]

On the embedded benchmark's validation list. SI-SDR of the sources: of one draw, of the mean of all, of the draw that fits the
mixture best, and of the best draw (known only with the truth at hand). Then the calibration: draws of a true posterior lie about
their mean as the truth does, so that the power of the error of the mean of N draws is (1 + 1/N) times their variance in every
bin. The table gives that ratio by how sure the draws are; 0 dB is calibrated, more is too sure.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from avdiff.audio.representation import STFT
from avdiff.errors import UserError
from avdiff.methods import load_method
from avdiff.metrics.si_sdr import si_sdr
from avdiff.rng import ClipNoise
from datamodules.mixtures import collate
from datamodules.synthetic.benchmark import EmbeddedBenchmark


@dataclass(frozen=True)
class Calibration:
    """Spread of posterior draws against the error of their mean.

    Attributes:
        spread: variance of the draws in dB, the mean of each class of bins, from the surest to the least sure.
        excess: the error's power over what that variance says, in dB, of each class.
        overall: the same of all bins together.
    """

    spread: list[float]
    excess: list[float]
    overall: float


def calibration(draws: Tensor, truth: Tensor, classes: int = 4) -> Calibration:
    """Compare draws with the truth.

    Args:
        draws: (draws, ...) at least four, complex or real. Half of them tell the class of a bin and the others its variance:
            bins whose few draws chance to lie close would seem too sure.
        truth: (...).
        classes: how many equal parts the bins are sorted into by their variance.
    """
    count = len(draws)
    if count < 4:
        raise UserError(f"{count} draws a mixture were asked for; their spread takes at least 4")
    variance = draws[1::2].var(0).flatten()
    error = (draws.mean(0) - truth).abs().square().flatten()
    order = draws[::2].var(0).flatten().argsort()
    parts = [(variance[part].mean(), error[part].mean()) for part in order.chunk(classes)]

    def decibel(ratio: Tensor) -> float:
        return float(10 * ratio.clamp_min(1e-20).log10())

    expected = 1 + 1 / count
    return Calibration(
        [decibel(v) for v, _ in parts],
        [decibel(e / (expected * v).clamp_min(1e-20)) for v, e in parts],
        decibel(error.mean() / (expected * variance.mean()).clamp_min(1e-20)),
    )


def ratios(estimates: Tensor, sources: Tensor) -> Tensor:
    """SI-SDR in dB (K,) of (K, T)."""
    return torch.tensor([si_sdr(estimate, source) for estimate, source in zip(estimates, sources, strict=True)])


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", default="ssnaps_fast", help="name or YAML file of a method that samples")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="settings, as in avdiff benchmark")
    parser.add_argument("--draws", type=int, default=8, help="a mixture, at least 4")
    parser.add_argument("--clips", type=int, default=10, help="mixtures")
    parser.add_argument("--condition", default="speakers2", help="list of the embedded benchmark")
    options = parser.parse_args()
    separator, stft = load_method(options.method, options.set), STFT()
    mixtures = EmbeddedBenchmark("val", [options.condition], options.clips)
    scores: dict[str, list[Tensor]] = {"one draw": [], "mean of all": [], "best fit": [], "best draw": []}
    spectra: list[tuple[Tensor, Tensor]] = []
    for index in range(options.clips):
        item = mixtures[index]
        observation = collate([item])
        results = [separator.separate(observation, rng=ClipNoise(s, observation.key)) for s in range(options.draws)]
        draws = torch.stack([result.sources[0].float() for result in results])
        single = torch.stack([ratios(draw, item.sources) for draw in draws])
        fits = [result.clips[0].figures.get("data_fit_db") for result in results]
        fit = max(range(options.draws), key=lambda draw: fits[draw] if fits[draw] is not None else -torch.inf)
        scores["one draw"].append(single.mean(0))
        scores["mean of all"].append(ratios(draws.mean(0), item.sources))
        scores["best fit"].append(single[fit])
        scores["best draw"].append(single.amax(0))
        unit = item.mixture.square().mean().sqrt()
        flat = stft((draws / unit).flatten(0, 1)).unflatten(0, draws.shape[:2])
        spectra.append((flat, stft(item.sources / unit)))
    console = Console()
    talkers = len(mixtures[0].layout) - 1
    table = Table(f"SI-SDR, dB, {options.clips} mixtures, {options.draws} draws", "talkers", "noise", box=None)
    for name, values in scores.items():
        mean = torch.stack(values).mean(0)
        table.add_row(name, f"{mean[:talkers].mean():.2f}", f"{mean[talkers:].mean():.2f}")
    console.print(table)
    told = calibration(torch.stack([s for s, _ in spectra], 1), torch.stack([t for _, t in spectra]))
    table = Table("quarter of the bins", "variance of the draws, dB", "error over variance, dB", box=None)
    for name, spread, excess in zip(("surest", "second", "third", "least sure"), told.spread, told.excess, strict=True):
        table.add_row(name, f"{spread:.1f}", f"{excess:+.1f}")
    table.add_row("all", "", f"{told.overall:+.1f}")
    console.print(table)


if __name__ == "__main__":
    main()
