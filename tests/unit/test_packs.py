"""Packs: what is written comes back, in stretches; what a killed writer left half done does not."""

from __future__ import annotations

import json
import pickle
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest

from avdiff.errors import UserError
from datamodules.codecs import JpegCrops, LosslessCrops, MouthCodec, RawCrops
from datamodules.packs import MISSING, Clip, Pack, PackWriter, encoded, failures, summary


def clip(name: str, frames: int = 10, level: float = 0.1, **about: str) -> Clip:
    """Noise, and lips that change smoothly; another name gives others."""
    rng = np.random.default_rng(sum(name.encode()))
    audio = (level * rng.standard_normal(frames * 640 + 7)).astype(np.float32)
    x, y, t = np.meshgrid(np.arange(96), np.arange(96), np.arange(frames), indexing="ij")
    mouth = (127 + 60 * np.sin(x / 9 + t) + 60 * np.cos(y / 7 - t)).astype(np.uint8).transpose(2, 0, 1)
    return Clip(name, audio, about, mouth, rng.random(frames) < 0.5)


@pytest.mark.parametrize(
    "codec", [RawCrops(), LosslessCrops(), JpegCrops()], ids=lambda codec: codec.settings()["codec"]
)
def test_any_stretch_comes_back(tmp_path: Path, codec: MouthCodec) -> None:
    written = [clip(name, frames) for name, frames in (("b", 12), ("a", 5), ("c", 30))]
    writer = PackWriter(tmp_path, codec=codec, limit=50_000)  # so small that there are several files
    for one in written:
        writer.append(one)
    writer.close()
    pack = Pack(tmp_path)
    assert len(list(tmp_path.glob("mouth-*.bin"))) > 1
    assert pack.ids.tolist() == ["a", "b", "c"]
    assert [row["id"] for row in pack.rows] == ["a", "b", "c"]
    for index, one in enumerate(sorted(written, key=lambda c: c.id)):
        assert np.abs(pack.audio(index) - one.audio).max() < 1e-4
        for start, count in ((0, None), (0, 3), (2, 3), (4, 100), (5, 0)):
            stop = None if count is None else start + count
            error = np.abs(pack.mouth(index, start, count).astype(int) - one.mouth[start:stop])
            assert error.max(initial=0) <= (12 if codec.settings()["codec"] == "jpeg" else 0)
            assert error.shape == one.mouth[start:stop].shape
            assert np.array_equal(pack.seen(index, start, count), one.seen[start:stop])
        assert np.array_equal(pack.audio(index, 700, 1000), pack.audio(index)[700:1700])


def test_damaged_crops_are_told(tmp_path: Path) -> None:
    for codec in (LosslessCrops(), JpegCrops()):
        data = codec.encode(clip("a").mouth)
        wrong = data[:40] + bytes(len(data) - 40)
        with pytest.raises(UserError, match="copy the pack anew"):
            codec.decode(lambda first, size, wrong=wrong: wrong[first : first + size], 10, 0, 10)


def test_recordings_of_16_bits_come_back_exactly_and_loud_ones_are_not_clipped(tmp_path: Path) -> None:
    exact = np.array([-32768, -1, 0, 1, 32767]) / 32768
    writer = PackWriter(tmp_path)
    for name, audio in {"exact": exact, "quiet": exact / 1024, "loud": exact * 3, "silent": 0 * exact}.items():
        writer.append(Clip(name, audio))
    pack = Pack(tmp_path)
    read = {name: pack.audio(i) for i, name in enumerate(pack.ids.tolist())}
    assert np.array_equal(read["exact"], exact.astype(np.float32))
    assert np.array_equal(read["quiet"], (exact / 1024).astype(np.float32))
    assert np.abs(read["loud"] - exact * 3).max() < 1e-4
    assert not read["silent"].any()
    with pytest.raises(UserError, match="has no mouth"):
        pack._mouth.read(0, 0, 1)


