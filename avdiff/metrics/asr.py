"""Published English recognisers through transformers, and a file of what they heard."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from avdiff.errors import UserError
from avdiff.extras import lazy
from avdiff.files import stamp
from avdiff.types import SAMPLE_RATE

transformers = lazy("transformers")

MODELS = {  # short names; any id of the same kinds, or a folder, does as well
    "whisper": "openai/whisper-large-v3",
    "parakeet": "nvidia/parakeet-tdt-0.6b-v3",
}
PAPER_PARAKEET = "nvidia/parakeet-tdt-0.6b-v2"  # the paper's, whose English differs from that of v3


class Recogniser(ABC):
    """Words of clips, greedily decoded.

    Attributes:
        model: its id, which goes into every table beside its figures.
    """

    model: str

    @abstractmethod
    def transcribe(self, clips: Sequence[Tensor]) -> list[str]:
        """Clips (T,) at 16 kHz, of any level -> what is heard in each, as the model writes it; "" of silence."""


class _Transformers(Recogniser):
    """What transformers' recognisers share.

    Args:
        model: id on the Hugging Face hub, or a folder.
        network, processor: as `from_pretrained` gives them.
        batch: clips at a time.

    Attributes:
        longest: samples that the network hears of a clip; a longer one is cut into such pieces. None: however many there are.
    """

    longest: int | None = None

    def __init__(self, model: str, network: Any, processor: Any, batch: int) -> None:
        self.model, self.network, self.processor, self.batch = model, network.eval(), processor, batch

    @torch.inference_mode()
    def transcribe(self, clips: Sequence[Tensor]) -> list[str]:
        heard: list[list[str]] = [[] for _ in clips]
        loud = [i for i, clip in enumerate(clips) if clip.isfinite().all() and clip.any()]
        pieces = [(i, piece) for i in loud for piece in clips[i].split(self.longest or len(clips[i])) if piece.any()]
        for start in range(0, len(pieces), self.batch):
            rows = pieces[start : start + self.batch]
            arrays = [piece.cpu().float().numpy() for _, piece in rows]
            for (i, _), text in zip(rows, self._texts(arrays), strict=True):
                heard[i].append(text.strip())
        return [" ".join(filter(None, texts)) for texts in heard]

    def _inputs(self, arrays: list[Any], **options: Any) -> dict[str, Tensor]:
        inputs = self.processor(arrays, sampling_rate=SAMPLE_RATE, return_tensors="pt", **options)
        device, dtype = self.network.device, self.network.dtype
        return {k: v.to(device, dtype) if v.is_floating_point() else v.to(device) for k, v in inputs.items()}

    @abstractmethod
    def _texts(self, arrays: list[Any]) -> list[str]: ...


class Whisper(_Transformers):
    """Whisper (arXiv 2212.04356): English, greedy, no time stamps, no temperature to fall back on; 30 s at a time."""

    longest = 30 * SAMPLE_RATE

    def _texts(self, arrays: list[Any]) -> list[str]:
        inputs = self._inputs(arrays, return_attention_mask=True)
        # English-only models know neither languages nor tasks, and refuse them.
        multilingual = getattr(self.network.generation_config, "is_multilingual", False)
        spoken = {"language": "en", "task": "transcribe"} if multilingual else {}
        tokens = self.network.generate(**inputs, **spoken, do_sample=False, num_beams=1, return_timestamps=False)
        return self.processor.batch_decode(tokens, skip_special_tokens=True)


class Parakeet(_Transformers):
    """Parakeet (FastConformer with a TDT, RNN-T or CTC head), greedy."""

    def _texts(self, arrays: list[Any]) -> list[str]:
        found = self.network.generate(**self._inputs(arrays), return_dict_in_generate=True)
        return self.processor.batch_decode(found.sequences, skip_special_tokens=True)


_KINDS = {
    "whisper": (Whisper, "WhisperForConditionalGeneration"),
    "parakeet_tdt": (Parakeet, "ParakeetForTDT"),
    "parakeet_rnnt": (Parakeet, "ParakeetForRNNT"),
    "parakeet_ctc": (Parakeet, "ParakeetForCTC"),
}


def load_recogniser(model: str, device: torch.device | str = "cpu", batch: int = 16) -> Recogniser:
    """A recogniser by the name or id of its weights, in half precision on a GPU.

    Args:
        model: a name of MODELS, an id on the Hugging Face hub (downloaded on first use, where there is a network), or the
            folder of such weights.
        device: where it runs.
        batch: clips at a time.

    Raises:
        UserError: the weights are not at hand, or cannot be read, or are of another kind.
    """
    source = MODELS.get(model, model)
    try:
        config = transformers.AutoConfig.from_pretrained(source, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"no recogniser was found as {source!r}: give {', '.join(MODELS)}, an id on the Hugging Face hub that can be "
            "reached from here, or the folder of its weights"
        ) from error
    if config.model_type not in _KINDS:
        raise UserError(
            f"{source} is a {config.model_type}; recognisers are Whisper and Parakeet ({', '.join(_KINDS)})"
        )
    kind, name = _KINDS[config.model_type]
    dtype = torch.float16 if torch.device(device).type == "cuda" else torch.float32
    try:
        network = getattr(transformers, name).from_pretrained(source, dtype=dtype, trust_remote_code=False).to(device)
        processor = transformers.AutoProcessor.from_pretrained(source, trust_remote_code=False)
    except (OSError, ValueError, SafetensorError) as error:
        raise UserError(f"the weights of {source} cannot be read: {' '.join(str(error).split())}") from error
    return kind(source, network, processor, batch)


class Heard:
    """What a recogniser heard, kept by the audio itself and, of a folder, by its files' sizes and times: no clip is transcribed
    twice, and no stale line is ever used.

    Args:
        recogniser: the model.
        folder: of the file, one a model, which only grows.
    """

    def __init__(self, recogniser: Recogniser, folder: Path) -> None:
        self.recogniser = recogniser
        version = "".join(str(stamp(file)) for file in sorted(Path(recogniser.model).glob("*")))
        name = hashlib.blake2b(f"{recogniser.model}{version}".encode(), digest_size=4).hexdigest()
        self.file = folder / f"{recogniser.model.strip('/').rsplit('/', 1)[-1]}-{name}.jsonl"
        self._lines: dict[str, str] = {}
        if self.file.is_file():
            for line in self.file.read_text(encoding="utf-8", errors="replace").split("\n")[
                :-1
            ]:  # a killed run may have left half of one
                try:
                    digest, text = json.loads(line)
                except (TypeError, ValueError):
                    continue
                if isinstance(digest, str) and isinstance(text, str):
                    self._lines[digest] = text

    def transcribe(self, clips: Sequence[Tensor], watch: Callable[[float], None] | None = None) -> list[str]:
        """What is heard in each clip; only those that are new are given to the recogniser."""
        digests = [audio_digest(clip) for clip in clips]
        new = list({digest: i for i, digest in enumerate(digests) if digest not in self._lines}.values())
        step = 64
        for start in range(0, len(new), step):
            rows = new[start : start + step]
            texts = self.recogniser.transcribe([clips[i] for i in rows])
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with self.file.open("a", encoding="utf-8") as file:
                for i, text in zip(rows, texts, strict=True):
                    self._lines[digests[i]] = text
                    file.write(json.dumps([digests[i], text]) + "\n")
            if watch is not None:
                watch(min(1.0, (start + step) / len(new)))
        return [self._lines[digest] for digest in digests]


def audio_digest(clip: Tensor) -> str:
    """A name of a clip's samples."""
    return hashlib.blake2b(clip.detach().cpu().float().contiguous().numpy().tobytes(), digest_size=12).hexdigest()
