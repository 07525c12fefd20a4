"""The fixed test lists: SSNAPS's protocol, and files that say when the data are not those that they were written from."""

from __future__ import annotations

import json
import pickle
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from avdiff.audio.mixing import power, ratio_db
from avdiff.cli import main
from avdiff.errors import UserError
from avdiff.metrics.si_sdr import si_sdr
from avdiff.types import NOISE, OFFSCREEN, SPEAKER
from datamodules.lists import PEAK, SILENT, ListFile, Protocol
from datamodules.mixtures import Mixtures, WrongLips, collate
from datamodules.packs import Clip, Pack, PackWriter
from tests.packs import FRAME, write_noise, write_speech

SECONDS = 0.4


@pytest.fixture(scope="module")
def packs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packs")
    write_speech(folder / "people")
    write_noise(folder / "dns")
    write_noise(folder / "dcase", "dcase", scenes=10, clips=30)
    return folder


@pytest.fixture(scope="module")
def lists(packs: Path) -> Path:
    for noise in ("dns", "dcase"):
        Protocol(packs / "people", packs / noise, seconds=SECONDS).write(packs / "lists")
    return packs / "lists"


def read(lists: Path, name: str, noise: str = "dns") -> ListFile:
    return ListFile(lists / f"{name}_{noise}.jsonl", lists.parent / "people", lists.parent / noise)


def test_every_list_of_the_protocol_is_written(lists: Path) -> None:
    plain = {"speakers1", "speakers2", "speakers3", "offscreen2", "offscreen3"}
    scenes = {"scenes-10dB", "scenes-5dB", "scenes0dB", "scenes5dB"}
    wanted = {f"{name}_dns" for name in plain} | {f"{name}_dcase" for name in plain | scenes}
    assert {file.stem for file in lists.iterdir()} == wanted
    assert all(len(file.read_text().splitlines()) == 501 for file in lists.iterdir())


@pytest.mark.parametrize("noise", ["dns", "dcase"])
@pytest.mark.parametrize(
    ("name", "published"),
    [("speakers1", 2.5), ("speakers2", -2.58), ("speakers3", -3.08), ("offscreen2", -2.58), ("offscreen3", -3.08)],
)
def test_mixtures_have_the_mean_si_sdr_of_the_paper(lists: Path, name: str, published: float, noise: str) -> None:
    mixtures, means = read(lists, name, noise), []
    for index in range(len(mixtures.entries())):
        item = mixtures[index]
        talkers = [float(si_sdr(item.mixture, source)) for source in item.sources[:-1]]
        means.append(np.mean(talkers))
    error = np.std(means) / len(means) ** 0.5
    assert abs(np.mean(means) - published) < 3 * error + 0.02  # two decimals, and crops that are not quite uncorrelated


def test_a_mixture_is_at_the_levels_of_its_line(lists: Path) -> None:
    for name, talkers in (("speakers1", 1), ("speakers2", 2), ("offscreen3", 3)):
        mixtures = read(lists, name)
        for index in range(0, 500, 97):
            item, line = mixtures[index], mixtures.lines[index]
            speech, noise = item.sources[:-1], item.sources[-1]
            assert len(speech) == talkers
            assert ratio_db(speech, noise).min().item() == pytest.approx(line["snr"], abs=1e-3)
            if talkers > 1:
                assert ratio_db(speech[0], speech[1]).item() == pytest.approx(line["sir"], abs=1e-3)
            assert item.mixture.abs().max().item() == pytest.approx(PEAK, abs=1e-4)
            assert torch.equal(item.mixture, item.sources.sum(0))


def test_people_differ_clips_are_used_evenly_and_nothing_is_near_silent(lists: Path) -> None:
    mixtures = read(lists, "speakers3")
    used: Counter[str] = Counter()
    for line in mixtures.lines:
        people = [part["speaker"] for part in line["sources"][:-1]]
        assert len(set(people)) == 3
        assert line["genders"] == "-".join(sorted("fm"[int(person[-2:]) % 2] for person in people))
        used.update(part["clip"] for part in line["sources"][:-1])
    assert "test/p00/0" not in used  # it is silent
    assert len(used) == 35
    assert max(used.values()) - min(used.values()) <= 2
    item = mixtures[3]
    gains = torch.tensor([part["gain"] for part in mixtures.lines[3]["sources"]])
    assert (10 * torch.log10(power(item.sources / gains[:, None])) > SILENT).all()


