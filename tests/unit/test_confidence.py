"""Who is sure and who is not: voices that the lips settle, voices that change, and voices that no mouth explains."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from avdiff.confidence import UNSEEN, Confidence, Witnesses, announced, spans
from avdiff.priors.store import load_prior
from avdiff.types import NOISE, SPEAKER, Observation

SECOND = 16_000


def syllables(seconds: int, seed: int = 0) -> tuple[torch.Tensor, np.ndarray]:
    """Noise whose loudness changes from frame to frame, and that loudness in dB."""
    rng = np.random.default_rng(seed)
    decibel = rng.uniform(-30, 0, seconds * 25)
    return torch.from_numpy(rng.normal(size=seconds * SECOND) * 10 ** (decibel.repeat(640) / 20)).float(), decibel


def judge(
    without: list[torch.Tensor], beside: list[torch.Tensor], lips: list[np.ndarray], pieces: int = 1
) -> Confidence:
    witnesses = Witnesses(len(lips))
    length = len(without[0]) // SECOND // pieces
    for piece in range(pieces):
        part = slice(piece * length * SECOND, (piece + 1) * length * SECOND if piece + 1 < pieces else None)
        frames = slice(piece * length * 25, None)
        told = np.stack(lips)[:, frames]
        witnesses.add(torch.stack(without)[:, part], torch.stack(beside)[:, part], told)
    return witnesses.judge()


def test_a_voice_that_its_lips_announce_and_that_does_not_change_is_sure() -> None:
    voice, lips = syllables(4)
    none = torch.zeros_like(voice)
    found = judge([voice, none], [voice, none, none], [lips])
    assert found.voices[0] == pytest.approx(np.ones(4), abs=0.01)
    assert not found.someone_unseen
    assert found.spans == []
    _, others = syllables(4, seed=1)
    assert judge([voice, none], [voice, none, none], [others]).voices.max() < 0.4
    assert judge([voice, none], [voice, none, none], [np.full(100, np.nan)]).voices.min() == 1.0


def test_what_an_off_screen_speaker_takes_away_makes_that_second_unsure() -> None:
    voice, lips = syllables(4)
    beside, stranger = voice.clone(), torch.zeros_like(voice)
    stranger[SECOND : 2 * SECOND] = 0.9 * voice[SECOND : 2 * SECOND]
    beside -= stranger
    found = judge([voice, 0 * voice], [beside, stranger, 0 * voice], [lips])
    power = 0.5 * (1 + 0.1**2)
    assert found.voices[0, 1] == pytest.approx(1 / (1 + 0.9**2 / power), abs=0.02)
    assert found.voices[0, [0, 2, 3]].min() > 0.95
    assert found.spans == [(1, 2)]
    assert found.overall(0) < found.voices[0, 0]
    assert found.unseen[1] == pytest.approx(10 * np.log10(0.81 / (0.81 + 0.01)), abs=0.01)


@pytest.mark.parametrize(("gain", "there"), [(UNSEEN + 0.5, True), (UNSEEN - 0.5, False)])
def test_someone_is_heard_from_a_share_of_all_voices(gain: float, there: bool) -> None:
    voice, lips = syllables(2)
    other, _ = syllables(2, seed=1)
    share = 10 ** (gain / 10)
    other *= (voice.square().sum() * share / (1 - share) / other.square().sum()).sqrt()
    found = judge([voice, other], [voice, other, 0 * voice], [lips])
    assert found.share == pytest.approx(gain, abs=0.01)
    assert found.someone_unseen is there


def test_quiet_seconds_say_nothing_of_who_is_heard() -> None:
    voice, lips = syllables(2)
    stranger = torch.zeros_like(voice)
    stranger[SECOND:], voice[SECOND:] = 1e-3 * voice[SECOND:], 0
    found = judge([voice, stranger], [voice, stranger, 0 * voice], [lips])
    assert found.unseen[1] == pytest.approx(0)
    assert found.spans == []


def test_pieces_are_judged_as_if_there_were_one_and_the_last_may_be_short() -> None:
    voice, lips = syllables(5)
    other, _ = syllables(5, seed=1)
    voice, other = voice[: 5 * SECOND - 700], other[: 5 * SECOND - 700]
    given = ([voice, other], [0.5 * voice, 0.5 * voice, other], [lips])
    one, two = judge(*given), judge(*given, pieces=2)
    assert one.voices.shape == (1, 5)
    assert two.voices == pytest.approx(one.voices)
    assert two.share == pytest.approx(one.share)


def test_silence_is_judged_without_a_warning() -> None:
    silence = torch.zeros(2 * SECOND)
    found = judge([silence, silence], [silence] * 3, [np.zeros(50)])
    assert np.isnan(found.voices).all()
    assert np.isnan(found.overall(0))
    assert not found.someone_unseen


def test_lips_announce_a_loudness_for_every_frame_in_which_they_are_seen() -> None:
    prior = load_prior("speech").eval()
    moving = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, 1, 25, 96, 96), np.uint8))
    mask = torch.ones(1, 1, 25, dtype=torch.bool)
    mask[..., 20:] = False
    observation = Observation(("a",), torch.zeros(1, SECOND), moving, mask, (SPEAKER, NOISE))
    told = announced(prior, observation)
    assert told is not None
    assert told.shape == (1, 25)
    assert np.isnan(told[0, 20:]).all()
    assert np.isfinite(told[0, :20]).all()


def test_spans_are_runs() -> None:
    assert spans(np.array([True, True, False, True])) == [(0, 2), (3, 4)]
    assert spans(np.zeros(0, bool)) == []
