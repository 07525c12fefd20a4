"""The public API: names at the top that load nothing until they are asked for, recordings and arrays."""

from __future__ import annotations

import ast
import inspect
import json
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import avdiff
from avdiff.errors import UserError
from avdiff.likelihood.base import Likelihood
from avdiff.priors.base import DiffusionPrior
from avdiff.rng import ClipNoise
from avdiff.samplers.base import Callback, PosteriorSampler
from avdiff.samplers.conditional import ConditionalSampler
from avdiff.samplers.ode import ODESolver
from avdiff.separators.base import NotSeparated, Separator, separation
from avdiff.types import NOISE, OFFSCREEN, SPEAKER, Observation, Separation
from avdiff.video.decode import VideoFrames, read_track
from avdiff.video.faces import Face, FaceDetector
from tests.media import write_media

ROOT = Path(__file__).parents[2]
RATE = 44_100
PARTS = (avdiff.samplers, avdiff.priors, avdiff.likelihood, avdiff.separators)  # type: ignore[attr-defined]
KINDS = (PosteriorSampler, ConditionalSampler, ODESolver, DiffusionPrior, Likelihood, Separator)


class Shares(Separator):
    """Source k gets 1 / (k + 2) of the mixture, with a spread of a tenth of it."""

    def __init__(self, give_up: str = "") -> None:
        super().__init__()
        self.give_up = give_up
        self.asked: list[Observation] = []

    @property
    def spreads(self) -> bool:
        return True

    def separate(self, observation: Observation, *, rng: ClipNoise, callback: Callback | None = None) -> Separation:
        self.asked.append(observation)
        share = 1 / torch.arange(2.0, len(observation.layout) + 2)
        sources = observation.mixture[:, None] * share[:, None]
        failures = {row: "it is too hard" for row, key in enumerate(observation.key) if key == self.give_up}
        found = separation(observation, sources, {}, failures)
        return replace(found, std=torch.full_like(sources, 0.1))


class Halves(FaceDetector):
    """Every bright half of a picture is a face."""

    def detect(self, frame: np.ndarray) -> list[Face]:
        half = frame.shape[1] // 2
        points = np.random.default_rng(0).uniform(10, 50, (68, 2))
        return [
            Face(np.array([left + 5.0, 5, left + half - 5, 55]), points + np.array([left, 0]))
            for left in (0, half)
            if frame[:, left : left + half].mean() > 40
        ]


def picture(right: bool = True) -> np.ndarray:
    image = np.full((60, 128, 3), 20, np.uint8)
    image[:, :64] = 56
    image[:, 64:] = 60 if right else 20
    return image


def noise(seconds: float, rate: int = RATE) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.1, round(seconds * rate)).astype(np.float32)


def mouths(speakers: int, frames: int) -> np.ndarray:
    return np.random.default_rng(1).integers(1, 255, (speakers, frames, 96, 96), np.uint8)


def test_importing_avdiff_loads_nothing_else() -> None:
    code = "import sys, json; before = set(sys.modules); import avdiff; print(json.dumps(sorted(set(sys.modules) - before)))"
    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = {name for name in json.loads(said.stdout) if name.split(".")[0] not in sys.stdlib_module_names}
    assert loaded == {"avdiff"}


