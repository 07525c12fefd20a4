"""RAVSS: a dual-path transformer over the speakers of a mixture (arXiv 2407.19224), and speakers and noise without a cue.

The masking network has an encoder, chunks as long as two video frames that overlap by one, and blocks of attention within
chunks, to lips, between chunks, and between speakers. Facts that its paper leaves out are those of its authors' code.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avdiff.nets.visual import VideoTime, VisualEncoder
from avdiff.types import SAMPLES_PER_FRAME


class GlobalNorm(nn.Module):
    """Normalise each source over all but its batch, with a gain and an offset a channel: (B, C, ..., D)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(dim)), nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor) -> Tensor:
        flat = F.layer_norm(x.flatten(2).float(), (x[0, 0].numel(),))
        return flat.view(x.shape) * self.weight + self.bias


def sinusoids(positions: Tensor, dim: int) -> Tensor:
    """Sinusoidal codes (Vaswani et al., arXiv 1706.03762) of positions (N,): (N, dim)."""
    rate = 10000.0 ** (-torch.arange(0, dim, 2, device=positions.device) / dim)
    angle = positions[:, None] * rate
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)


def feed_forward(dim: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(dim, hidden), nn.ReLU(), nn.Linear(hidden, dim))


class CueAttention(nn.Module):
    """A cue asks, audio answers: h = c + MHA(LN c, LN a), h <- h + FFN(LN h), out = h + LN a."""

    def __init__(self, dim: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm_cue, self.norm_audio, self.norm = nn.LayerNorm(dim), nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = nn.MultiheadAttention(dim, heads, batch_first=True)
        self.feed = feed_forward(dim, hidden)

    def forward(self, cue: Tensor, audio: Tensor) -> Tensor:
        """(N, T, D), (N, T, D) -> (N, T, D)."""
        audio = self.norm_audio(audio)
        h = cue + self.attention(self.norm_cue(cue), audio, audio, need_weights=False)[0]
        return h + self.feed(self.norm(h)) + audio


class GlobalQuery(nn.Module):
    """What a talker is, over the whole clip: learned queries to their audio and lips, whose products a talker's query reads.

    All blocks share it. The talkers' queries attend to each other.

    Args:
        dim, heads, hidden: of the attention and the feed-forward.
        queries: to each of audio and lips.
        rounds: of the same layer.
    """

    def __init__(self, dim: int, heads: int, hidden: int, queries: int = 32, rounds: int = 4) -> None:
        super().__init__()
        self.rounds = rounds
        self.audio_query = nn.Parameter(torch.randn(queries, dim) * dim**-0.5)
        self.visual_query = nn.Parameter(torch.randn(queries, dim) * dim**-0.5)
        self.talker_query = nn.Parameter(torch.randn(1, dim) * dim**-0.5)
        self.audio, self.visual, self.read, self.others = (
            nn.MultiheadAttention(dim, heads, batch_first=True) for _ in range(4)
        )
        self.norm_audio, self.norm_visual, self.norm_tokens, self.norm_others, self.norm_feed, self.norm = (
            nn.LayerNorm(dim) for _ in range(6)
        )
        self.left, self.right = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.feed = feed_forward(dim, hidden)
        self.gain, self.shift = nn.Linear(dim, dim), nn.Linear(dim, dim)

    def forward(self, audio: Tensor, visual: Tensor) -> tuple[Tensor, Tensor]:
        """(B, P, L, D), (B, P, S, D) -> gain and shift, (B, P, D) each."""
        batch, talkers = audio.shape[:2]

        def ask(queries: Tensor, attention: nn.MultiheadAttention, context: Tensor) -> Tensor:
            asked = queries.expand(batch * talkers, -1, -1)
            return asked + attention(asked, context, context, need_weights=False)[0]

        heard = ask(self.audio_query, self.audio, self.norm_audio(audio.flatten(0, 1)))
        seen = ask(self.visual_query, self.visual, self.norm_visual(visual.flatten(0, 1)))
        tokens = self.norm_tokens((self.left(heard)[:, :, None] * self.right(seen)[:, None]).flatten(1, 2))
        q = self.talker_query.expand(batch * talkers, -1, -1)
        for _ in range(self.rounds):
            q = q + self.read(q, tokens, tokens, need_weights=False)[0]
            among = self.norm_others(q).view(batch, talkers, -1)
            q = q + self.others(among, among, among, need_weights=False)[0].reshape(q.shape)
            q = q + self.feed(self.norm_feed(q))
        q = self.norm(q).view(batch, talkers, -1)
        return self.gain(q), self.shift(q)


class RAVSSBlock(nn.Module):
    """Within chunks, lips, between chunks, a talker as a whole, between talkers with cues, between all sources.

    Args:
        dim, heads, hidden: of every attention.
        layers: of transformer, within and between chunks.
        positions: tell them where in a chunk, and in which chunk, they are. Published: not.
    """

    def __init__(self, dim: int, heads: int, hidden: int, layers: int, positions: bool) -> None:
        super().__init__()

        def transformer(count: int) -> nn.Sequential:
            return nn.Sequential(
                *(
                    nn.TransformerEncoderLayer(dim, heads, hidden, dropout=0.0, batch_first=True, norm_first=True)
                    for _ in range(count)
                )
            )

        self.positions = positions
        self.intra, self.inter, self.between = transformer(layers), transformer(layers), transformer(1)
        self.lips, self.talkers = CueAttention(dim, heads, hidden), CueAttention(dim, heads, hidden)
        self.norm_intra, self.norm_lips, self.norm_inter, self.norm_talkers, self.norm_between = (
            GlobalNorm(dim) for _ in range(5)
        )

    def _placed(self, x: Tensor) -> Tensor:
        """(N, T, D) with codes of the place in T."""
        return x + sinusoids(torch.arange(x.shape[1], device=x.device), x.shape[2]) if self.positions else x

    def forward(self, x: Tensor, lips: Tensor | None, codes: Tensor, query: GlobalQuery) -> Tensor:
        """One block.

        Args:
            x: (B, C, S, K, D), sources with a cue first.
            lips: (B, P, S, D) of the first P sources; None where none has a cue.
            codes: (C, D) of the sources' kinds.
            query: what the blocks share.

        Returns:
            (B, C, S, K, D).
        """
        start = x
        batch, _, chunks, size, dim = x.shape
        within = self.intra(self._placed(x.flatten(0, 2))).view(x.shape)
        x = x + self.norm_intra(within)
        if lips is not None:
            cued = lips.shape[1]
            audio = x[:, :cued].transpose(2, 3)  # (B, P, K, S, D)
            asked = lips[:, :, None].expand(audio.shape)
            found = self.lips(asked.flatten(0, 2), audio.flatten(0, 2)).view(audio.shape).transpose(2, 3)
            x = torch.cat([self.norm_lips(found), x[:, cued:]], dim=1)
        across = x.transpose(2, 3)
        x = x + self.norm_inter(self.inter(self._placed(across.flatten(0, 2))).view(across.shape).transpose(2, 3))
        if lips is not None:
            audio = x[:, :cued]
            gain, shift = query(overlap_add(audio), lips)
            tuned = gain[:, :, None, None] * audio + shift[:, :, None, None]

            def by_place(part: Tensor) -> Tensor:
                return part.permute(0, 2, 3, 1, 4).flatten(0, 2)  # (B S K, P, D)

            found = self.talkers(by_place(tuned), by_place(audio)).view(batch, chunks, size, cued, dim)
            x = torch.cat([self.norm_talkers(found.permute(0, 3, 1, 2, 4)), x[:, cued:]], dim=1)
        sources = (x + codes[:, None, None]).permute(0, 2, 3, 1, 4)
        mixed = self.between(sources.flatten(0, 2)).view(sources.shape).permute(0, 3, 1, 2, 4)
        return start + x + self.norm_between(mixed)


def chunk(x: Tensor, hop: int) -> Tensor:
    """(..., L, D), L a multiple of hop -> (..., S, 2 hop, D) with S = L / hop + 1: chunks that overlap by half."""
    parts = F.pad(x, (0, 0, hop, hop)).unflatten(-2, (-1, hop))
    return torch.cat([parts[..., :-1, :, :], parts[..., 1:, :, :]], dim=-2)


def overlap_add(chunks: Tensor) -> Tensor:
    """(..., S, 2 hop, D) -> (..., L, D): the mean of what chunks say of a frame. Undoes `chunk`."""
    first, second = chunks.chunk(2, dim=-2)
    return 0.5 * (first[..., 1:, :, :] + second[..., :-1, :, :]).flatten(-3, -2)


def _full_precision(x: Tensor) -> torch.autocast:
    """Eight bits are too few for a waveform."""
    return torch.autocast("cpu" if x.is_meta else x.device.type, enabled=False)


class RAVSS(nn.Module):
    """Every source of a mixture at once: talkers with lips, talkers without, and noise, which is one more source without.

    No weight depends on how many there are. A source without a cue skips what asks lips. What tells such sources apart is a
    code of their kind: 0 for all talkers with lips, 1 for noise, 2 and on for talkers without. (The published code counts all
    speakers, so that the result would depend on their order.)

    With the defaults, and features of 512 values: 25,719,814 parameters, 1,459,717 of them in `visual`; the published network
    without its visual part is the 24.3 M of SSNAPS's comparison.

    Args:
        encoder: lips to features; `CachedFeatures` for features made beforehand.
        freeze_encoder: keep the encoder as it is, in eval mode.
        filters, stride: of the waveform's encoder, whose kernels are of two strides; a video frame is a multiple of it.
        dim, heads, hidden: of every attention and its feed-forward.
        blocks: of the masking network.
        layers: of transformer within and between chunks, a block.
        queries: see `GlobalQuery`.
        lip_layers: of convolution over lip features.
        positions: see `RAVSSBlock`.
        window: samples of a training clip.
    """

    def __init__(
        self,
        encoder: VisualEncoder,
        freeze_encoder: bool = True,
        filters: int = 256,
        stride: int = 8,
        dim: int = 256,
        heads: int = 8,
        hidden: int = 1024,
        blocks: int = 4,
        layers: int = 2,
        queries: int = 32,
        lip_layers: int = 5,
        positions: bool = False,
        window: int = 64_000,
    ) -> None:
        super().__init__()
        if SAMPLES_PER_FRAME % stride:
            raise ValueError(
                f"stride is {stride}; a video frame of {SAMPLES_PER_FRAME} samples must be a multiple of it"
            )
        self.encoder, self.stride, self.dim = encoder, stride, dim
        self.hop, self.window = SAMPLES_PER_FRAME // stride, window
        if freeze_encoder:
            encoder.freeze()
        lips = encoder.dim
        self.visual = nn.Sequential(
            *(VideoTime(lips, nn.BatchNorm1d(lips)) for _ in range(lip_layers)), nn.Conv1d(lips, dim, 1, bias=False)
        )
        self.analysis = nn.Conv1d(1, filters, 2 * stride, stride, bias=False)
        self.synthesis = nn.ConvTranspose1d(filters, 1, 2 * stride, stride, bias=False)
        self.norm = nn.GroupNorm(1, filters)
        self.enter = nn.Conv1d(filters, dim, 1, bias=False)
        self.blocks = nn.ModuleList([RAVSSBlock(dim, heads, hidden, layers, positions) for _ in range(blocks)])
        self.query = GlobalQuery(dim, heads, hidden, queries)
        self.activate = nn.PReLU()
        self.out, self.gate = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.mask = nn.Linear(dim, filters, bias=False)

    def embed(self, visual: Tensor, seen: Tensor) -> Tensor:
        """(B, P, F, ...) and (B, P, F) bool -> (B, P, F, dim); the features of frames that are not seen are zero."""
        features = self.encoder(visual.flatten(0, 1)) * seen.flatten(0, 1)[..., None]
        lips = self.visual(features.transpose(1, 2)).transpose(1, 2)
        return lips.unflatten(0, visual.shape[:2])

    def forward(
        self, mixture: Tensor, visual: Tensor | None, seen: Tensor | None = None, hidden: int = 0, noise: bool = True
    ) -> Tensor:
        """All sources, each at a level of its own: the loss does not see levels.

        Args:
            mixture: (B, T).
            visual: (B, P, F, ...) of the talkers with lips, F at least T / 640; None for none.
            seen: (B, P, F) bool; None for all.
            hidden: talkers without lips.
            noise: whether there is noise.

        Returns:
            (B, P + hidden + noise, T): those with lips, those without, noise.
        """
        samples = mixture.shape[-1]
        frames = -(-samples // SAMPLES_PER_FRAME)
        # one stride more than whole frames: the kernels are of two
        padded = F.pad(mixture, (0, frames * SAMPLES_PER_FRAME + self.stride - samples))
        with _full_precision(mixture):
            encoded = F.relu(self.analysis(padded[:, None].float()))  # (B, filters, L)
        h = chunk(self.enter(self.norm(encoded)).transpose(1, 2), self.hop)  # (B, S, K, dim)
        lips: Tensor | None = None
        if visual is not None and visual.shape[1]:
            visual = visual[:, :, :frames]
            seen = visual.new_ones(visual.shape[:3], dtype=torch.bool) if seen is None else seen[:, :, :frames]
            lips = self.embed(visual, seen)
            short = h.shape[1] - lips.shape[2]
            lips = torch.cat([lips, lips[:, :, -1:].expand(-1, -1, short, -1)], dim=2)
        cued = 0 if lips is None else lips.shape[1]
        kinds = [0] * cued + [2 + k for k in range(hidden)] + [1] * noise
        codes = sinusoids(torch.tensor(kinds, device=h.device, dtype=torch.float32), self.dim)
        x = h[:, None].expand(-1, len(kinds), -1, -1, -1)
        for block in self.blocks:
            x = block(x, lips, codes, self.query)
        x = overlap_add(self.activate(x))  # (B, C, L, dim)
        masks = F.relu(self.mask(torch.tanh(self.out(x)) * torch.sigmoid(self.gate(x)))).transpose(2, 3)
        with _full_precision(mixture):
            masked = (masks.float() * encoded[:, None]).flatten(0, 1)
            return self.synthesis(masked).view(len(mixture), len(kinds), -1)[..., :samples]
