"""Mixtures drawn for training: levels, people, dropped videos, and draws that neither processes nor a stop change."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from avdiff.audio.mixing import Levels, power, ratio_db
from avdiff.errors import UserError
from avdiff.types import NOISE, SPEAKER
from datamodules.mixtures import Mixtures, ToyMixtures
from datamodules.parts import FolderParts, Pool, Prepared
from datamodules.training_mixtures import MixtureDraw, MixtureDraws, TrainingMixtures
from tests.packs import FRAME, write_noise, write_speech

SPLITS = ("train", "val")


@pytest.fixture(scope="module")
def packs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packs")
    write_speech(folder / "people", people=6, clips=2, splits=SPLITS)
    write_noise(folder / "dns", clips=6, splits=SPLITS)
    return folder


def write_folder(folder: Path, video: bool = True, meta: bool = False, clips: int = 6) -> Path:
    """A clip folder as of the embedded corpus or `avdiff prepare videos`: clip i is at level (i + 1) / 100, its mouth i."""
    for split in SPLITS:
        (folder / split).mkdir(parents=True)
        rng = np.random.default_rng(3)
        levels = (np.arange(clips)[:, None] + 1) / 100
        audio = np.clip(levels * rng.standard_normal((clips, 12 * FRAME)), -1, 1)
        np.save(folder / split / "audio.npy", np.round(audio * 32767).astype(np.int16))
        if video:
            crops = np.arange(clips, dtype=np.uint8)[:, None, None, None]
            np.save(folder / split / "mouth.npy", np.broadcast_to(crops, (clips, 12, 96, 96)))
        if meta:
            told = [{"voice": {"variant": f"v{i // 2}"}, "face": i % 3} for i in range(clips)]
            (folder / split / "meta.jsonl").write_text("".join(json.dumps(line) + "\n" for line in told))
    return folder


def training(packs: Path, **more: Any) -> TrainingMixtures:
    settings = {"seconds": 0.4, "mixtures": 48, "val_mixtures": 9, **more}
    return TrainingMixtures([Prepared(packs / "people")], [Prepared(packs / "dns")], **settings)


def loaded(data: Mixtures, rank: int = 0, processes: int = 1) -> Mixtures:
    data.trainer = cast(Any, SimpleNamespace(global_rank=rank, world_size=processes))
    data.setup("fit")
    return data


def test_a_batch_has_mixtures_of_one_layout_at_the_papers_levels(packs: Path) -> None:
    batches = list(loaded(Mixtures(batch_size=4, training=training(packs))).train_dataloader())
    assert len(batches) == 12
    assert {len(batch["layout"]) - 1 for batch in batches} == {1, 2, 3}
    for batch in batches:
        talkers = len(batch["layout"]) - 1
        assert batch["layout"] == (*[SPEAKER] * talkers, NOISE)
        assert batch["sources"].shape == (4, talkers + 1, 10 * FRAME)
        torch.testing.assert_close(batch["mixture"], batch["sources"].sum(1))
        assert batch["visual"].shape == (4, talkers, 10, 96, 96)
        assert batch["visual"].dtype == torch.uint8
        assert batch["seen"].all()
        people = batch["visual"][:, :, 0, 0, 0].tolist()
        assert all(len(set(of)) == talkers for of in people)
        speech, noise = batch["sources"][:, :-1], batch["sources"][:, -1:]
        weakest = ratio_db(speech, noise).min(1).values
        low, high = {1: (-5, 10), 2: (-3, 3), 3: (15, 15)}[talkers]
        assert ((weakest > low - 1e-3) & (weakest < high + 1e-3)).all()
        if talkers > 1:
            sir = ratio_db(speech[:, :1], speech[:, 1:])
            assert (sir.abs() < (5 if talkers == 2 else 0) + 1e-3).all()
        level = 10 * torch.log10(power(batch["mixture"]))
        assert ((level > -35.01) & (level < -14.99)).all()


def test_mixtures_belong_to_seed_epoch_and_place_whatever_the_processes(packs: Path) -> None:
    def places(rank: int, processes: int, size: int, epoch: int = 0, done: int = 0, seed: int = 0) -> list[MixtureDraw]:
        draws = MixtureDraws(24, (1, 3), size, seed, rank, processes, epoch, done)
        return cast(list[MixtureDraw], list(draws))

    one, two = places(0, 1, 4), [places(rank, 2, 2) for rank in range(2)]
    assert [draw for pair in zip(*two, strict=True) for draw in pair] == one
    assert places(0, 1, 4, done=8) == one[8:]
    assert not {draw.seed for draw in one} & {draw.seed for draw in places(0, 1, 4, epoch=1) + places(0, 1, 4, seed=1)}
    for share in (one, *two):
        size = 4 if share is one else 2
        assert all(len({draw.talkers for draw in share[i : i + size]}) == 1 for i in range(0, len(share), size))
    mixtures = training(packs).open("train")
    before = mixtures[one[5]]
    mixtures[one[6]]
    assert torch.equal(mixtures[one[5]]["sources"], before["sources"])
    assert not torch.equal(mixtures[one[6]]["mixture"], before["mixture"])


def test_a_resumed_run_goes_on_with_the_mixtures_that_it_would_have_had(packs: Path) -> None:
    whole = [batch["mixture"] for batch in loaded(Mixtures(batch_size=4, training=training(packs))).train_dataloader()]
    resumed = Mixtures(batch_size=4, workers=1, training=training(packs))
    resumed.load_state_dict({"epoch": 0, "clips": 36})
    rest = [batch["mixture"] for batch in loaded(resumed).train_dataloader()]
    assert len(rest) == 3
    assert all(torch.equal(a, b) for a, b in zip(whole[9:], rest, strict=True))


def test_videos_are_dropped_at_their_rate_and_one_is_always_kept(packs: Path) -> None:
    mixtures = training(packs, dropout=0.5, talkers=(3, 3)).open("train")
    unseen = Counter[int]()
    for seed in range(60):
        item = mixtures[MixtureDraw(0, seed, 3)]
        seen = item["seen"].any(-1)
        assert seen.tolist() == sorted(seen.tolist(), reverse=True)
        assert not item["visual"][~seen].any()
        assert torch.equal(seen, item["seen"].all(-1))
        unseen[int((~seen).sum())] += 1
    assert set(unseen) == {0, 1}
    assert abs(unseen[0] / 60 - 0.125) < 4 * (0.125 * 0.875 / 60) ** 0.5  # all three keep theirs
    both = training(packs, dropout=1.0, unseen=3, talkers=(1, 2)).open("train")
    assert [int(both[MixtureDraw(0, 0, talkers)]["seen"].any(-1).sum()) for talkers in (1, 2)] == [1, 1]
    assert training(packs, dropout=1.0).open("val")[MixtureDraw(0, 0, 2)]["seen"].all()


class Hearer(pl.LightningModule):
    """Learns nothing, and remembers what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.heard: list[float] = []
        self.validated: list[float] = []

    def training_step(self, batch: dict[str, Any], index: int) -> torch.Tensor:
        self.heard += [float(mixture.double().square().sum()) for mixture in batch["mixture"]]
        return (self.weight * batch["mixture"]).square().mean()

    def validation_step(self, batch: dict[str, Any], index: int) -> None:
        self.validated += [float(mixture.double().square().sum()) for mixture in batch["mixture"]]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


