"""`avdiff separate --method` for every preset, with tiny priors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from avdiff.cli import main
from avdiff.methods import method_files
from tests.configs.test_methods import tiny


@pytest.mark.parametrize("method", method_files())
def test_a_talker_who_is_not_seen_and_noise(method: str, tmp_path: Path) -> None:
    heard = 0.1 * np.random.default_rng(0).standard_normal(3200)
    soundfile.write(tmp_path / "mix.wav", heard, 16_000, subtype="FLOAT")
    file, out = tiny(method, tmp_path, steps=3), tmp_path / "out"
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
