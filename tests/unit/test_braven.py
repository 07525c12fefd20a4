"""BRAVEn is the published network: its function, its names, and the manners of a frozen encoder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from avdiff.errors import UserError
from avdiff.nets.braven import BRAVEn
from avdiff.nets.imports import load_braven
from tests.golden import assert_golden, golden_checkpoint, golden_input, golden_output


def tiny() -> BRAVEn:
    return BRAVEn(layers=2, dim=16, heads=2, hidden=24, width=4)


@pytest.fixture
def crops() -> torch.Tensor:
    return torch.randint(0, 256, (2, 5, 96, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_reproduces_the_published_large_encoder() -> None:
    reference = golden_output("braven_large.json")
    with torch.device("meta"):
        network = BRAVEn()
    checkpoint = golden_checkpoint("braven_large_keys.tsv")
    network.load_state_dict({k.removeprefix("encoder."): v for k, v in checkpoint.items()}, strict=True, assign=True)
    video = golden_input((1, 12, 88, 88))
    with torch.inference_mode():
        resnet, output = network.frontend(video), network.encode(video)
    assert list(resnet.shape) == reference["resnet_shape"]
    assert list(output.shape) == reference["output_shape"]
    assert_golden(resnet, reference["resnet"])
    assert_golden(output, reference["output"])


def test_sizes() -> None:
    with torch.device("meta"):
        large, base = BRAVEn(), BRAVEn(12, 512, 8, 2048)
    assert sum(p.numel() for p in large.parameters()) == 339_283_648
    assert sum(p.numel() for p in base.parameters()) == 52_445_376


def test_frozen_and_always_in_evaluation_mode(crops: torch.Tensor) -> None:
    network = tiny()
    holder = torch.nn.Sequential(network)
    holder.train()
    assert not any(m.training for m in network.modules())
    assert not any(p.requires_grad for p in network.parameters())
    before = {k: v.clone() for k, v in network.state_dict().items()}
    first = network(crops)
    assert first.shape == (2, 5, network.dim)
    torch.testing.assert_close(network(crops[1:]), first[1:])  # no statistics of the batch
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())


def test_sees_the_centre_of_the_crop_normalised(crops: torch.Tensor) -> None:
    network = tiny()
    grey = torch.full((1, 1, 96, 96), 255, dtype=torch.uint8)
    torch.testing.assert_close(network.preprocess(grey), torch.full((1, 1, 88, 88), (1 - 0.421) / 0.165))
    border = crops.clone()
    border[..., :4, :], border[..., -4:, :], border[..., :4], border[..., -4:] = 0, 0, 0, 0
    assert torch.equal(network(border), network(crops))
    with pytest.raises(ValueError, match="uint8"):
        network(crops.float())
    with pytest.raises(ValueError, match="96"):
        network(crops[..., :88, :88])


@pytest.mark.parametrize("prefix", ["encoder.", ""])
def test_loads_published_layouts(tmp_path: Path, crops: torch.Tensor, prefix: str) -> None:
    network = tiny()
    network.after_norm.bias.data.uniform_()
    checkpoint = {prefix + k: v for k, v in network.state_dict().items()}
    if prefix:
        checkpoint |= {"decoder.embed.0.weight": torch.zeros(3), "ctc.ctc_lo.bias": torch.zeros(3)}
    torch.save(checkpoint, tmp_path / "braven.pth")
    loaded = load_braven(tmp_path / "braven.pth")
    assert not any(p.requires_grad for p in loaded.parameters())
    torch.testing.assert_close(loaded(crops), network(crops), rtol=0, atol=0)


def test_refuses_what_does_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "braven.pth"
    with pytest.raises(UserError, match=r"no checkpoint at .*braven.pth; .*ahaliassos/raven"):
        load_braven(path)
    path.write_text("not a checkpoint")
    with pytest.raises(UserError, match="not a torch checkpoint"):
        load_braven(path)
    torch.save({"weight": torch.zeros(2)}, path)
    with pytest.raises(UserError, match=r"lacks encoders.0.self_attn.pos_bias_u"):
        load_braven(path)
    tensors = tiny().state_dict()
    tensors["frontend.extra"] = tensors.pop("after_norm.bias")
    torch.save(tensors, path)
    with pytest.raises(UserError, match=r"lacks 1 tensors \(after_norm.bias\), has unexpected 1 tensors"):
        load_braven(path)
