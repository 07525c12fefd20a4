"""Operations are counted at two a multiply-add, attention included."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from avdiff.nets.count import count_operations, count_parameters
from avdiff.priors.table import model_table


def test_parameters() -> None:
    module = nn.Conv2d(3, 5, 3)
    module.bias.requires_grad_(False)
    assert count_parameters(module) == 5 * 3 * 9 + 5


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_operations(device: str) -> None:
    x = torch.zeros(2, 3, 8, 8, device=device)
    conv = nn.Conv2d(3, 5, 3, padding=1, device=device)
    assert count_operations(lambda: conv(x)) == 2 * (2 * 5 * 8 * 8) * (3 * 9)
    line = nn.Conv1d(3, 5, 3, padding=1, device=device)
    assert count_operations(lambda: line(x[..., 0])) == 2 * (2 * 5 * 8) * (3 * 3)
    linear = nn.Linear(8, 4, device=device)
    assert count_operations(lambda: linear(x)) == 2 * (2 * 3 * 8) * 8 * 4
    q, k = torch.zeros(1, 2, 7, 4, device=device), torch.zeros(1, 2, 9, 4, device=device)
    assert count_operations(lambda: F.scaled_dot_product_attention(q, k, k)) == 2 * 2 * (2 * 7 * 9 * 4)


def test_transformer_layers_are_counted_in_evaluation_mode() -> None:
    """torch has a fused path for them that hides its products from a counter."""
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=True).eval()
    x = torch.zeros(1, 5, 8)
    with torch.no_grad():
        found = count_operations(lambda: layer(x))
    assert found == 2 * (5 * 8 * (4 * 8 + 2 * 16) + 2 * 5 * 5 * 8)


def test_table_of_presets() -> None:
    rows = {row.name: row for row in model_table()}
    public = rows["ncsnpp_m"]
    assert public.parameters == 27_736_590
    # 4 s at hop 128 are 501 frames, padded to 512; 1.02 TFLOP were measured on 416 frames
    assert public.denoiser_operations == pytest.approx(1.02e12 * 512 / 416, rel=0.01)
    assert rows["paper_noise"].parameters == 38_679_950
    assert rows["small_speech"].denoiser_operations < 10e9
    assert rows["small_speech"].video_operations > 0
    assert rows["small_noise"].video_operations == 0
    assert rows["braven_large"].parameters == 339_283_648