def test_splits_and_ranks(tmp_path: Path) -> None:
    for rank in (1, 0):
        writer = PackWriter(tmp_path, rank, {"source": "test"})
        writer.append(clip(f"{rank}-train", split="train", speaker="ann"))
        writer.append(clip(f"{rank}-val", split="val", speaker="bob"))
        writer.fail(f"{rank}-bad", "no sound")
        writer.close()
    assert Pack(tmp_path).ids.tolist() == ["0-train", "0-val", "1-train", "1-val"]
    assert [row["speaker"] for row in Pack(tmp_path, "val").rows] == ["bob", "bob"]
    with pytest.raises(UserError, match="no clip of split 'test'; it has train, val"):
        Pack(tmp_path, "test")
    assert summary(tmp_path).splitlines() == [
        "train: 2 clips, 0.00 h, 1 speakers",
        "val: 2 clips, 0.00 h, 1 speakers",
        "left out, no sound: 2",
    ]


def test_a_pack_is_begun_once(tmp_path: Path) -> None:
    writer = PackWriter(tmp_path, settings={"detector": "dlib"})
    with pytest.raises(UserError, match="being written by another process"):
        PackWriter(tmp_path, settings={"detector": "dlib"})
    writer.close()
    with pytest.raises(UserError, match="begun with mouth"):
        PackWriter(tmp_path, settings={"detector": "dlib"}, codec=JpegCrops())
    with pytest.raises(UserError, match="holds no clip yet"):
        Pack(tmp_path)
    with pytest.raises(UserError, match=r"nowhere is no prepared data"):
        Pack(tmp_path / "nowhere")


def test_done_is_what_gave_clips_or_failed_for_good(tmp_path: Path) -> None:
    writer = PackWriter(tmp_path)
    writer.append(clip("a"))
    writer.write([encoded(clip("b/0"), writer.codec), encoded(clip("b/1"), writer.codec)], item="b")
    writer.fail("c", "no sound", "c.mp4 has no sound")
    writer.fail("d", MISSING)
    writer.fail("d", MISSING)
    assert writer.done == {"a", "b", "c"}
    writer.close()
    assert (tmp_path / "failed-0000.jsonl").read_text().count("\n") == 2
    again = PackWriter(tmp_path, rank=3)
    assert again.done == {"a", "b", "c"}
    again.append(clip("d"))
    assert failures(tmp_path) == {"c": "no sound"}
    again.forget_failures()
    assert again.done == {"a", "b", "d"}


@pytest.mark.parametrize("cut", [1, 40], ids=["half a line", "a line of two"])
def test_what_no_whole_entry_covers_is_cut_off(tmp_path: Path, cut: int) -> None:
    writer = PackWriter(tmp_path)
    writer.append(clip("a"))
    sizes = {file.name: file.stat().st_size for file in tmp_path.glob("*-0000*")}
    writer.write([encoded(clip("b/0"), writer.codec), encoded(clip("b/1"), writer.codec)], item="b")
    writer.close()
    manifest = tmp_path / "manifest-0000.jsonl"
    lines = manifest.read_bytes().splitlines(keepends=True)
    manifest.write_bytes(b"".join(lines)[:-1] if cut == 1 else b"".join(lines[:2]))
    assert Pack(tmp_path).ids.tolist() == ["a"]
    again = PackWriter(tmp_path)
    assert {file.name: file.stat().st_size for file in tmp_path.glob("*-0000*")} == sizes
    assert again.done == {"a"}
    again.append(clip("c"))
    pack = Pack(tmp_path)
    assert np.array_equal(pack.mouth(1), clip("c").mouth)


def test_a_line_whose_data_are_not_on_disk_is_cut_off(tmp_path: Path) -> None:
    writer = PackWriter(tmp_path)
    for name in ("a", "b"):
        writer.append(clip(name))
    writer.close()
    mouth = tmp_path / "mouth-0000-000.bin"
    with mouth.open("r+b") as file:
        file.truncate(mouth.stat().st_size - 1)
    assert PackWriter(tmp_path).done == {"a"}


def write_for_ever(folder: Path, told: Connection) -> None:
    writer = PackWriter(folder, limit=300_000)
    for i in range(10_000):
        if f"{i:04d}" not in writer.done:
            writer.append(clip(f"{i:04d}", 8))
            told.send(i)


