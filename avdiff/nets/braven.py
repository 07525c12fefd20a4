"""The visual encoder of RAVEn and BRAVEn, as published: a 3-D stem, a ResNet-18, a Transformer with relative positions.

Haliassos et al., "Jointly Learning Visual and Auditory Speech Representations from Raw Data" (arXiv 2212.06246) and
"BRAVEn" (arXiv 2404.02098). Modules carry the names of the published checkpoints, so that those load strictly
(`avdiff.nets.imports.load_braven`).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avdiff.nets.visual import VisualEncoder

CROP = 96  # pixels a side, of a mouth crop
INPUT = 88  # pixels a side, of the centre that the network sees
MEAN, STD = 0.421, 0.165  # of grey LRS pixels in [0, 1], as published


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (He et al., 2015), with Swish."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = (
            nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
            if stride != 1 or inputs != outputs
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        h = self.bn2(self.conv2(F.silu(self.bn1(self.conv1(x)))))
        return F.silu(h + (x if self.downsample is None else self.downsample(x)))


class Trunk(nn.Module):
    """ResNet-18 without its stem: (N, C, 22, 22) -> (N, 8 C)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        for level in range(4):
            inputs, outputs = (width, width) if level == 0 else (width << (level - 1), width << level)
            stride = 1 if level == 0 else 2
            blocks = nn.Sequential(BasicBlock(inputs, outputs, stride), BasicBlock(outputs, outputs, 1))
            self.add_module(f"layer{level + 1}", blocks)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.children():
            x = layer(x)
        return x.mean((2, 3))