def test_an_unseen_talker_is_one_of_the_same_mixture(lists: Path) -> None:
    for count in (2, 3):
        seen, unseen = read(lists, f"speakers{count}"), read(lists, f"offscreen{count}")
        assert all(a["sources"][:-2] == b["sources"][:-2] for a, b in zip(seen.lines, unseen.lines, strict=True))
        assert unseen.entries()[0].layout == (*[SPEAKER] * (count - 1), OFFSCREEN, NOISE)
        assert torch.equal(seen[5].sources, unseen[5].sources)
        assert unseen[5].mouth is not None
        assert unseen[5].mouth.shape == (count - 1, 10, 96, 96)
        people = [int(part["speaker"][-2:]) for part in unseen.lines[5]["sources"][: count - 1]]
        assert unseen[5].mouth[:, 0, 0, 0].tolist() == people


def test_scene_lists_differ_in_level_alone_and_scenes_are_balanced(lists: Path) -> None:
    found = {snr: read(lists, f"scenes{snr}dB", "dcase") for snr in (-10, -5, 0, 5)}
    scenes = Counter(line["sources"][-1]["scene"] for line in found[0].lines)
    assert scenes == {f"scene{i}": 50 for i in range(10)}
    for snr, mixtures in found.items():
        item = mixtures[7]
        assert ratio_db(item.sources[0], item.sources[1]).item() == pytest.approx(snr, abs=1e-3)
        places = [[(part["clip"], part["start"]) for part in line["sources"]] for line in mixtures.lines]
        assert places == [[(part["clip"], part["start"]) for part in line["sources"]] for line in found[0].lines]


def test_the_same_data_give_the_same_lists(lists: Path, packs: Path, tmp_path: Path) -> None:
    """Prepared elsewhere, by two ranks, in another order; beside clips of another split."""
    others = Pack(write_speech(tmp_path / "train", splits=("train",)))
    for rank in (0, 1):
        writer = PackWriter(tmp_path / "again", rank, settings={"dataset": "people"})
        for pack in (Pack(packs / "people"), others):
            for i in reversed(range(rank, len(pack), 2)):
                about = {name: pack.rows[i][name] for name in ("split", "speaker", "gender")}
                writer.append(Clip(str(pack.ids[i]), pack.audio(i), about, pack.mouth(i)))
        writer.close()
    Protocol(tmp_path / "again", packs / "dns", seconds=SECONDS, mixtures=20).write(tmp_path / "lists")
    for file in (tmp_path / "lists").iterdir():
        assert file.read_text().splitlines()[1:] == (lists / file.name).read_text().splitlines()[1:21]


