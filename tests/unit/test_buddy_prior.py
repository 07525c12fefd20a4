"""A prior built from a BUDDy checkpoint denoises as BUDDy does: EDM in the time domain around an STFT network."""

from __future__ import annotations

import math
from pathlib import Path

import torch
import torch.nn.functional as F

from avdiff.nets.imports import load_buddy
from avdiff.priors.store import load_prior
from tests.golden import golden_checkpoint, golden_input


def test_denoises_as_published(tmp_path: Path) -> None:
    published = golden_checkpoint("ncsnpp_m_keys.tsv")
    torch.save({"it": 1, "network": published, "optimizer": {}, "ema": published, "args": None}, tmp_path / "buddy.pt")
    prior = load_prior(str(tmp_path / "buddy.pt"))
    assert not prior.training
    assert not prior.conditional

    x, sigma, sd = 0.1 * golden_input((1, 2500)), 0.3, 0.05
    total = math.sqrt(sigma**2 + sd**2)
    window = torch.hann_window(510)
    spectrum = torch.stft(x / total, 510, 128, window=window, center=True, return_complex=True)  # 20 frames
    padded = F.pad(torch.view_as_real(spectrum).movedim(-1, 1), (0, 12))
    with torch.no_grad():
        raw = load_buddy(published)(padded, torch.tensor([math.log(sigma) / 4]))[..., :20]
        denoised = prior.denoise(x, torch.tensor([sigma]))
    raw = torch.istft(torch.view_as_complex(raw.movedim(1, -1).contiguous()), 510, 128, window=window, length=2500)
    torch.testing.assert_close(denoised, sd**2 / total**2 * x + sigma * sd / total * raw, atol=1e-5, rtol=1e-4)
