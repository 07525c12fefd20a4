"""What SSNAPS's sampler costs, from the letter of its paper to everything that is here: a ladder, measured in one run."""

from __future__ import annotations

import json
import math
import os
import platform
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn

from avdiff.errors import UserError
from avdiff.likelihood.autograd import Autograd
from avdiff.likelihood.base import BoundLikelihood, Likelihood
from avdiff.lit.memory import peak_memory, reset_peak
from avdiff.methods import load_method
from avdiff.nets.ncsnpp import NCSNpp
from avdiff.nets.visual import CachedFeatures, TransformerAdapter
from avdiff.priors.base import ConditionalDiffusionPrior
from avdiff.priors.edm import EDMPrior
from avdiff.priors.gaussian import GaussianPrior
from avdiff.priors.joint import JointPrior
from avdiff.priors.presets import paper_noise, paper_speech
from avdiff.priors.store import load_prior
from avdiff.rng import ClipNoise
from avdiff.samplers.base import Progress
from avdiff.samplers.conditional import ConditionalSampler, Inner, NoiseStream
from avdiff.samplers.daps import DAPS
from avdiff.samplers.ode import Euler
from avdiff.samplers.schedule import PolySchedule
from avdiff.samplers.shares import MixtureShares
from avdiff.samplers.width import PosteriorWidth
from avdiff.separators.posterior import PosteriorSeparator, Recipe
from avdiff.study import provenance
from avdiff.types import NOISE, SAMPLE_RATE, SAMPLES_PER_FRAME, SPEAKER, Observation, Role

PAPER_SECONDS = {1: 72, 2: 110, 3: 160}  # SSNAPS, Table VII: four seconds of so many speakers, on an H200
SECONDS = 4.0
PAYS = 0.98  # an optional rung stays if it takes less than this part of the time before

_NO_NETWORKS = [
    f"prior.init_args.priors.{role}={{class_path: avdiff.priors.gaussian.GaussianPrior}}" for role in (SPEAKER, NOISE)
]

Networks = Callable[[bool], Mapping[Role, EDMPrior]]  # whether they must take noise of its own level in every bin


def shipped_networks(local: bool) -> Mapping[Role, EDMPrior]:
    """The priors that come with the package."""
    return {SPEAKER: load_prior("speech"), NOISE: load_prior("noise")}


def paper_networks(local: bool) -> Mapping[Role, EDMPrior]:
    """Networks of the published size, with random weights: time does not depend on them.

    With `local` they have a third plane more, as the shipped ones; the published form cannot run the last two rungs.
    """
    if not local:
        return {SPEAKER: paper_speech(), NOISE: paper_noise()}
    speech = NCSNpp(blocks=2, cond_dim=1024, local=True)
    adapter = TransformerAdapter(1024, layers=6)
    return {
        SPEAKER: EDMPrior(speech, encoder=CachedFeatures(1024), adapter=adapter, coloured=True),
        NOISE: EDMPrior(NCSNpp(blocks=2, local=True), coloured=True),
    }


PRESETS: dict[str, Networks] = {"small": shipped_networks, "paper": paper_networks}


@dataclass(frozen=True)
class Setting:
    """How the sampler is run. The first rung is this as it stands.

    Attributes:
        method: whose likelihood, sampler and guidance are taken.
        autograd: gradients of the likelihood by back-propagation, one source after the other.
        max_rows: windows in a network call; 1 is one source and one guidance branch at a time.
        bf16, channels_last, compiled: of `JointPrior`.
        interval: in which guidance acts, in units of sigma_data; None for all levels.
        levels: of annealing, with Tweedie's mean in place of the ODE; None for the method's own.
        first: highest of them, in units of sigma_data, with a start at the mixture; None for noise alone.
        local: the method needs priors that take noise of its own level in every bin.
    """

    method: str = "ssnaps"
    autograd: bool = True
    max_rows: int = 1
    bf16: bool = False
    channels_last: bool = False
    compiled: bool = False
    interval: tuple[float, float] | None = None
    levels: int | None = None
    first: float | None = None
    local: bool = False


@dataclass(frozen=True)
class Rung:
    """A step of the ladder: what changes, on top of all before.

    Attributes:
        name: what people read.
        change: fields of `Setting`.
        optional: of execution only, with the same result to rounding; left out of later rungs where it does not pay.
    """

    name: str
    change: Mapping[str, Any] = field(default_factory=dict)
    optional: bool = False