def test_a_training_that_was_stopped_in_an_epoch_goes_on(packs: Path, tmp_path: Path) -> None:
    def fit(steps: int, resume: Path | None = None) -> Hearer:
        quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
        keep = ModelCheckpoint(tmp_path, f"{steps}", every_n_train_steps=6)
        trainer = pl.Trainer(max_steps=steps, num_sanity_val_steps=0, callbacks=[keep], **quiet)
        model = Hearer()
        data = Mixtures(batch_size=4, training=training(packs, mixtures=16))
        trainer.fit(model, datamodule=data, ckpt_path=resume, weights_only=False)
        return model

    whole, first, rest = fit(10), fit(6), fit(10, tmp_path / "6.ckpt")
    assert first.heard + rest.heard == whole.heard
    assert len(set(whole.heard)) == 40  # every epoch has mixtures of its own
    assert whole.validated == 2 * whole.validated[:9]


def test_a_run_that_goes_on_with_larger_batches_has_one_number_of_talkers_in_each() -> None:
    shares = [
        [draw.talkers for draw in MixtureDraws(96, (1, 3), 4, rank=rank, processes=2, done=20)]  # type: ignore[attr-defined]
        for rank in range(2)
    ]
    assert [len(share) for share in shares] == [36, 36]  # the place after 20 where a batch of both begins: 24
    for start in range(0, 36, 4):
        assert len({talkers for share in shares for talkers in share[start : start + 4]}) == 1


@pytest.mark.parametrize(("size", "processes"), [(1, 1), (4, 8), (8, 16)])
def test_processes_validate_as_many_talkers_at_a_time(packs: Path, size: int, processes: int) -> None:
    """Or they would log other figures than those that they wait for each other with."""
    batches = training(packs, val_mixtures=150).validation(size, processes)
    assert len(batches) % processes == 0
    for start in range(0, len(batches), processes):
        assert len({draw.talkers for batch in batches[start : start + processes] for draw in batch}) == 1
    assert len({draw.index for batch in batches for draw in batch}) == 150


