"""The supervised systems by name: what a weights folder's config.yaml refers to, and what the recipes train."""

from __future__ import annotations

from collections.abc import Callable

from avdiff.nets.flowavse import AVUNet, FaceEncoder, FlowAVSE
from avdiff.nets.ravss import RAVSS
from avdiff.nets.visual import CachedFeatures, LipEncoder, TemporalAdapter
from avdiff.nets.visual_mask import VisualMask

System = FlowAVSE | RAVSS | VisualMask


def flowavse() -> FlowAVSE:
    """The published size: 60.20 M parameters, with an encoder of faces for each stage."""
    return FlowAVSE(AVUNet(), AVUNet(planes=4, timed=True), FaceEncoder(), FaceEncoder())


def ravss() -> RAVSS:
    """The published size for lip features of 512 values made beforehand: 25.72 M parameters, 1.46 M of them visual."""
    return RAVSS(CachedFeatures(512))


def _unet(planes: int, visual_dim: int, timed: bool) -> AVUNet:
    return AVUNet(
        planes=planes,
        channels=16,
        multipliers=(1, 2, 2, 2),
        visual_dim=visual_dim,
        timed=timed,
        patch=(4, 2),
        width=64,
        aligned=True,
        video_planes=4,
        mask=True,
        divided=False,
    )


def small_flowavse(freeze_lips: bool = True) -> FlowAVSE:
    """For one core: 1/40 of the published size, with the lip encoder of the shipped speech prior, frozen; or trained with the
    rest, as published."""
    return FlowAVSE(
        _unet(2, 64, False),
        _unet(4, 64, True),
        LipEncoder(),
        freeze_encoder=freeze_lips,
        adapter=TemporalAdapter(192, 64),
        frame_multiple=16,
    )


def small_ravss(freeze_lips: bool = True) -> RAVSS:
    """For one core: 1/50 of the published size, with the lip encoder of the shipped speech prior, frozen; or trained with the
    rest."""
    return RAVSS(
        LipEncoder(),
        freeze_encoder=freeze_lips,
        stride=40,
        dim=64,
        heads=4,
        hidden=128,
        blocks=2,
        layers=1,
        queries=8,
        lip_layers=2,
        positions=True,
    )


def small_visual_mask() -> VisualMask:
    """For one core, with the frozen lip encoder of the shipped speech prior."""
    return VisualMask(LipEncoder())


def tiny_flowavse() -> FlowAVSE:
    """For tests."""

    def unet(planes: int, timed: bool) -> AVUNet:
        return AVUNet(planes, 8, (1, 1), visual_dim=8, heads=2, timed=timed, patch=(16, 4), aligned=True, mask=True)

    return FlowAVSE(unet(2, False), unet(4, True), _lips(8), freeze_encoder=True, frame_multiple=16)


def tiny_ravss() -> RAVSS:
    """For tests."""
    return RAVSS(
        _lips(8), filters=16, stride=80, dim=16, heads=2, hidden=16, blocks=2, layers=1, queries=2, lip_layers=1
    )


def tiny_visual_mask() -> VisualMask:
    """For tests."""
    return VisualMask(_lips(8), dim=16, dilations=(1, 2))


def _lips(dim: int) -> LipEncoder:
    return LipEncoder(width=4, dim=dim, dilations=(1,))


PRESETS: dict[str, Callable[[], System]] = {
    preset.__name__: preset
    for preset in (
        *(flowavse, ravss, small_flowavse, small_ravss, small_visual_mask),
        *(tiny_flowavse, tiny_ravss, tiny_visual_mask),
    )
}