COLUMNS = ("seconds", "times faster", "NFE", "networks", "likelihood", "rest", "overhead", "GiB", "timed")
EXPLAINED = (
    "NFE: network evaluations a source, guidance branches counted. Shares are of the time; overhead is what all else adds to the "
    "networks' time. Peak memory is that of the GPU, or on a processor of the process, weights and libraries included."
)
EXTRAPOLATED = (
    "~ is extrapolated: of the annealing steps so many were run (timed), some of every kind, and the others are taken to last as "
    "long as those of their kind, since the time of a step does not depend on its noise level. --steps 0 runs them all."
)

_OWN = {"interval": None, "levels": None, "first": None, "local": True}
RUNGS = (
    Rung("the paper read literally"),
    Rung("sources and guidance branches in one call", {"max_rows": 32}),
    Rung("likelihood's gradient analytic, shared by the sources", {"autograd": False}),
    Rung("bfloat16", {"bf16": True}, optional=True),
    Rung("channels last", {"channels_last": True}, optional=True),
    Rung("torch.compile, CUDA graphs", {"compiled": True}, optional=True),
    Rung("guidance between 0.3 and 3 sigma_data only", {"interval": (0.3, 3.0)}),
    Rung("Langevin's chain in two Gauss-Newton jumps", {"method": "ssnaps_newton"}),
    Rung("the chain in closed form (plain STFT)", {"method": "ssnaps_closed"}),
    Rung("30 levels, Tweedie's mean for the ODE", {"levels": 30}),
    Rung("10 levels from 2 sigma_data down, from the mixture", {"levels": 10, "first": 2.0}),
    Rung("ssnaps_fast", {"method": "ssnaps_fast", **_OWN}),
    Rung("local_em", {"method": "local_em", **_OWN}),
)


@dataclass(frozen=True)
class Measured:
    """What one rung took for one number of speakers.

    Attributes:
        speakers: talkers in the mixture, all seen; noise comes on top.
        rung: its name.
        seconds: for one mixture.
        faster: times faster than the first rung.
        evaluations: of the network, a source, in the full run; guidance branches count.
        networks: share of the time in the score networks and the encoding of video.
        likelihood: share in the draws given the mixture, noise of Langevin's steps included.
        rest: share of all else.
        overhead: time outside the networks as a share of that in them.
        gib: peak memory, of the GPU, or of the process on a CPU; NaN where it is not known.
        levels: annealing levels of the full run; 0 for a method without.
        timed: how many of them were run.
        extrapolated: whether `seconds` and shares were scaled from `timed` to `levels`: steps of one kind take the same time.
        kept: whether the rungs after it have it too.
        note: why there are no figures, where there are none.
    """

    speakers: int
    rung: str
    seconds: float = math.nan
    faster: float = math.nan
    evaluations: int = 0
    networks: float = math.nan
    likelihood: float = math.nan
    rest: float = math.nan
    overhead: float = math.nan
    gib: float = math.nan
    levels: int = 0
    timed: int = 0
    extrapolated: bool = False
    kept: bool = True
    note: str = ""

    def cells(self) -> tuple[str, ...]:
        """Of a line of a table: rung, seconds, times faster, evaluations, shares, overhead, memory, steps timed, and a remark."""
        if self.note:
            return (self.rung, *["–"] * 9, self.note)
        about = "~" if self.extrapolated else ""
        shares = (f"{100 * share:.1f} %" for share in (self.networks, self.likelihood, self.rest, self.overhead))
        levels = f"{self.timed}/{self.levels}" if self.levels else ""
        left_out = "" if self.kept else "does not pay: left out below"
        seconds = f"{about}{self.seconds:{'.0f' if self.seconds >= 100 else '.3g'}}"
        faster = f"{self.faster:{'.0f' if self.faster >= 100 else '.3g'}}"
        return (self.rung, seconds, faster, str(self.evaluations), *shares, f"{self.gib:.2f}", levels, left_out)


class Clock(ABC):
    """Stamps on a device's own time line."""

    @abstractmethod
    def stamp(self) -> Any:
        """A point in time."""

    @abstractmethod
    def between(self, first: Any, last: Any) -> float:
        """Seconds."""


