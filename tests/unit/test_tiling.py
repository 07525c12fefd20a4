import pytest
import torch

from avdiff.audio.tiling import Tiling


@pytest.mark.parametrize("length", [1000, 64_000, 64_001, 100_003, 480_000])
def test_join_undoes_cut(length: int) -> None:
    tiling = Tiling.cover(length, 64_000, 16_000)
    x = torch.randn(2, length, dtype=torch.float64)
    assert torch.allclose(tiling.join(tiling.cut(x)), x, atol=1e-12)


def test_windows_start_on_video_frames_and_overlap_enough() -> None:
    tiling = Tiling.cover(301_234, 64_000, 16_000)
    steps = [b - a for a, b in zip(tiling.starts, tiling.starts[1:], strict=False)]
    assert all(start % 640 == 0 for start in tiling.starts)
    assert max(steps) <= 48_000
    assert tiling.padded >= 301_234


def test_frames_are_cut_where_the_samples_are() -> None:
    tiling = Tiling.cover(100_000, 64_000, 16_000)
    frames = torch.arange(157.0)[None, :, None]
    assert tiling.cut_frames(frames)[0, :, 0, 0].tolist() == [start / 640 for start in tiling.starts]


def test_a_window_off_the_frame_grid_is_refused() -> None:
    with pytest.raises(ValueError, match="multiple of 640"):
        Tiling.cover(100_000, 64_001, 16_000)


def test_maps_are_cut_and_joined_with_the_sound() -> None:
    tiling = Tiling.cover(150_000, 64_000, 16_000)
    x = torch.randn(2, 5, 150_000 // 160 + 1)
    windows = tiling.cut_map(x, 160)
    assert windows.shape == (2, len(tiling.starts), 5, 401)
    for i, start in enumerate(tiling.starts[:-1]):
        assert torch.equal(windows[:, i], x[..., start // 160 : start // 160 + 401])
    assert torch.allclose(tiling.join_map(windows, 160), x, atol=1e-5)