def test_a_killed_writer_loses_nothing_and_writes_nothing_twice(tmp_path: Path) -> None:
    processes, told = get_context("fork"), []
    for _ in range(4):
        ours, theirs = processes.Pipe(duplex=False)
        process = processes.Process(target=write_for_ever, args=(tmp_path, theirs))
        process.start()
        theirs.close()
        told += [ours.recv() for _ in range(11)]
        process.kill()
        with suppress(EOFError):
            while True:
                told.append(ours.recv())
        process.join()
    assert told == sorted(set(told))
    PackWriter(tmp_path).close()
    pack = Pack(tmp_path)
    assert pack.ids.tolist() == [f"{i:04d}" for i in range(len(pack))]
    assert set(told) <= set(range(len(pack)))  # a line may be on disk and not yet told
    for i in range(len(pack)):
        assert np.array_equal(pack.mouth(i), clip(f"{i:04d}", 8).mouth)
    stored = sum(sum(at[2] for at in row["at"].values()) for row in pack.rows)
    assert stored == sum(file.stat().st_size for file in tmp_path.glob("*.bin"))


def test_features_are_read_by_name(tmp_path: Path) -> None:
    from datamodules.ledger import Ledger

    writer = PackWriter(tmp_path)
    for name in ("a", "b", "c"):
        writer.append(clip(name))
    folder = tmp_path / "features" / "tiny"
    values = {name: np.random.default_rng(i).standard_normal((10, 4)).astype(np.float16) for i, name in enumerate("ca")}
    ledger = Ledger(folder, "index", ("values",))
    for name, value in values.items():
        ledger.append([({"id": name}, {"values": value.tobytes()})])
    with pytest.raises(UserError, match="has no feature set 'tiny'; it has none"):
        Pack(tmp_path).features(0, "tiny")
    (folder / "card.json").write_text(json.dumps({"dim": 4}))
    pack = pickle.loads(pickle.dumps(Pack(tmp_path)))
    assert np.array_equal(pack.features(0, "tiny", 3, 4), values["a"][3:7])
    assert np.array_equal(pack.features(2, "tiny"), values["c"])
    assert pack.without_features("tiny").tolist() == [1]
    with pytest.raises(UserError, match="lacks b"):
        pack.features(1, "tiny")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"mouth": 3}', '{"mouth": {"codec": "h264"}}'])
def test_a_damaged_pack_is_told_with_its_file(content: str, tmp_path: Path) -> None:
    writer = PackWriter(tmp_path)
    writer.append(Clip("a", np.ones(640)))
    writer.close()
    (tmp_path / "pack.json").write_text(content)
    with pytest.raises(UserError, match=r"pack\.json"):
        Pack(tmp_path)
    if not content.startswith('{"'):
        with pytest.raises(UserError, match=r"pack\.json is damaged"):
            PackWriter(tmp_path)


@pytest.mark.parametrize("damage", [b"garbage\n", b"\xff\x00\n", b"[]\n", b'{"seconds": 1}\n', b'{"id": 3}\n'])
@pytest.mark.parametrize("name", ["manifest", "failed"])
def test_a_damaged_line_is_told_with_its_number(name: str, damage: bytes, tmp_path: Path) -> None:
    writer = PackWriter(tmp_path)
    writer.append(Clip("a", np.ones(640)))
    writer.fail("b", "silent")
    writer.close()
    with (tmp_path / f"{name}-0000.jsonl").open("ab") as file:
        file.write(damage)
    size = (tmp_path / "audio-0000-000.bin").stat().st_size
    for look in (PackWriter, failures):
        with pytest.raises(UserError, match=rf"line 2 of .*{name}-0000\.jsonl"):
            look(tmp_path)
    assert (tmp_path / "audio-0000-000.bin").stat().st_size == size


def test_a_line_that_lacks_what_clips_need_is_told(tmp_path: Path) -> None:
    writer = PackWriter(tmp_path)
    writer.append(Clip("a", np.ones(640)))
    writer.close()
    manifest = tmp_path / "manifest-0000.jsonl"
    manifest.write_text(manifest.read_text().replace('"samples"', '"sample"'))
    with pytest.raises(UserError, match=r"manifest-0000\.jsonl .* clip a"):
        Pack(tmp_path)