class HostClock(Clock):
    def stamp(self) -> float:
        return time.perf_counter()

    def between(self, first: float, last: float) -> float:
        return last - first


class CudaClock(Clock):
    """Events in the stream: nothing waits for the GPU until times are asked for."""

    def stamp(self) -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def between(self, first: torch.cuda.Event, last: torch.cuda.Event) -> float:
        last.synchronize()
        return first.elapsed_time(last) / 1000


@dataclass
class Trace:
    """Where the time of one separation went.

    Attributes:
        clock: of the device.
        spans: (part, first, last) stamps of what was timed.
        laps: a stamp and the number of spans so far, at the start of the sampler and after each of its steps.
    """

    clock: Clock
    spans: list[tuple[str, Any, Any]] = field(default_factory=list)
    laps: list[tuple[Any, int]] = field(default_factory=list)

    def lap(self, progress: Progress | None = None) -> None:
        self.laps.append((self.clock.stamp(), len(self.spans)))

    def hook(self, module: nn.Module, part: str) -> None:
        """Time every call of a module."""
        started: list[Any] = []

        def before(module: nn.Module, given: Any) -> None:
            started.append(self.clock.stamp())

        def after(module: nn.Module, given: Any, result: Any) -> None:
            self.spans.append((part, started.pop(), self.clock.stamp()))

        module.register_forward_pre_hook(before)
        module.register_forward_hook(after)

    def clear(self) -> None:
        self.spans.clear()
        self.laps.clear()

    def steps(self) -> list[dict[str, float]]:
        """Seconds of each step of the sampler, by part and as "whole"."""
        found = []
        for (first, before), (last, after) in pairwise(self.laps):
            found.append({"whole": self.clock.between(first, last), **self._parts(before, after)})
        return found

    def total(self, first: Any, last: Any) -> dict[str, float]:
        """The same from one stamp to another, with everything in between."""
        return {"whole": self.clock.between(first, last), **self._parts(0, len(self.spans))}

    def _parts(self, first: int, last: int) -> dict[str, float]:
        parts = {"networks": 0.0, "likelihood": 0.0}
        for part, start, end in self.spans[first:last]:
            parts[part] += self.clock.between(start, end)
        return parts


@dataclass(frozen=True)
class _TimedLikelihood(Likelihood):
    """Another, whose binding is the last thing before the sampler starts."""

    inner: Likelihood
    trace: Trace

    @property
    def closed_form(self) -> bool:
        return self.inner.closed_form

    def bind(self, observation: Observation) -> BoundLikelihood:
        first = self.trace.clock.stamp()
        bound = self.inner.bind(observation)
        self.trace.spans.append(("likelihood", first, self.trace.clock.stamp()))
        self.trace.lap()
        return bound


@dataclass(frozen=True)
class _TimedDraw(ConditionalSampler):
    """Another, told where in the full schedule the levels that are run stand: step sizes depend on it."""

    inner: ConditionalSampler
    trace: Trace
    progress: Mapping[float, float]

    @property
    def needs_closed_form(self) -> bool:
        return self.inner.needs_closed_form

    @property
    def needs_deviation(self) -> bool:
        return self.inner.needs_deviation

    def draw(self, x0_hat: Tensor, likelihood: BoundLikelihood, at: Inner, noise: NoiseStream) -> Tensor:
        first = self.trace.clock.stamp()
        x0 = self.inner.draw(x0_hat, likelihood, replace(at, progress=self.progress[at.sigma]), noise)
        self.trace.spans.append(("likelihood", first, self.trace.clock.stamp()))
        return x0


class _NoDraw(ConditionalSampler):
    """For counting evaluations."""

    def draw(self, x0_hat: Tensor, likelihood: BoundLikelihood, at: Inner, noise: NoiseStream) -> Tensor:
        return x0_hat


