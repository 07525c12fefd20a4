"""Sentences, voices and timed phonemes of the embedded corpus."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from datamodules.synthetic.espeak import ACCENTS, RATE, Espeak, Request
from datamodules.synthetic.seeds import stream
from datamodules.synthetic.sentences import GRID_SLOTS, SPLITS, free_sentence, grid_sentence, split_of
from datamodules.synthetic.visemes import PHONEMES, phoneme_of
from datamodules.synthetic.voices import BABBLE_VARIANTS, VARIANTS, draw_voice


@pytest.fixture(scope="module")
def espeak() -> Espeak:
    return Espeak()


def test_an_utterance_does_not_depend_on_what_was_said_before(espeak: Espeak) -> None:
    request = Request("place red by k nine again", "en-us+f2", seed=5)
    first = espeak.say(request)
    espeak.say(Request("bin blue at b two now", "gmw/en+m3", pitch=80))
    assert espeak.say(request) == first
    assert Espeak().say(request) == first


def test_phonemes_come_in_order_within_the_sound(espeak: Espeak) -> None:
    utterance = espeak.say(Request("place red by k nine again", "en-us+f2"))
    starts = [at for at, _ in utterance.phonemes]
    assert starts == sorted(starts)
    assert starts[0] >= 0
    assert starts[-1] <= len(utterance.pcm) // 2
    assert 1.0 < len(utterance.pcm) / 2 / RATE < 3.0
    assert " ".join(word for _, word in utterance.words) == "place red by k nine again"


def test_an_unknown_voice_is_refused_and_the_next_request_is_served(espeak: Espeak) -> None:
    with pytest.raises(ValueError, match="no such voice"):
        espeak.say(Request("bin", "nobody"))
    assert espeak.say(Request("bin", "en-us+m1")).pcm


def test_every_sound_of_every_accent_is_known(espeak: Espeak) -> None:
    rng = stream("test")
    text = ". ".join(free_sentence(rng, "train") for _ in range(8))
    for accent in ACCENTS:
        for _, mnemonic in espeak.say(Request(text, f"{accent}+m1")).phonemes:
            assert phoneme_of(mnemonic) is not None or mnemonic in (";", ""), mnemonic


def test_the_sentences_hold_every_phoneme(espeak: Espeak) -> None:
    rng = stream("test")
    text = ". ".join(free_sentence(rng, "train") for _ in range(80))
    heard = {phoneme_of(mnemonic) for _, mnemonic in espeak.say(Request(text, "gmw/en+m1")).phonemes}
    assert set(range(len(PHONEMES))) <= heard


def test_pitch_pace_and_tract_change_what_is_heard(espeak: Espeak) -> None:
    voice = draw_voice(stream("voice"), "m1")
    short = voice.say(espeak, "yes")[0]
    assert short.dtype == np.float32
    assert np.abs(short).max() < 1
    assert voice.seconds(RATE) == pytest.approx(441 / voice.tract)


def test_no_voice_is_in_two_places() -> None:
    groups = [*VARIANTS.values(), *BABBLE_VARIANTS.values()]
    names = list(itertools.chain(*groups))
    assert len(names) == len(set(names))
    assert all(len(group) >= 6 for group in groups)


def test_a_sentence_belongs_to_one_split_and_is_drawn_from_it() -> None:
    rng = stream("sentences")
    for split in SPLITS:
        assert all(split_of(grid_sentence(rng, split)) == split for _ in range(20))
        assert all(split_of(free_sentence(rng, split)) == split for _ in range(20))
    shares = [split_of(" ".join(words)) for words in itertools.product(*GRID_SLOTS[:5])]
    assert shares.count("train") / len(shares) == pytest.approx(0.8, abs=0.02)


def test_sentences_rarely_repeat() -> None:
    rng = stream("many")
    assert len({free_sentence(rng, "train") for _ in range(2000)}) > 1990


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(ValueError, match="expected one of train, val, test"):
        grid_sentence(stream("x"), "dev")
