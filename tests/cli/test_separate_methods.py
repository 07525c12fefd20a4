"""`avdiff separate --method` for every preset that samples from diffusion priors, with tiny ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from avdiff.cli import main
from avdiff.methods import method_files
from tests.configs.test_methods import STEPS, tiny

SAMPLING = [name for name, file in method_files().items() if "load_prior" in file.read_text()]


@pytest.mark.parametrize("method", SAMPLING)
def test_a_talker_who_is_not_seen_and_noise(method: str, tmp_path: Path) -> None:
    heard = 0.1 * np.random.default_rng(0).standard_normal(3200)
    soundfile.write(tmp_path / "mix.wav", heard, 16_000, subtype="FLOAT")
    file, out = tiny(method, tmp_path, steps=STEPS.get(method, 3)), tmp_path / "out"
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
    assert voice.std() > 1e-3
    assert noise.std() > 1e-3
    assert (out / "report.html").exists()
