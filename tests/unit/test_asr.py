"""Recognisers load, batch and decode as published ones do: tiny random weights stand for theirs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from avdiff.errors import UserError
from avdiff.metrics.asr import Heard, Recogniser, load_recogniser
from avdiff.metrics.words import normalise, word_errors

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def clips(count: int = 3, samples: int = 8000) -> list[torch.Tensor]:
    return [torch.randn(samples - 800 * i, generator=torch.Generator().manual_seed(i)) for i in range(count)]


@pytest.fixture(scope="module")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Whisper of two layers in its published layout of files."""
    from transformers import (
        WhisperConfig,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
        WhisperProcessor,
        WhisperTokenizer,
    )

    folder = tmp_path_factory.mktemp("whisper")
    special = ["<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|transcribe|>", "<|notimestamps|>"]
    vocabulary = {token: i for i, token in enumerate([*LETTERS, "Ġ", *special])}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = WhisperTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"))
    tokenizer.add_special_tokens({"additional_special_tokens": special[1:]})
    start, end = vocabulary["<|startoftranscript|>"], vocabulary["<|endoftext|>"]
    torch.manual_seed(0)
    network = WhisperForConditionalGeneration(
        WhisperConfig(
            vocab_size=len(vocabulary), d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
            decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, num_mel_bins=80, max_target_positions=24,
            decoder_start_token_id=start, eos_token_id=end, pad_token_id=end, bos_token_id=end,
        )
    )  # fmt: skip
    network.save_pretrained(folder)
    generation = {
        "is_multilingual": True, "lang_to_id": {"<|en|>": vocabulary["<|en|>"]},
        "task_to_id": {"transcribe": vocabulary["<|transcribe|>"]},
        "no_timestamps_token_id": vocabulary["<|notimestamps|>"], "decoder_start_token_id": start,
        "bos_token_id": end, "eos_token_id": end, "pad_token_id": end, "max_length": 12,
        "suppress_tokens": list(range(len(LETTERS), len(vocabulary))),  # so that random weights write letters
    }  # fmt: skip
    (folder / "generation_config.json").write_text(json.dumps(generation))
    WhisperProcessor(WhisperFeatureExtractor(feature_size=80), tokenizer).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def parakeet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Parakeet-TDT of one layer in its published layout of files."""
    from tokenizers import Tokenizer, models
    from transformers import (
        ParakeetFeatureExtractor,
        ParakeetForTDT,
        ParakeetProcessor,
        ParakeetTDTConfig,
        ParakeetTokenizer,
    )

    folder = tmp_path_factory.mktemp("parakeet")
    vocabulary = {token: i for i, token in enumerate(["<unk>", "<pad>", *LETTERS, "<blank>"])}
    blank = vocabulary["<blank>"]
    tokenizer = ParakeetTokenizer(
        tokenizer_object=Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>")),
        unk_token="<unk>", pad_token="<pad>", additional_special_tokens=["<blank>"],
    )  # fmt: skip
    encoder = {
        "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16,
        "subsampling_conv_channels": 8, "num_mel_bins": 80, "conv_kernel_size": 3,
    }  # fmt: skip
    torch.manual_seed(0)
    config = ParakeetTDTConfig(
        vocab_size=len(vocabulary), decoder_hidden_size=16, num_decoder_layers=1, encoder_config=encoder,
        blank_token_id=blank, pad_token_id=vocabulary["<pad>"],
    )  # fmt: skip
    network = ParakeetForTDT(config)
    network.generation_config.decoder_start_token_id = blank
    network.save_pretrained(folder)
    features = ParakeetFeatureExtractor(feature_size=80)
    ParakeetProcessor(features, tokenizer, decoder_type="tdt").save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", ["whisper", "parakeet"])
def test_random_weights_hear_the_same_in_any_batch(kind: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(kind)
    recogniser = load_recogniser(str(folder), batch=2)
    assert recogniser.model == str(folder)
    heard = recogniser.transcribe([*clips(), torch.zeros(8000)])
    assert heard[3] == "", "silence is not given to the network"
    assert any(heard[:3]), "random weights write something"
    assert set("".join(heard)) <= {*LETTERS, " "}, "no special token is left"
    alone = load_recogniser(str(folder), batch=1).transcribe([clips()[0]])
    assert alone == heard[:1]


def test_what_is_no_recogniser(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no recogniser was found as '.*nowhere'"):
        load_recogniser(str(tmp_path / "nowhere"))
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(UserError, match="is a bert; recognisers are Whisper and Parakeet"):
        load_recogniser(str(tmp_path))


def test_weights_that_cannot_be_read(whisper: Path, tmp_path: Path) -> None:
    for file in whisper.glob("*.json"):
        shutil.copy(file, tmp_path)
    with pytest.raises(UserError, match=r"the weights of .* cannot be read: .* no file named"):
        load_recogniser(str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"torn")
    with pytest.raises(UserError, match=r"the weights of .* cannot be read"):
        load_recogniser(str(tmp_path))


def test_whisper_hears_all_of_a_long_clip(whisper: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recogniser = load_recogniser(str(whisper), batch=2)
    monkeypatch.setattr(recogniser, "_texts", lambda arrays: [f"{len(array) / 16_000:g}" for array in arrays])
    long = torch.ones(75 * 16_000)
    long[30 * 16_000 : 60 * 16_000] = 0
    assert recogniser.transcribe([torch.ones(70 * 16_000), torch.ones(16_000), long]) == ["30 30 10", "1", "30 15"]


class Counting(Recogniser):
    """Says how long a clip is, and remembers how many it was given."""

    model = "some/counting"

    def __init__(self) -> None:
        self.given = 0

    def transcribe(self, clips):
        self.given += len(clips)
        return [f"{len(clip)} samples" for clip in clips]


def test_no_clip_is_transcribed_twice(tmp_path: Path) -> None:
    first = Counting()
    assert Heard(first, tmp_path).transcribe([*clips(2), clips(1)[0]]) == [
        "8000 samples",
        "7200 samples",
        "8000 samples",
    ]
    assert first.given == 2
    [file] = tmp_path.iterdir()
    file.write_text(file.read_text()[:-5])  # a killed run leaves half a line
    second = Counting()
    assert Heard(second, tmp_path).transcribe(clips(3)) == ["8000 samples", "7200 samples", "6400 samples"]
    assert second.given == 2
    assert Heard(second, tmp_path).transcribe([0.5 * clip for clip in clips(1)]) == ["8000 samples"]
    assert second.given == 3, "other audio is another clip"


def test_other_weights_in_a_folder_hear_anew(tmp_path: Path) -> None:
    class Local(Counting):
        model = str(tmp_path / "weights")

    (tmp_path / "weights").mkdir()
    for content in ("old", "newer"):
        (tmp_path / "weights" / "model.safetensors").write_text(content)
        recogniser = Local()
        Heard(recogniser, tmp_path / "heard").transcribe(clips(1))
        assert recogniser.given == 1


def test_one_normaliser_and_its_errors() -> None:
    assert normalise("Uh, I'm  twenty-one;  OK?") == "i am 21 ok"
    assert word_errors("i am 21", "i was 21 now") == (2, 3)
    assert word_errors("", "a word") == (2, 0)
    assert word_errors("a word", "") == (2, 2)
