import math
from dataclasses import replace

import pytest
import torch

from avdiff.audio.representation import STFT
from avdiff.lit.augmentation import SIZE, AcousticAugmentation, VisualAugmentation

NOTHING = VisualAugmentation(
    mirror=0, shift=0, drift=0, turn=0, scale=0, warp=0, light=0, blur=0, noise=0, compress=0, hide=0, drop=0, late=0
)


def clip(frames: int = 12) -> torch.Tensor:
    """Frames (1, F, 96, 96) with a bright square that moves right by a pixel a frame."""
    crops = torch.full((1, frames, SIZE, SIZE), 60, dtype=torch.uint8)
    for frame in range(frames):
        crops[0, frame, 30:50, 20 + frame : 40 + frame] = 200
    return crops


def centre(frame: torch.Tensor) -> torch.Tensor:
    weights = (frame.float() - 60).clamp_min(0)
    axis = torch.arange(SIZE).float()
    return torch.stack([(weights.sum(0) * axis).sum(), (weights.sum(1) * axis).sum()]) / weights.sum()


def test_without_any_variation_crops_stay():
    assert (NOTHING(clip()).int() - clip().int()).abs().max() <= 1


def test_mirror_is_about_the_middle():
    mirrored = replace(NOTHING, mirror=1.0)(clip())
    assert (mirrored.int() - clip().flip(-1).int()).abs().max() <= 1


def test_translation_is_one_for_all_frames_and_within_its_range():
    torch.manual_seed(0)
    for _ in range(5):
        moved = replace(NOTHING, shift=5.0)(clip())[0]
        offsets = torch.stack([centre(a) - centre(b) for a, b in zip(moved, clip()[0], strict=True)])
        assert offsets.abs().max() <= 5.1
        assert offsets.std(0).max() < 0.05
    assert offsets.abs().max() > 0.2


def test_warp_changes_shape_but_not_from_frame_to_frame():
    torch.manual_seed(1)
    still = clip()[:, :1].expand(-1, 6, -1, -1)
    warped = replace(NOTHING, warp=3.0)(still)[0]
    assert (warped[0].int() - still[0, 0].int()).abs().max() > 50
    assert torch.equal(warped, warped[:1].expand_as(warped))


def test_dropped_frames_repeat_those_before_and_the_first_stays():
    torch.manual_seed(2)
    places = [round(float(centre(frame)[0]) - 29.5) for frame in replace(NOTHING, drop=1.0)(clip(50))[0]]
    assert places[0] == 0
    assert all(place <= index for index, place in enumerate(places))
    assert places == sorted(places)
    assert len(set(places)) < 50


def test_a_late_clip_is_a_frame_off():
    torch.manual_seed(3)
    late = [round(float(centre(frame)[0]) - 29.5) for frame in replace(NOTHING, late=1.0)(clip())[0]]
    assert late in ([0, *range(11)], [*range(1, 12), 11])


def test_something_in_front_hides_one_rectangle():
    torch.manual_seed(4)
    hidden = replace(NOTHING, hide=1.0)(clip())[0].int()
    changed = (hidden - clip()[0].int()).abs() > 1
    rows, columns = changed.any(0).any(1).sum(), changed.any(0).any(0).sum()
    assert 0 < rows < 44
    assert 0 < columns < 44


def test_compression_leaves_the_mean_of_blocks_and_takes_detail():
    torch.manual_seed(5)
    noisy = (clip() + torch.randint(-20, 20, clip().shape)).clamp(0, 255).to(torch.uint8)
    coarse = replace(NOTHING, compress=1.0)(noisy)[0].float()
    assert coarse.diff(dim=-1).abs().mean() < 0.8 * noisy[0].float().diff(dim=-1).abs().mean()
    assert abs(coarse.mean() - noisy.float().mean()) < 3


def test_draws_follow_the_seed():
    torch.manual_seed(6)
    first = VisualAugmentation()(clip().expand(2, -1, -1, -1))
    torch.manual_seed(6)
    again = VisualAugmentation()(clip().expand(2, -1, -1, -1))
    assert torch.equal(first, again)
    assert not torch.equal(first[0], first[1])


STATE = STFT(510, 160)


def test_a_response_colours_every_frame_alike():
    torch.manual_seed(0)
    audio = torch.randn(3, 16_000)
    augmentation = AcousticAugmentation(room=0.0)
    coloured = augmentation(audio, STATE)
    ratio = STATE(coloured).abs().square().mean(-1) / STATE(audio).abs().square().mean(-1)
    torch.manual_seed(0)
    torch.randn(3, 16_000)
    torch.rand(3)
    expected = augmentation.response(3, STATE.bins, audio.device).square()
    wide = expected > 0.1
    torch.testing.assert_close(ratio[wide].log(), expected[wide].log(), atol=0.35, rtol=0)


def test_response_without_variation_is_flat():
    flat = AcousticAugmentation(response_db=0, tilt_db=0, narrow=0).response(2, 256, torch.device("cpu"))
    torch.testing.assert_close(flat, torch.ones(2, 256))


def test_a_low_pass_ends_between_3_and_7_khz():
    torch.manual_seed(0)
    gains = AcousticAugmentation(response_db=0, tilt_db=0, narrow=1).response(50, 256, torch.device("cpu"))
    cuts = (gains > 0.5).sum(1) / 255 * 8
    assert cuts.min() > 2.9
    assert cuts.max() < 7.4
    assert gains[:, -1].max() < 0.01


@pytest.mark.parametrize("ratio", [3.0, 20.0])
def test_reverberation_keeps_the_direct_sound_and_has_the_stated_energy(ratio):
    torch.manual_seed(0)
    audio = torch.zeros(1, 16_000)
    audio[0, 100] = 1
    wet = AcousticAugmentation(response_db=0, tilt_db=0, narrow=0, room=1, direct_db=(ratio, ratio))._reverberated(
        audio
    )
    assert abs(float(wet[0, 100]) - 1) < 1e-4
    assert wet[0, :100].abs().max() < 1e-4
    assert wet[0, 101:132].abs().max() < 1e-4
    assert abs(10 * math.log10(1 / float(wet[0, 101:].square().sum())) - ratio) < 0.05
