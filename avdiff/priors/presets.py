"""Network presets, by name: what `avdiff models` lists and a weights folder's config.yaml refers to."""

from __future__ import annotations

from collections.abc import Callable

from avdiff.nets.ncsnpp import NCSNpp
from avdiff.nets.visual import CachedFeatures, LipEncoder, LipSpectrum, TemporalAdapter, TransformerAdapter
from avdiff.priors.edm import EDMPrior

# twice the frames of a window and five times, each at the middle of a bin and between two
VIEWS = ((2, 0.0), (2, 0.5), (5, 0.0), (5, 0.5))
STFT_SCALE = 9.8  # real and imaginary deviation of unit-variance white noise at Hann 510, hop 160


def ncsnpp_m() -> EDMPrior:
    """The public NCSN++M without video: 27,736,590 parameters; hop 128 and sigma_data 0.05 as BUDDy."""
    return EDMPrior(NCSNpp(), hop=128, frame_multiple=16, window=65_536)


def paper_noise() -> EDMPrior:
    """Two residual blocks a level: 38.7 M, the nearest simple change to SSNAPS' 39.7 M (the paper's exact one is unknown)."""
    return EDMPrior(NCSNpp(blocks=2))


def paper_speech() -> EDMPrior:
    """`paper_noise` with six transformer layers over BRAVEn Large features and FiLM: 127.4 M (the paper: 129.5 M)."""
    return EDMPrior(
        NCSNpp(blocks=2, cond_dim=1024), encoder=CachedFeatures(1024), adapter=TransformerAdapter(1024, layers=6)
    )


def _small(
    cond_dim: int | None = None, cond_planes: int = 0, views: tuple[tuple[int, float], ...] = (), channels: int = 32
) -> NCSNpp:
    return NCSNpp(
        channels=channels,
        multipliers=(1, 1, 2, 4),
        patch=(4, 2),
        cond_dim=cond_dim,
        cond_planes=cond_planes,
        frequency_embedding=True,
        compression=0.5,
        scale=STFT_SCALE,
        mask=not views,
        local=True,
        views=views,
    )


def small_noise() -> EDMPrior:
    """The shipped noise prior's shape."""
    return EDMPrior(_small(), coloured=True)


def small_speech(channels: int = 32) -> EDMPrior:
    """The shipped speech prior's shape: its own small lip encoder, frozen after pre-training. Other widths have other weights."""
    encoder, adapter = LipEncoder(), TemporalAdapter(192, 128)
    heard = LipSpectrum(encoder.dim)
    network = _small(adapter.dim + heard.dim, cond_planes=4, views=VIEWS, channels=channels)
    return EDMPrior(network, encoder=encoder, adapter=adapter, heard=heard, coloured=True)


def tiny_noise() -> EDMPrior:
    """For tests: the small shape at a quarter of its width."""
    network = NCSNpp(channels=8, multipliers=(1, 2), patch=(16, 4), compression=0.5, scale=STFT_SCALE, local=True)
    return EDMPrior(network, coloured=True)


def tiny_speech() -> EDMPrior:
    """For tests: `tiny_noise` with video."""
    encoder, adapter = LipEncoder(width=4, dim=16, dilations=(1,)), TemporalAdapter(16, 16, (1,))
    heard = LipSpectrum(encoder.dim, bands=4)
    network = NCSNpp(
        channels=8,
        multipliers=(1, 2),
        patch=(16, 4),
        compression=0.5,
        scale=STFT_SCALE,
        cond_dim=adapter.dim + heard.dim,
        cond_planes=1,
        local=True,
        views=VIEWS[:1],
    )
    return EDMPrior(network, encoder=encoder, adapter=adapter, heard=heard, coloured=True)


PRESETS: dict[str, Callable[[], EDMPrior]] = {
    preset.__name__: preset
    for preset in (ncsnpp_m, paper_speech, paper_noise, small_speech, small_noise, tiny_speech, tiny_noise)
}