class _Talker(GaussianPrior, ConditionalDiffusionPrior):
    """For counting evaluations: it has a null branch, which is what guidance costs."""

    def embed(self, visual: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.null(*visual.shape[:2])

    def null(self, count: int, frames: int) -> Tensor:
        return torch.zeros(count, frames, 1)


@dataclass(frozen=True)
class _SomeLevels(PolySchedule):
    """Some levels of a schedule."""

    chosen: tuple[float, ...] = ()

    def sigmas(self) -> list[float]:
        return list(self.chosen)


@cache
def _method(name: str) -> PosteriorSeparator:
    """A method without its networks; read once, as reading takes seconds."""
    separator = load_method(name, _NO_NETWORKS)
    assert isinstance(separator, PosteriorSeparator)
    return separator


def build(setting: Setting, networks: Networks) -> PosteriorSeparator:
    """The separator of a setting: that of its method, with what the setting changes."""
    base = _method(setting.method)
    joint = JointPrior(
        networks(setting.local),
        guidance=base.prior.guidance,
        guidance_interval=setting.interval,
        bounded=base.prior.bounded,
        max_rows=setting.max_rows,
        bf16=setting.bf16,
        channels_last=setting.channels_last,
        compiled=setting.compiled,
    )
    unit = base.level * joint.sigma_data
    recipes = {count: _changed(recipe, setting, unit) for count, recipe in base.recipes.items()}
    return PosteriorSeparator(joint, recipes, base.level).eval().requires_grad_(False)


def _changed(recipe: Recipe, setting: Setting, unit: float) -> Recipe:
    if setting.autograd:
        recipe = replace(recipe, likelihood=Autograd(recipe.likelihood))
    sampler = recipe.sampler
    if setting.levels is not None:
        assert isinstance(sampler, DAPS)
        schedule = replace(sampler.schedule, steps=setting.levels)
        if setting.first is not None:
            schedule = replace(schedule, sigma_max=setting.first * unit)
        start = None if setting.first is None else MixtureShares()
        sampler = replace(sampler, schedule=schedule, ode=Euler(steps=1), width=PosteriorWidth(), start=start)
    return replace(recipe, sampler=sampler)


def evaluations_by_step(sampler: DAPS, prior: JointPrior, level: float) -> list[int]:
    """Network evaluations a source of every annealing step; the last has that of `denoise_last` too."""
    layout, counts = (SPEAKER, NOISE), [0]
    toys = {SPEAKER: _Talker(prior.sigma_data), NOISE: GaussianPrior(prior.sigma_data)}
    toy = JointPrior(toys, prior.guidance, prior.guidance_interval).bind(
        _observation(layout, SAMPLES_PER_FRAME, None), scale=level
    )
    plain = replace(sampler, conditional=_NoDraw(), start=None)
    rng, like = ClipNoise(0, ("count",)), torch.zeros(())
    # no likelihood is asked, as nothing is drawn
    bound: Any = None
    plain.sample(
        toy, bound, (1, 2, SAMPLES_PER_FRAME), like=like, rng=rng, callback=lambda _: counts.append(toy.evaluations)
    )
    return [after - before for before, after in pairwise(counts)]


def chosen_steps(evaluations: Sequence[int], each: int) -> list[int]:
    """Of every kind of step so many, evenly spread, and the last: kinds differ in their evaluations."""
    kinds: dict[tuple[int, bool], list[int]] = {}
    for step, count in enumerate(evaluations):
        kinds.setdefault((count, step == len(evaluations) - 1), []).append(step)
    found = set[int]()
    for steps in kinds.values():
        few = min(each, len(steps))
        found |= {steps[i * len(steps) // few] for i in range(few)}
    return sorted(found)


def _observation(layout: tuple[Role, ...], samples: int, speech: EDMPrior | None) -> Observation:
    """Noise as a mixture, with lips of nobody: what is said changes no times."""
    mixture = 0.05 * torch.randn(1, samples, generator=torch.Generator().manual_seed(0))
    visible, frames = layout.count(SPEAKER), -(-samples // SAMPLES_PER_FRAME)
    if speech is not None and isinstance(speech.encoder, CachedFeatures):
        visual = torch.zeros(1, visible, frames, speech.encoder.dim)
    else:
        visual = torch.zeros(1, visible, frames, 96, 96, dtype=torch.uint8)
    return Observation(("speed",), mixture, visual, None, layout)


def measure(
    setting: Setting, speakers: int, networks: Networks, device: torch.device, steps: int, samples: int
) -> dict[str, Any]:
    """Fields of `Measured` for one setting.

    Args:
        setting: to run.
        speakers: all of them seen.
        networks: that are run.
        device: where.
        steps: annealing steps of each kind that are run; 0 for all.
        samples: of the mixture.

    Raises:
        RuntimeError: the sampler diverged, the GPU's memory is too small, or torch cannot compile here.
    """
    separator = build(setting, networks).to(device)
    layout = (*[SPEAKER] * speakers, NOISE)
    trace = Trace(CudaClock() if device.type == "cuda" else HostClock())
    priors = [prior for prior in separator.prior.priors.values() if isinstance(prior, EDMPrior)]
    for module in {m for prior in priors for m in (prior.network, prior.encoder, prior.adapter) if m is not None}:
        trace.hook(module, "networks")
    observation = _observation(layout, samples, separator.prior.priors[SPEAKER]).to(device)  # type: ignore[arg-type]

    recipe = separator.recipe(layout)
    counts, run = list[int](), list[int]()
    if isinstance(recipe.sampler, DAPS):
        counts = evaluations_by_step(recipe.sampler, separator.prior, separator.level)
        # a start takes time of its own before the first step
        some = steps and recipe.sampler.start is None
        run = chosen_steps(counts, steps) if some else list(range(len(counts)))

    def once(run: Sequence[int]) -> tuple[dict[str, float], list[dict[str, float]], int]:
        separator.recipes = {speakers: _some_steps(recipe, run, trace)}
        trace.clear()
        first = trace.clock.stamp()
        separation = separator.separate(observation, rng=ClipNoise(0, observation.key), callback=trace.lap)
        last = trace.clock.stamp()
        if failure := separation.failures[0]:
            raise RuntimeError(failure)
        return trace.total(first, last), trace.steps(), separation.info["evaluations"]

    for _ in range(3 if setting.compiled else 1):  # CUDA graphs are recorded in the second call
        once(chosen_steps(counts, 1))
    reset_peak(device)
    runs = [once(run)]
    whole = len(run) == len(counts)
    while whole and len(runs) < 3 and sum(total["whole"] for total, _, _ in runs) < 5:
        runs.append(once(run))
    peak = peak_memory(device)
    total, laps, evaluations = sorted(runs, key=lambda of: of[0]["whole"])[len(runs) // 2]
    if not whole:
        total = _scaled(total, laps, counts, run)
        evaluations += sum(counts) - sum(counts[i] for i in run)
    seconds = total["whole"]
    parts = {part: total[part] / seconds for part in ("networks", "likelihood")}
    return {
        "seconds": seconds,
        "evaluations": evaluations,
        **parts,
        "rest": 1 - sum(parts.values()),
        "overhead": 1 / parts["networks"] - 1,
        "gib": math.nan if peak is None else peak / 2**30,
        "levels": len(counts),
        "timed": len(run),
        "extrapolated": not whole,
    }


def _some_steps(recipe: Recipe, run: Sequence[int], trace: Trace) -> Recipe:
    """The recipe with everything timed and, of an annealing, only some steps."""
    sampler = recipe.sampler
    if isinstance(sampler, DAPS):
        sigmas = sampler.schedule.sigmas()
        progress = {sigma: i / len(sigmas) for i, sigma in enumerate(sigmas)}
        some = _SomeLevels(**asdict(sampler.schedule), chosen=tuple(sigmas[i] for i in run))
        sampler = replace(sampler, schedule=some, conditional=_TimedDraw(sampler.conditional, trace, progress))
    return replace(recipe, likelihood=_TimedLikelihood(recipe.likelihood, trace), sampler=sampler)


def _scaled(
    total: Mapping[str, float], laps: Sequence[Mapping[str, float]], counts: Sequence[int], run: Sequence[int]
) -> dict[str, float]:
    """The times of all steps from those of some, the means of their kinds; what lies outside of steps is left as it is."""
    kinds: dict[tuple[int, bool], list[Mapping[str, float]]] = {}
    for step, lap in zip(run, laps, strict=True):
        kinds.setdefault((counts[step], step == len(counts) - 1), []).append(lap)
    found = {}
    for part, seconds in total.items():
        means = {kind: fmean(lap[part] for lap in of) for kind, of in kinds.items()}
        every = sum(means[count, step == len(counts) - 1] for step, count in enumerate(counts))
        found[part] = seconds - sum(lap[part] for lap in laps) + every
    return found


def run_ladder(
    speakers: Sequence[int],
    networks: Networks,
    device: torch.device,
    *,
    steps: int,
    rungs: Sequence[Rung] = RUNGS,
    compiles: bool = True,
    samples: int = round(SECONDS * SAMPLE_RATE),
    watch: Callable[[str, float], None] | None = None,
) -> list[Measured]:
    """Measure every rung for every number of speakers.

    Args:
        speakers: how many, each.
        networks: that are run; built anew for every rung.
        device: where.
        steps: annealing steps of each kind that are timed; 0 for all.
        rungs: of the ladder.
        compiles: whether the rung that compiles is run, which takes minutes on a processor.
        samples: of the mixture.
        watch: told the rung and the share of the ladder that is done.

    Returns:
        One a rung and number of speakers, in the order of the rungs.
    """
    setting, before, first = Setting(), math.inf, dict[int, float]()
    found = list[Measured]()
    for index, rung in enumerate(rungs):
        tried, of = replace(setting, **rung.change), list[Measured]()
        for place, count in enumerate(speakers):
            if watch is not None:
                watch("rungs", (index + place / len(speakers)) / len(rungs))
            if tried.compiled and not compiles:
                of.append(Measured(count, rung.name, kept=False, note="not asked for: --compile"))
                continue
            try:
                result = Measured(count, rung.name, **measure(tried, count, networks, device, steps, samples))
            except RuntimeError as error:
                reason = f"{type(error).__name__}: {(str(error).strip() or 'no reason given').splitlines()[0]}"
                of.append(Measured(count, rung.name, kept=not rung.optional, note=reason))
                continue
            first.setdefault(count, result.seconds)
            of.append(replace(result, faster=first[count] / result.seconds))
        took = sum(result.seconds for result in of)  # NaN, which is never less, where one could not be measured
        kept = not rung.optional or took < PAYS * before
        if kept:
            setting, before = tried, took
        found += [replace(result, kept=kept) for result in of]
    if watch is not None:
        watch("rungs", 1.0)
    return found


def environment(preset: str, device: torch.device) -> dict[str, Any]:
    """What the figures depend on."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    told = {"preset": preset, "device": device.type, "name": name, "threads": torch.get_num_threads()}
    return {**told, "cores": os.cpu_count(), "audio_seconds": SECONDS, **provenance()}


def write_json(path: Path, about: Mapping[str, Any], found: Sequence[Measured]) -> None:
    """The ladder as JSON: `about`, the paper's seconds, and a record a rung and number of speakers; what is not known is null."""
    rungs = [
        {name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in of.items()}
        for of in map(asdict, found)
    ]
    paper = {"source": "SSNAPS, Table VII: its own code on an H200", "seconds": PAPER_SECONDS}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({**about, "paper": paper, "rungs": rungs}, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}); give another file as --out") from error


def markdown(told: Mapping[str, Any]) -> str:
    """What `write_json` wrote, as a table a number of speakers."""
    records: list[dict[str, Any]] = [
        {name: math.nan if of[name] is None else of[name] for name in Measured.__dataclass_fields__}
        for of in told["rungs"]
    ]
    rows = [Measured(**record) for record in records]
    about = {name: of for name, of in told.items() if name not in ("rungs", "paper")}
    title = f"# Where the time of SSNAPS's sampler goes: {told['preset']} networks on {told['device']}"
    text = [title, "", f"`avdiff benchmark speed --preset {told['preset']}`", ""]
    for count in dict.fromkeys(row.speakers for row in rows):
        head = f"## {count} speaker{'s' if count > 1 else ''} and noise, {told['audio_seconds']:g} s"
        paper = told["paper"]["seconds"].get(str(count))
        text += [head, *(["", f"{told['paper']['source']}: {paper} s."] if paper else []), ""]
        text += [f"| rung | {' | '.join(COLUMNS)} | |", "|---|" + "---:|" * len(COLUMNS) + "---|"]
        text += [f"| {' | '.join(row.cells())} |" for row in rows if row.speakers == count]
        text.append("")
    text += [EXPLAINED, ""]
    if any(row.extrapolated for row in rows):
        text += [EXTRAPOLATED, ""]
    return "\n".join([*text, ", ".join(f"{name} {of}" for name, of in about.items()) + "."]) + "\n"