class Frontend(nn.Module):
    """Pictures to vectors; a frame sees two frames to either side."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.trunk = Trunk(width)
        self.frontend3D = nn.Sequential(
            nn.Conv3d(1, width, (5, 7, 7), (1, 2, 2), (2, 3, 3), bias=False),
            nn.BatchNorm3d(width),
            nn.SiLU(),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)),
        )

    def forward(self, video: Tensor) -> Tensor:
        """(N, F, H, W) -> (N, F, 8 * width)."""
        h = self.frontend3D(video.unsqueeze(1)).transpose(1, 2)
        return self.trunk(h.flatten(0, 1)).unflatten(0, h.shape[:2])


def relative_positions(frames: int, dim: int, like: Tensor) -> Tensor:
    """(2 F - 1, dim) sinusoids of the distances F - 1, F - 2, ..., -(F - 1), sine and cosine interleaved."""
    distance = torch.arange(frames - 1, -frames, -1, device=like.device, dtype=torch.float32)
    rate = torch.exp(torch.arange(0, dim, 2, device=like.device, dtype=torch.float32) * (-math.log(10_000) / dim))
    angle = distance[:, None] * rate
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1).to(like.dtype)


class RelativeAttention(nn.Module):
    """Multi-head attention with relative positions (Transformer-XL, arXiv 1901.02860, section 3.3).

    score(i, j) = ((q_i + u) . k_j + (q_i + v) . W r_{i-j}) / sqrt(d)
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.linear_q, self.linear_k, self.linear_v, self.linear_out = (nn.Linear(dim, dim) for _ in range(4))
        self.linear_pos = nn.Linear(dim, dim, bias=False)
        self.pos_bias_u = nn.Parameter(nn.init.xavier_uniform_(torch.empty(heads, dim // heads)))
        self.pos_bias_v = nn.Parameter(nn.init.xavier_uniform_(torch.empty(heads, dim // heads)))

    def forward(self, x: Tensor, positions: Tensor) -> Tensor:
        """x (N, F, D), positions (2 F - 1, D) -> (N, F, D)."""
        split = self.pos_bias_u.shape
        q, k, v = (f(x).unflatten(-1, split).transpose(1, 2) for f in (self.linear_q, self.linear_k, self.linear_v))
        r = self.linear_pos(positions).unflatten(-1, split).permute(1, 2, 0)  # (heads, d, 2 F - 1)
        by_distance = (q + self.pos_bias_v[:, None]) @ r  # (N, heads, F, 2 F - 1)
        frames = torch.arange(x.shape[1], device=x.device)
        index = frames[None, :] - frames[:, None] + x.shape[1] - 1  # the row of `positions` that holds i - j
        bias = by_distance.gather(-1, index.expand(*by_distance.shape[:2], -1, -1)) / math.sqrt(split[1])
        out = F.scaled_dot_product_attention(q + self.pos_bias_u[:, None], k, v, attn_mask=bias)
        return self.linear_out(out.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.w_1, self.w_2 = nn.Linear(dim, hidden), nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.w_2(F.relu(self.w_1(x)))


class EncoderLayer(nn.Module):
    """Attention behind a LayerNorm, then a perceptron behind a BatchNorm over channels, both with layer scale."""

    def __init__(self, dim: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.gamma_mha, self.gamma_ff = (nn.Parameter(torch.full((dim,), 0.1)) for _ in range(2))
        self.norm_mha, self.self_attn = nn.LayerNorm(dim, eps=1e-12), RelativeAttention(dim, heads)
        self.norm_ff, self.feed_forward = nn.BatchNorm1d(dim), FeedForward(dim, hidden)

    def forward(self, x: Tensor, positions: Tensor) -> Tensor:
        x = x + self.gamma_mha * self.self_attn(self.norm_mha(x), positions)
        return x + self.gamma_ff * self.feed_forward(self.norm_ff(x.transpose(1, 2)).transpose(1, 2))


class BRAVEn(VisualEncoder):
    """Mouth crops to features, frozen: no gradient, and always in evaluation mode (its BatchNorms need it).

    The defaults are the Large model (339.3 M parameters); Base is `BRAVEn(12, 512, 8, 2048)` (52.4 M).

    Args:
        layers: of the Transformer.
        dim: of a feature vector.
        heads: of attention.
        hidden: width of the perceptrons.
        width: channels of the stem; the ResNet's vectors have eight times as many values.
    """

    def __init__(self, layers: int = 24, dim: int = 1024, heads: int = 16, hidden: int = 4096, width: int = 64) -> None:
        super().__init__()
        self.dim = dim
        self.frontend = Frontend(width)
        self.embed = nn.Sequential(nn.Linear(8 * width, dim))
        self.encoders = nn.ModuleList(EncoderLayer(dim, heads, hidden) for _ in range(layers))
        self.after_norm = nn.LayerNorm(dim, eps=1e-12)
        self.freeze()

    def preprocess(self, crops: Tensor) -> Tensor:
        """(N, F, 96, 96) uint8 grey -> (N, F, 88, 88): the centre, normalised as in the published evaluation.

        Raises:
            ValueError: crops of another type or size.
        """
        if crops.dtype != torch.uint8 or crops.shape[-2:] != (CROP, CROP):
            raise ValueError(
                f"crops are {crops.dtype} of shape {tuple(crops.shape)}; BRAVEn takes uint8 (N, F, {CROP}, {CROP})"
            )
        margin = (CROP - INPUT) // 2
        centre = crops[..., margin : margin + INPUT, margin : margin + INPUT]
        return (centre.to(self.after_norm.weight.dtype) / 255 - MEAN) / STD

    def encode(self, video: Tensor) -> Tensor:
        """(N, F, 88, 88) normalised -> (N, F, dim)."""
        x = self.embed(self.frontend(video)) * math.sqrt(self.dim)
        positions = relative_positions(x.shape[1], self.dim, x)
        for layer in self.encoders:
            x = layer(x, positions)
        return self.after_norm(x)

    def forward(self, crops: Tensor) -> Tensor:
        """(N, F, 96, 96) uint8 grey mouth crops at 25 fps -> (N, F, dim)."""
        return self.encode(self.preprocess(crops))
