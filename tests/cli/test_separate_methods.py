"""`avdiff separate --method` for every preset: those that sample from priors with tiny ones, others with what is shipped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from avdiff.cli import main
from avdiff.errors import UserError
from avdiff.methods import load_method, method_files
from avdiff.rng import ClipNoise
from tests.configs.test_methods import STEPS, tiny
from tests.supervised import observation

SAMPLING = [name for name, file in method_files().items() if "load_prior" in file.read_text()]
ENROLLED = [name for name in method_files() if name.endswith("_enrolled")]
SHIPPED = [name for name in method_files() if name not in SAMPLING + ENROLLED]


@pytest.mark.parametrize("method", SAMPLING + SHIPPED)
def test_a_talker_who_is_not_seen_and_noise(method: str, tmp_path: Path) -> None:
    heard = 0.1 * np.random.default_rng(0).standard_normal(3200)
    soundfile.write(tmp_path / "mix.wav", heard, 16_000, subtype="FLOAT")
    file = tiny(method, tmp_path, steps=STEPS.get(method, 3)) if method in SAMPLING else method
    out = tmp_path / "out"
    arguments = [
        "--mixture",
        str(tmp_path / "mix.wav"),
        "--offscreen",
        "1",
        "--method",
        str(file),
        "--output",
        str(out),
    ]
    main(["separate", *arguments])
    voice, noise = (soundfile.read(out / f"{name}.wav")[0] for name in ("offscreen", "noise"))
    assert np.abs(voice + noise - heard).max() < 1e-4
    assert voice.std() > 1e-4  # white noise is hardly a voice to a trained system, or all of it is
    assert noise.std() > 1e-4
    assert (out / "report.html").exists()


@pytest.mark.parametrize("method", SHIPPED)
def test_two_talkers_who_are_seen(method: str) -> None:
    """Whole weights are there, and lips are read."""
    seen = observation(2, 3200)
    found = load_method(method).separate(seen, rng=ClipNoise(0, seen.key)).sources
    assert found.shape == (2, 3, 3200)
    assert found.isfinite().all()
    assert (found.std(-1) > 0).all()


@pytest.mark.parametrize("method", ENROLLED)
def test_without_enrolment_it_is_said_how_to_make_it(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"talkers\.json does not exist.*make train-enrolled"):
        load_method(method)
