"""`avdiff demo`: the main job on the embedded default, with what comes in the package."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from avdiff.audio.io import write_wav
from avdiff.metrics.evaluate import score
from avdiff.metrics.si_sdr import CONVENTION
from avdiff.metrics.table import Score
from avdiff.report.figures import Panel, png, spectrograms
from avdiff.report.page import Player, Section, metrics_table, write_page
from avdiff.rng import ClipNoise
from avdiff.samplers.base import Progress
from avdiff.separators.base import NotSeparated, Separator
from avdiff.types import SAMPLE_RATE, Observation, Separation, source_names

FIELDS = ("case", "source", "metric", "mixture", "estimate")


@dataclass(frozen=True)
class Case:
    """A mixture to show, with its parts.

    Attributes:
        name: of the case.
        title: what a reader is told about it.
        observation: one clip.
        sources: (K, T) as they are in the mixture.
    """

    name: str
    title: str
    observation: Observation
    sources: torch.Tensor


def run_demo(
    cases: Sequence[Case], separator: Separator, folder: Path, seed: int, watch: Callable[[str, float], None]
) -> list[tuple[Case, Separation, list[Score]]]:
    """Separate every case; leave WAVs, a spectrogram picture a case, metrics.csv and report.html in the folder.

    Args:
        seed: of the sampling noise.
        watch: told the case and the share of it that is done.
    """
    folder.mkdir(parents=True, exist_ok=True)
    results, sections = [], []
    for case in cases:

        def callback(progress: Progress, name: str = case.name) -> None:
            watch(name, progress.step / progress.steps)

        noise = ClipNoise(seed, case.observation.key)
        separation = separator.separate(case.observation, rng=noise, callback=callback)
        if separation.failures[0] is not None:
            raise NotSeparated(f"{case.name} could not be separated: {separation.failures[0]}")
        mixture, estimates = case.observation.mixture[0], separation.sources[0]
        scores = score(estimates, case.sources, mixture, separation.layout, SAMPLE_RATE)
        results.append((case, separation, scores))
        names = source_names(separation.layout)
        signals = {"mixture": mixture, **dict(zip(names, estimates, strict=True))}
        for name, samples in signals.items():
            write_wav(folder / f"{case.name}_{name}.wav", samples, SAMPLE_RATE)
        panels = [[Panel("mixture", mixture.numpy())]]
        for name, clean, found in zip(names, case.sources, estimates, strict=True):
            panels.append([Panel(f"{name}, separated", found.numpy()), Panel(f"{name}, clean", clean.numpy())])
        picture = png(spectrograms(panels, SAMPLE_RATE))
        (folder / f"{case.name}.png").write_bytes(picture)
        sections.append(_section(case, separation, scores, picture))
    with (folder / "metrics.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(FIELDS)
        for case, _, scores in results:
            rows.writerows((case.name, s.source, s.metric, f"{s.mixture:.4f}", f"{s.estimate:.4f}") for s in scores)
    write_page(folder / "report.html", "avdiff demo", sections, rate=SAMPLE_RATE)
    return results


def _section(case: Case, separation: Separation, scores: Sequence[Score], picture: bytes) -> Section:
    mixture = case.observation.mixture[0].numpy()
    players = [[Player("mixture", mixture)]]
    for name, clean, found in zip(source_names(separation.layout), case.sources, separation.sources[0], strict=True):
        players.append([Player(f"{name}, separated", found.numpy()), Player(f"{name}, clean", clean.numpy())])
    facts = f"{separation.info['seconds']:.1f} s, {separation.info['evaluations']} network evaluations a source."
    table = metrics_table([vars(s) for s in scores])
    return Section(case.title, text=[facts, CONVENTION], pictures=[picture], players=players, tables=[table])