def test_the_command_writes_the_same_lists(lists: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    packs = [str(lists.parent / name) for name in ("people", "dns")]
    main(["prepare", "lists", *packs, str(tmp_path), "--seconds", str(SECONDS)])
    assert (tmp_path / "speakers2_dns.jsonl").read_bytes() == (lists / "speakers2_dns.jsonl").read_bytes()
    digest = json.loads((lists / "speakers2_dns.jsonl").open().readline())["sha256"]
    assert ["speakers2_dns.jsonl", "500", "12", "20", digest] in [
        line.split() for line in capsys.readouterr().out.splitlines()
    ]


def test_lists_go_through_predict_and_lose_lips(lists: Path) -> None:
    data = Mixtures(ListFile(lists / "speakers2_dns.jsonl", lists.parent / "people", lists.parent / "dns", clips=3), 3)
    (batch,) = list(data.predict_dataloader())
    assert batch.key == tuple(f"speakers2_dns-{i:03d}" for i in range(3))
    assert batch.visual is not None
    assert batch.visual_mask is not None
    assert batch.visual.shape == (3, 2, 10, 96, 96)
    assert batch.visual_mask.all()
    withheld = collate([WrongLips(data.mixtures, "withheld")[0]])
    assert withheld.visual_mask is not None
    assert not withheld.visual_mask.any()


def test_a_list_goes_to_another_process(lists: Path) -> None:
    """As those that score have it: pickled, so that its packs are other objects."""
    mixtures = read(lists, "speakers2")
    copy = pickle.loads(pickle.dumps(mixtures))
    assert torch.equal(copy[3].sources, mixtures[3].sources)
    assert torch.equal(copy[3].mouth, mixtures[3].mouth)


def test_mixtures_of_another_list_are_told_apart(lists: Path, packs: Path, tmp_path: Path) -> None:
    """By crops and levels, not by where packs are; the first mixtures are those of the whole list."""
    mixtures = read(lists, "speakers1")
    write_speech(tmp_path / "people", seed=1)
    Protocol(tmp_path / "people", packs / "dns", seconds=SECONDS, mixtures=4).write(tmp_path)
    name = "speakers1_dns.jsonl"
    other = ListFile(tmp_path / name, tmp_path / "people", packs / "dns")
    assert other.entries() == mixtures.entries()[:4]
    assert all(other.version(i) != mixtures.version(i) for i in range(4))
    shutil.copytree(packs / "people", tmp_path / "moved")
    same = ListFile(lists / name, tmp_path / "moved", packs / "dns", clips=4)
    assert all(same.version(i) == mixtures.version(i) for i in range(4))


def changed(lists: Path, to: Path) -> tuple[Path, Path]:
    """Copies of a list and of the noise that it was written from."""
    shutil.copytree(lists.parent / "dns", to / "dns")
    return Path(shutil.copy(lists / "speakers1_dns.jsonl", to)), to / "dns"


def test_other_data_are_told_by_the_clip_that_differs(lists: Path, tmp_path: Path) -> None:
    file, noise = changed(lists, tmp_path)
    first = ListFile(file, lists.parent / "people", noise).lines[0]["sources"][-1]
    manifest = noise / "manifest-0000.jsonl"
    manifest.write_text(manifest.read_text().replace(first["sha256"], "0" * 64))
    with pytest.raises(UserError, match=f"{first['clip']} of .* has SHA-256 000000000000.*one of 1"):
        ListFile(file, lists.parent / "people", noise)
    manifest.write_text("".join(line for line in manifest.open() if first["clip"] not in line))
    with pytest.raises(UserError, match=f"{first['clip']} is not in .*dns"):
        ListFile(file, lists.parent / "people", noise)


def test_audio_that_is_not_what_was_prepared_is_told(lists: Path, tmp_path: Path) -> None:
    file, noise = changed(lists, tmp_path)
    mixtures = ListFile(file, lists.parent / "people", noise)
    data = bytearray((noise / "audio-0000-000.bin").read_bytes())
    clip = mixtures.lines[0]["sources"][-1]["clip"]
    row = next(row for row in mixtures.noise.rows if row["id"] == clip)
    data[row["at"]["audio"][1]] ^= 1
    (noise / "audio-0000-000.bin").write_bytes(data)
    with pytest.raises(UserError, match=f"audio of clip {clip} .* is not what it was prepared as"):
        mixtures[0]


def test_a_list_that_was_changed_is_refused(lists: Path, tmp_path: Path) -> None:
    file, noise = changed(lists, tmp_path)
    text = file.read_text()
    gain = json.loads(text.splitlines()[3])["sources"][0]["gain"]
    file.write_text(text.replace(str(gain), "1.0", 1))
    with pytest.raises(UserError, match="was changed after it was written"):
        ListFile(file, lists.parent / "people", noise)
    file.write_text("a,b,c\n")
    with pytest.raises(UserError, match="is no list of mixtures"):
        ListFile(file, lists.parent / "people", noise)


def test_too_few_people_or_too_short_clips_are_one_sentence(packs: Path, tmp_path: Path) -> None:
    write_speech(tmp_path / "two", people=2)
    with pytest.raises(UserError, match="more clips of more people"):
        Protocol(tmp_path / "two", packs / "dns", seconds=SECONDS).write(tmp_path)
    with pytest.raises(UserError, match=r"no clip of 4 s .*--seconds"):
        Protocol(packs / "people", packs / "dns").write(tmp_path)
    for seconds in (float("nan"), float("inf"), 0.01):
        with pytest.raises(UserError, match=rf"{seconds:g} s were asked for"):
            Protocol(packs / "people", packs / "dns", seconds=seconds)
    writer = PackWriter(tmp_path / "nameless")
    writer.append(Clip("a", np.ones(20 * FRAME), {"split": "test"}))
    with pytest.raises(UserError, match=r"clip a of .* names no speaker"):
        Protocol(tmp_path / "nameless", packs / "dns")