def test_type_checkers_and_the_interpreter_find_the_same_names() -> None:
    tree = ast.parse((ROOT / "avdiff" / "__init__.py").read_text(encoding="utf-8"))
    [branch] = [node for node in tree.body if isinstance(node, ast.If)]
    declared = {
        alias.name: node.module for node in branch.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert declared == avdiff.PUBLIC


@pytest.mark.parametrize("name", sorted(avdiff.__all__))
def test_a_public_name_is_where_its_home_says(name: str) -> None:
    assert getattr(avdiff, name) is getattr(import_module(avdiff.PUBLIC[name]), name)
    assert name in dir(avdiff)


def public_classes() -> Iterator[str]:
    """Every sampler, prior, likelihood and separator of the package, but for those of single methods' insides."""
    for part in PARTS:
        for module in pkgutil.iter_modules(part.__path__, f"{part.__name__}."):
            for name, value in vars(import_module(module.name)).items():
                if inspect.isclass(value) and value.__module__ == module.name and issubclass(value, KINDS):
                    yield name


@pytest.mark.parametrize("name", sorted({name for name in public_classes() if not name.startswith("_")}))
def test_every_sampler_prior_likelihood_and_separator_is_at_the_top(name: str) -> None:
    assert hasattr(avdiff, name)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'sperate'"):
        avdiff.sperate  # type: ignore[attr-defined]  # noqa: B018


def test_a_recording_is_separated_by_one_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("avdiff.recording.png", lambda figure: b"\x89PNG")
    write_media(tmp_path / "talk.mkv", frames=[picture()] * 30, audio=noise(1.2)[None], rate=RATE)
    soundfile.write(tmp_path / "mix.wav", noise(1.2), RATE)
    made = {}
    for name, recording, faces, offscreen in (
        ("video", "talk.mkv", (), 0),
        ("faces", "mix.wav", ["talk.mkv"], 0),
        ("sound", "mix.wav", (), 1),
    ):
        report = avdiff.separate(
            tmp_path / recording,
            tmp_path / name,
            faces=[tmp_path / face for face in faces],
            offscreen=offscreen,
            method=Shares(),
            detector=Halves(),
        )
        made[name] = [source.role for source in report.sources]
    assert made == {"video": [SPEAKER, SPEAKER, NOISE], "faces": [SPEAKER, NOISE], "sound": [OFFSCREEN, NOISE]}


def test_arrays_are_separated_as_files_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("avdiff.recording.png", lambda figure: b"\x89PNG")
    write_media(
        tmp_path / "talk.mkv", frames=[picture()] * 40 + [picture(right=False)] * 35, audio=noise(3)[None], rate=RATE
    )
    of_files, of_frames, of_mouths = Shares(), Shares(), Shares()
    avdiff.separate(tmp_path / "talk.mkv", tmp_path / "out", offscreen=1, method=of_files, detector=Halves())
    mixture = read_track(tmp_path / "talk.mkv")[0].mean(0)
    frames = list(VideoFrames(tmp_path / "talk.mkv"))
    result = of_frames(mixture, frames=frames, sample_rate=RATE, offscreen=1, detector=Halves())
    files = {"speaker1": "person1", "speaker2": "person2", "offscreen": "offscreen", "noise": "noise"}
    assert list(result.named) == list(files)
    for name, file in files.items():
        expected = soundfile.read(tmp_path / "out" / f"{file}.wav", dtype="float32")[0]
        assert result.named[name].numpy() == pytest.approx(expected, abs=1e-6)
    [asked], [by_file] = of_frames.asked, of_files.asked
    assert asked.visual is not None
    assert asked.visual_mask is not None
    assert by_file.visual is not None
    assert torch.equal(asked.visual, by_file.visual)
    again = of_mouths(mixture, mouths=asked.visual[0], seen=asked.visual_mask[0], sample_rate=RATE, offscreen=1)
    assert torch.equal(again.sources, result.sources)


@pytest.mark.parametrize("rate", [8_000, 16_000, 48_000])
def test_sources_have_the_rate_and_length_of_the_mixture_and_add_up_to_it(rate: int) -> None:
    mixture = torch.from_numpy(noise(1.3, rate))
    result = Shares()(mixture.double(), mouths=mouths(2, 32), sample_rate=rate)
    assert result.sources.shape == (3, len(mixture))
    assert result.sample_rate == rate
    assert result.std is not None
    assert result.std.shape == result.sources.shape
    torch.testing.assert_close(result.sources.sum(0), mixture, rtol=0, atol=1e-6)


def test_what_lies_above_8_khz_is_noise() -> None:
    tone = 0.3 * np.sin(2 * np.pi * 13_000 * np.arange(2 * RATE) / RATE)
    result = Shares()(tone, mouths=mouths(1, 50), sample_rate=RATE)
    assert result.named["speaker1"][4_000:-4_000].abs().max() < 1e-3
    assert float(result.named["noise"][4_000:-4_000].abs().max()) == pytest.approx(0.3, abs=0.01)


def test_a_batch_is_its_mixtures() -> None:
    mixtures, crops = np.stack([noise(1), 2 * noise(1)]), np.stack([mouths(1, 25), mouths(1, 25)])
    method = Shares(give_up="recording1")
    result = method(mixtures, mouths=crops, sample_rate=RATE)
    assert result.failures == (None, "it is too hard")
    assert result.named["speaker1"].shape == mixtures.shape
    assert result.sources[1].isnan().all()
    alone = method(mixtures[0], mouths=crops[0], sample_rate=RATE)
    torch.testing.assert_close(result.sources[0], alone.sources, rtol=0, atol=1e-6)


def test_a_mixture_that_cannot_be_separated_is_an_error() -> None:
    with pytest.raises(NotSeparated, match="too hard"):
        Shares(give_up="recording")(noise(1), mouths=mouths(1, 25), sample_rate=RATE)


def test_mouths_of_another_frame_rate_keep_their_time() -> None:
    method = Shares()
    crops = np.ones((1, 50, 96, 96), np.uint8) * np.arange(1, 51, dtype=np.uint8)[:, None, None]
    method(noise(1), mouths=crops, fps=50, sample_rate=RATE)
    [asked] = method.asked
    assert asked.visual is not None
    assert asked.visual[0, 0, :, 0, 0].tolist() == list(range(1, 51, 2))


def test_mouths_that_end_early_are_unseen_then() -> None:
    method = Shares()
    method(noise(1), mouths=mouths(1, 20), sample_rate=RATE)
    [asked] = method.asked
    assert asked.visual is not None
    assert asked.visual_mask is not None
    assert asked.visual_mask[0, 0].tolist() == [True] * 20 + [False] * 5
    assert asked.visual[0, 0, 20:].max() == 0


@pytest.mark.parametrize(
    ("mixture", "options", "noun"),
    [
        (noise(1), {}, "no mouths and no frames"),
        (noise(1)[:100], {"offscreen": 1}, "lasts 0.002 s"),
        (noise(1)[:, None], {"offscreen": 1}, "time last"),
        ((1000 * noise(1)).astype(np.int16), {"offscreen": 1}, "int16"),
        (np.full(RATE, np.nan), {"offscreen": 1}, "finite"),
        (noise(1), {"offscreen": 2}, "offscreen is 2"),
        (noise(1), {"offscreen": 1, "sample_rate": 0}, "sample_rate is 0"),
        (noise(1), {"mouths": mouths(1, 25).astype(np.float32)}, "torch.float32"),
        (noise(1), {"mouths": mouths(1, 25)[0]}, r"\(K, F, 96, 96\)"),
        (noise(1)[None], {"mouths": mouths(1, 25)}, r"\(B, K, F, 96, 96\)"),
        (noise(1)[None], {"mouths": np.stack([mouths(1, 25)] * 2)}, "of 2 mixtures"),
        (noise(1), {"mouths": mouths(1, 25), "seen": np.ones((1, 24), bool)}, "seen has shape"),
        (noise(2), {"mouths": mouths(1, 25)}, "25 mouths last 1.00 s"),
        (noise(1), {"mouths": mouths(1, 25), "fps": 0}, "fps is 0"),
        (noise(1), {"mouths": mouths(1, 25), "frames": [picture()] * 25}, "one of them"),
        (noise(1)[None], {"frames": [picture()] * 25}, "one by one"),
        (noise(1), {"frames": []}, "no RGB pictures"),
        (noise(1), {"frames": [picture()[..., 0]] * 25}, "no RGB pictures"),
        (noise(1), {"frames": [picture() * 0] * 25, "detector": Halves()}, "no face"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(mixture: np.ndarray, options: dict[str, object], noun: str) -> None:
    method = Shares()
    with pytest.raises(UserError, match=noun):
        method(mixture, **{"sample_rate": RATE, **options})
    assert not method.asked


def test_the_examples_of_the_readme(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The code under "From Python", as it stands there, with the shipped weights; only the detector knows these faces."""
    section = (ROOT / "README.md").read_text(encoding="utf-8").split("## From Python")[1].split("\n## ")[0]
    examples = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    assert len(examples) == 2
    assert all(len(code.splitlines()) <= 12 for code in examples)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("avdiff.recording.find_detector", Halves)
    monkeypatch.setattr("avdiff.recording.png", lambda figure: b"\x89PNG")
    write_media(Path("talk.mp4"), frames=[picture(right=False)] * 30, audio=noise(1.2)[None], rate=RATE)
    soundfile.write("mixture.wav", noise(1), RATE, subtype="FLOAT")
    np.save("mouths.npy", mouths(2, 25))
    for code in examples:
        exec(code, {"__name__": "example"})
    assert re.findall(r"person1\.wav speaker|noise\.wav noise", capsys.readouterr().out) == [
        "person1.wav speaker",
        "noise.wav noise",
    ]
    parts = [soundfile.read(f"{name}.wav") for name in ("speaker1", "speaker2", "noise")]
    assert {rate for _, rate in parts} == {RATE}
    assert sum(samples for samples, _ in parts) == pytest.approx(noise(1), abs=1e-4)