@pytest.mark.parametrize("size", [1, 4])
def test_validation_is_always_the_same(packs: Path, size: int) -> None:
    def mixed(rank: int, processes: int) -> list[torch.Tensor]:
        data = loaded(Mixtures(batch_size=size, training=training(packs)), rank, processes)
        return [mixture for batch in data.val_dataloader() for mixture in batch["mixture"]]

    def digest(found: list[torch.Tensor]) -> set[float]:
        return {float(mixture.double().square().sum()) for mixture in found}

    whole = mixed(0, 1)
    assert len(whole) == 9 == len(digest(whole))
    reference = loaded(Mixtures(batch_size=2, training=training(packs))).val_dataloader()
    assert digest(whole) == digest([mixture for batch in reference for mixture in batch["mixture"]])
    shares = [mixed(rank, 2) for rank in range(2)]
    assert digest(shares[0]) | digest(shares[1]) == digest(whole)
    assert len(loaded(Mixtures(batch_size=size, training=training(packs)), 0, 2).val_dataloader()) == len(
        loaded(Mixtures(batch_size=size, training=training(packs)), 1, 2).val_dataloader()
    )


def test_clip_folders_join_packs_and_a_talker_without_video_comes_last(packs: Path, tmp_path: Path) -> None:
    sources = [Prepared(write_folder(tmp_path / "silent_film", video=False)), Prepared(packs / "people")]
    mixtures = TrainingMixtures(sources, [Prepared(packs / "dns")], seconds=0.4).open("train")
    found = Counter[tuple[bool, ...]]()
    for seed in range(40):
        item = mixtures[MixtureDraw(0, seed, 2)]
        found[tuple(item["seen"].any(-1).tolist())] += 1
    assert set(found) == {(True, True), (True, False)}  # the folder names nobody: it counts as one person


def test_people_of_the_embedded_corpus_differ_in_voice_and_face(tmp_path: Path) -> None:
    parts = FolderParts(write_folder(tmp_path / "clips", meta=True) / "train", clips=5, skip=1)
    assert parts.people.tolist()[0] == ["voice v0", "face 1"]
    assert (parts.audio(0, 2, 3) == parts.clips.audio[1, 2 * FRAME : 5 * FRAME].astype(np.float32) / 32768).all()
    assert parts.visual(0, 0, 2).max() == 1
    write_noise(tmp_path / "dns", splits=SPLITS)
    mixtures = TrainingMixtures([Prepared(tmp_path / "clips")], [Prepared(tmp_path / "dns")], seconds=0.4).open("train")
    for seed in range(30):
        first, second = mixtures[MixtureDraw(0, seed, 2)]["visual"][:, 0, 0, 0].tolist()
        assert first // 2 != second // 2
        assert first % 3 != second % 3


def test_a_source_is_drawn_as_often_as_it_says(tmp_path: Path) -> None:
    a, b = (FolderParts(write_folder(tmp_path / name) / "train") for name in "ab")
    rng, pool = np.random.default_rng(0), Pool([(a, 1), (b, 3)])
    found = Counter(id(pool.draw(rng)[0]) for _ in range(2000))
    assert found[id(b)] / 2000 == pytest.approx(0.75, abs=0.04)
    assert {clip for _, clip in (pool.draw(rng) for _ in range(200))} == set(range(6))


def test_mistakes_are_one_sentence(packs: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="give the fewest and the most"):
        training(packs, talkers=(3, 1))
    with pytest.raises(UserError, match="no ranges for 4 talkers; it has 1, 2, 3"):
        training(packs, talkers=(1, 4))
    with pytest.raises(UserError, match="holds no prepared clips"):
        TrainingMixtures([Prepared(tmp_path)], [Prepared(packs / "dns")]).open("train")
    with pytest.raises(UserError, match=r"there is no folder nowhere, nor .*AVDIFF_DATA"):
        TrainingMixtures([Prepared(Path("nowhere"))], [Prepared(packs / "dns")]).open("train")
    with pytest.raises(UserError, match="clips of more people"):
        training(packs, talkers=(7, 7), levels={7: Levels((0, 0), (0, 0))}).open("train")[MixtureDraw(0, 0, 7)]
    with pytest.raises(UserError, match=r"say as data\.training"):
        Mixtures(ToyMixtures()).setup("fit")
    with pytest.raises(UserError, match="no list to separate"):
        Mixtures(training=training(packs)).predict_dataloader()
