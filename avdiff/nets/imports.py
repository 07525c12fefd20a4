"""Published checkpoints into our networks, strictly: a file either fits tensor by tensor or is refused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from avdiff.errors import UserError
from avdiff.nets.braven import BRAVEn
from avdiff.nets.ncsnpp import Attention, NCSNpp
from avdiff.nets.state import read_checkpoint

BRAVEN_SOURCE = (
    "the links are in the README of github.com/ahaliassos/raven (BRAVEn, VSR, Large; the best is Google Drive file "
    "1bU-bFxEiXNXNoOLKaAz6_9j7XuE7f_6r); its code is MIT, no licence is stated for the weights"
)
BUDDY_SOURCE = "the README of github.com/sp-uhh/buddy links to it; the repository states no licence"
BUDDY_PARTS = {  # a part of one of its modules -> ours
    "ResBlock": {
        "GroupNorm_0": "norm0",
        "GroupNorm_1": "norm1",
        "Conv_0": "conv0",
        "Conv_1": "conv1",
        "Conv_2": "shortcut",
        "Dense_0": "noise",
    },
    "Attention": {
        "GroupNorm_0": "norm",
        "NIN_0": "query",
        "NIN_1": "key",
        "NIN_2": "value",
        "NIN_3": "out",
        "W": "weight",
        "b": "bias",
    },
    "NoiseEmbedding": {"W": "frequencies"},
    "Conv2d": {"Conv_0": ""},
}


def load_strictly(network: nn.Module, tensors: Mapping[str, Tensor], what: str) -> None:
    """Copy tensors into a network, or say in one sentence what does not fit.

    Raises:
        UserError: names or shapes differ.
    """
    own = network.state_dict()
    faults = {
        "lacks": sorted(own.keys() - tensors.keys()),
        "has unexpected": sorted(tensors.keys() - own.keys()),
        "has in another shape": sorted(k for k in own.keys() & tensors.keys() if own[k].shape != tensors[k].shape),
    }
    told = [f"{verb} {len(names)} tensors ({', '.join(names[:3])})" for verb, names in faults.items() if names]
    if told:
        raise UserError(f"this is not a checkpoint of {what}: it {', '.join(told)}")
    network.load_state_dict({k: v.to(own[k].dtype) for k, v in tensors.items()}, assign=True)


def load_braven(path: str | Path) -> BRAVEn:
    """BRAVEn or RAVEn of any size from a published checkpoint: encoder, decoder and CTC, or the bare encoder.

    The size is read off the tensors. RAVEn's code is MIT; no licence is stated for the weights, which were trained on
    LRS3, VoxCeleb2 and AVSpeech.

    Raises:
        UserError: no such file, or one that does not hold exactly the tensors of the encoder.
    """
    checkpoint = read_checkpoint(path, BRAVEN_SOURCE)
    prefix = "encoder." if any(name.startswith("encoder.frontend.") for name in checkpoint) else ""
    tensors = {name.removeprefix(prefix): v for name, v in checkpoint.items() if name.startswith(prefix)}
    try:
        layers = len({name.split(".")[1] for name in tensors if name.startswith("encoders.")})
        heads = tensors["encoders.0.self_attn.pos_bias_u"].shape[0]
        hidden, dim = tensors["encoders.0.feed_forward.w_1.weight"].shape
        width = tensors["frontend.frontend3D.0.weight"].shape[0]
    except KeyError as missing:
        raise UserError(f"{path} is not a BRAVEn checkpoint: it lacks {missing.args[0]}; {BRAVEN_SOURCE}") from None
    with torch.device("meta"):
        network = BRAVEn(layers, dim, heads, hidden, width)
    load_strictly(network, tensors, "BRAVEn's visual encoder")
    network.requires_grad_(False)
    return network


def _numbered(network: NCSNpp) -> Iterator[str]:
    """Paths of our modules in the published order, which is that of the forward pass."""
    yield from ("embed", "embed.first", "embed.second", "stem")
    for level in range(network.levels):
        yield from (f"encoder.{level * network.blocks + block}" for block in range(network.blocks))
        if level < network.levels - 1:
            yield from (f"shrink.{level}", f"combine.{level}")
    yield from ("middle0", "middle_attention", "middle1")
    for step in range(network.levels):
        yield from (f"decoder.{step * (network.blocks + 1) + block}" for block in range(network.blocks + 1))
        yield from (f"head_norm.{step}", f"head.{step}")
        if step < network.levels - 1:
            yield f"grow.{step}"


def _from_buddy(published: Mapping[str, Tensor], network: NCSNpp) -> dict[str, Tensor]:
    """Tensors renamed to ours; what has no counterpart keeps its name, for the error."""
    modules = dict(enumerate(_numbered(network)))
    tensors = {}
    for name, tensor in published.items():
        top, *rest = name.split(".")
        if top == "output_layer":
            name = ".".join(["output", *rest])
        elif top == "all_modules" and rest and rest[0].isdigit() and int(rest[0]) in modules:
            path = modules[int(rest[0])]
            module = network.get_submodule(path)
            parts = BUDDY_PARTS.get(type(module).__name__, {})
            name = ".".join(filter(None, [path, *(parts.get(part, part) for part in rest[1:])]))
            if isinstance(module, Attention) and tensor.ndim == 2:  # stored for x W
                tensor = tensor.T.contiguous()
        tensors[name] = tensor
    return tensors


def load_buddy(checkpoint: str | Path | Mapping[str, Any]) -> NCSNpp:
    """The unconditional speech network of BUDDy (arXiv 2405.04272) from its published checkpoint.

    Around it belong BUDDy's STFT (Hann 510, hop 128, frames padded to a multiple of 16) and EDM preconditioning with
    sigma_data 0.05: see `EDMPrior.from_buddy`.

    Args:
        checkpoint: the file, what it holds (a dictionary with `network` and `ema`), or the bare state dict. The average
            `ema` is taken where it is a full state dict.

    Raises:
        UserError: no such file, or one that does not hold exactly the tensors of NCSN++M.
    """
    if isinstance(checkpoint, (str, Path)):
        checkpoint = read_checkpoint(checkpoint, BUDDY_SOURCE)
    published = checkpoint.get("network", checkpoint)
    average = checkpoint.get("ema")
    if isinstance(average, Mapping) and average.keys() == published.keys():
        published = average
    network = NCSNpp()
    load_strictly(network, _from_buddy(published, network), "BUDDy's NCSN++M")
    return network
