"""The order of training clips: complete, shared out, and taken up again."""

from __future__ import annotations

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from datamodules.sampling import Draw, Drawn, Draws


class Places(Dataset):
    """An index and something random about it."""

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> tuple[int, int]:
        return index, int(torch.randint(1_000_000, ()))


def test_every_epoch_has_each_clip_once_in_an_order_of_its_own() -> None:
    draws = Draws(clips=12, batch_size=4)
    first = list(draws)
    draws.set_epoch(1)
    second = list(draws)
    for epoch in (first, second):
        assert sorted(draw.index for draw in epoch) == list(range(12))
    assert [draw.index for draw in first] != [draw.index for draw in second]
    assert len({draw.seed for draw in first + second}) == 24


def test_processes_share_the_clips_and_fill_whole_batches() -> None:
    shares = [list(Draws(clips=15, batch_size=2, rank=rank, processes=3)) for rank in range(3)]
    assert [len(share) for share in shares] == [4, 4, 4] == [len(Draws(15, 2, rank=r, processes=3)) for r in range(3)]
    assert len({draw.index for share in shares for draw in share}) == 12
    assert Draws(15, 2, seed=1).usable == 14


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_a_stopped_epoch_goes_on_where_it_was_on_any_number_of_processes(processes: int) -> None:
    """Eight clips were had by two processes; what others take up is the rest of the same order, with the same draws."""
    whole = [draw for pair in zip(*(Draws(24, 2, rank=r, processes=2) for r in range(2)), strict=True) for draw in pair]
    rest = [list(Draws(24, 2, rank=r, processes=processes, done=8)) for r in range(processes)]
    taken = [draw for turn in zip(*rest, strict=False) for draw in turn]
    assert taken == whole[8 : 8 + len(taken)]
    assert len(taken) >= 15


def test_an_epoch_that_was_had_is_not_had_again() -> None:
    again = Draws(12, 4, epoch=3, done=12)
    assert (again.epoch, len(list(again))) == (4, 12)
    again = Draws(12, 4, epoch=3, done=8)
    again.set_epoch(3)  # as Lightning does before the first epoch of a resumed run
    assert len(list(again)) == 4
    again.set_epoch(4)
    assert len(list(again)) == 12


def test_what_is_random_about_a_clip_depends_on_its_draw_alone() -> None:
    data = Drawn(Places())
    torch.manual_seed(1)
    before = torch.get_rng_state()
    item = data[Draw(5, 99)]
    assert torch.equal(torch.get_rng_state(), before)
    assert item[0] == 5
    torch.manual_seed(2)
    assert data[Draw(5, 99)] == item
    assert data[Draw(5, 100)] != item
    loaded = [DataLoader(data, 4, sampler=Draws(12, 4), num_workers=workers) for workers in (0, 1)]
    for here, there in zip(*loaded, strict=True):
        assert torch.equal(torch.stack(list(here)), torch.stack(list(there)))
