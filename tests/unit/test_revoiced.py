"""Real lips with other voices: word times in, durations out; on a stand-in for the voices."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from avdiff.errors import UserError
from datamodules import revoiced
from datamodules.clips import ClipFolder
from datamodules.revoiced import REVOICED, Revoiced, Word, in_step, pronounced, read_words, shared
from datamodules.synthetic import natural
from datamodules.synthetic.corpus import fill
from datamodules.synthetic.natural import espeak
from datamodules.synthetic.pronounce import AMERICAN
from datamodules.synthetic.visemes import PHONEMES, SILENCE
from tests.toy_voices import ToyKokoro

ALIGNED = """0 23750 sil
23750 29500 bin
29500 34000 blue
34000 35500 at
35500 41000 a
42000 47250 two
47250 53000 now
53000 74500 sil
"""


@pytest.fixture
def alignment(tmp_path: Path) -> Path:
    file = tmp_path / "bbaa2n.align"
    file.write_text(ALIGNED)
    return file


def test_words_are_read_with_their_times(alignment: Path) -> None:
    words = read_words(alignment)
    assert words[0] == Word("bin", 0.95, 1.18)
    assert [word.text for word in words] == ["bin", "blue", "at", "a", "two", "now"]
    alignment.write_text("0 23750\n")
    with pytest.raises(UserError, match="line 1"):
        read_words(alignment)
    alignment.write_text("0 100 sil\n")
    with pytest.raises(UserError, match="no words"):
        read_words(alignment)


def test_a_letter_is_spelled_and_no_words_run_together(alignment: Path) -> None:
    said = pronounced(read_words(alignment), espeak(), AMERICAN)
    assert ["".join(token.text for token in word) for word in said][3] == "ˈA"
    together = [Word("out", 0, 1), Word("of", 1, 2), Word("the", 2, 3), Word("house", 3, 4)]
    assert len(pronounced(together, espeak(), AMERICAN)) == 4


def test_frames_are_shared_out_in_proportion_and_none_is_lost() -> None:
    assert shared(10, np.array([1.0, 3.0, 1.0])).tolist() == [2, 6, 2]
    for frames in range(30):
        assert shared(frames, np.array([2.0, 1.0, 5.0, 1.0])).sum() == frames


def test_every_word_is_where_it_is_seen(alignment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(revoiced, "_LATER", 0.0)
    words = read_words(alignment)
    said = pronounced(words, espeak(), AMERICAN)
    count = sum(map(len, said)) + len(said)  # a space after each word but the last, a pause after that
    durations = in_step(words, said, np.full(count + 2, 3.0), 3.0)
    assert durations.sum() == 120  # frames of 25 ms
    edges = np.cumsum(durations)
    at = 0
    for word, letters in zip(words, said, strict=True):
        assert edges[at] == pytest.approx(word.start * 40, abs=0.5)
        assert edges[at + len(letters)] == pytest.approx(word.end * 40, abs=0.5)
        at += len(letters) + 1
    assert durations.min() >= 0


def test_clips_hold_the_lips_and_the_new_voice(
    alignment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    film = np.random.default_rng(0).integers(0, 255, (75, 96, 96)).astype(np.uint8)
    seen = np.arange(75) > 4

    def mouths(video: Path) -> tuple[np.ndarray, np.ndarray]:
        if video.stem != "bbaa2n":
            raise UserError(f"{video} shows no face")
        return film, seen

    monkeypatch.setattr(revoiced, "mouths", mouths)
    monkeypatch.setattr(natural, "_kokoro", lambda folder: ToyKokoro())
    videos = (tmp_path / "s1" / "bbaa2n.mp4", tmp_path / "s1" / "bbbb2n.mp4")
    make = Revoiced(videos, (alignment, alignment), "train", 2)
    fill(tmp_path / "train", REVOICED, make, 4, 1, None)
    clips = ClipFolder(tmp_path / "train", 4.0, False)
    assert len(clips) == 4
    first, second, unseen = clips[0], clips[1], clips[2]
    assert np.array_equal(first["visual"][:75].numpy(), film)
    assert np.array_equal(first["seen"].numpy(), np.concatenate([seen, np.zeros(25, bool)]))
    assert np.array_equal(first["visual"], second["visual"])
    assert not unseen["seen"].any()
    told = np.flatnonzero(first["phonemes"].numpy()[:75] != SILENCE)
    heard = np.flatnonzero(np.abs(first["audio"].numpy()) > 0.01) / 640
    later = revoiced._LATER
    assert told[0] == pytest.approx((0.95 + later) * 25, abs=1)
    assert told[-1] + 1 == pytest.approx((53000 / 25000 + later) * 25, abs=1)
    assert heard[0] == pytest.approx((0.95 + later) * 25, abs=1)
    assert heard[-1] == pytest.approx((53000 / 25000 + later) * 25, abs=1)
    assert PHONEMES[first["phonemes"][told[0]]] == "b"
    lines = (tmp_path / "train" / "meta.jsonl").read_text().splitlines()
    assert len({line.split('"variant": ')[1].split(",")[0] for line in lines}) > 1
