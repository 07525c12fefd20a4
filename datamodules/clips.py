"""Clean clips on disk, as both priors are trained on them: a folder of memory-mapped arrays.

audio.npy     int16 (N, T) at 16 kHz, zero-padded
lengths.npy   int64 (N,) samples, where clips are shorter than T
mouth.npy     uint8 (N, F, 96, 96) mouth crops at 25 fps      speech with video only
seen.npy      bool (N, F)                                     all True where missing
phonemes.npy  uint8 (N, F), 255 where unknown                 all unknown where missing
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torchaudio.functional as AF
from torch import Tensor
from torch.utils.data import ConcatDataset, DataLoader, Dataset

from avdiff.errors import UserError, at_least
from avdiff.types import SAMPLE_RATE
from datamodules.sampling import TrainingClips

SAMPLES_PER_FRAME = 640
UNKNOWN = 255
_STEPS = 20  # speeds are multiples of a twentieth


#: what may be beside the sound of a clip folder: its type and, after the clips, its shape; None for any length
_BESIDE: dict[str, tuple[str, tuple[int | None, ...]]] = {
    "lengths": ("int", ()),
    "mouth": ("uint8", (None, 96, 96)),
    "seen": ("bool", (None,)),
    "phonemes": ("uint8", (None,)),
}


def _load(folder: Path, name: str, clips: int | None = None) -> np.ndarray | None:
    """An array of a clip folder, for so many clips; None where there is none.

    Raises:
        UserError: it is damaged, or of another type or shape.
    """
    file = folder / f"{name}.npy"
    if not file.is_file():
        return None
    try:
        array = np.load(file, mmap_mode="r")
    except (ValueError, EOFError) as error:
        raise UserError(
            f"{file} is damaged or no array of NumPy that holds plain numbers; make the clips again: avdiff prepare"
        ) from error
    kind, shape = ("int16", (None,)) if name == "audio" else _BESIDE[name]
    fits = array.ndim == 1 + len(shape) and all(
        wanted in (None, found) for wanted, found in zip((clips, *shape), array.shape, strict=True)
    )
    if not fits or not array.dtype.name.startswith(kind):
        wanted = (
            f"{kind} of {('clips' if clips is None else clips, *('any' if size is None else size for size in shape))}"
        )
        raise UserError(
            f"{file} holds {array.dtype} of {array.shape}, not {wanted}; make the clips again: avdiff prepare"
        )
    return array


class ClipFolder(Dataset):
    """Crops of the clips in one folder, as dicts `audio` (T,), `visual` (F, 96, 96), `seen` (F,), `phonemes` (F,).

    Args:
        folder: see the module's docstring.
        seconds: of a crop; shorter clips are zero-padded (and unseen) at the end.
        random: crop anywhere, on a video frame; else from the start.
        clips: use only the first so many; None for all.
        skip: leave out so many of these at the start.
        video: give `visual`, `seen` and `phonemes` too.
        speed: least and greatest speed that a crop is played at, drawn for each in steps of a twentieth. Pitch and
            formants move with it, and lips keep up: voices that few talkers lend.
        pitch: least and greatest factor that pitch and formants of half of the crops are moved by while their timing stays, in
            steps of a twentieth: other voices for the same lips.
    """

    def __init__(
        self,
        folder: Path,
        seconds: float,
        random: bool,
        clips: int | None = None,
        video: bool = True,
        skip: int = 0,
        speed: tuple[float, float] = (1.0, 1.0),
        pitch: tuple[float, float] = (1.0, 1.0),
    ) -> None:
        #: frames of the clip to every `_STEPS` frames given
        self.paces = _twentieths("speeds", speed)
        self.pitches = _twentieths("factors of the pitch", pitch)
        audio = _load(folder, "audio")
        if audio is None:
            raise UserError(f"{folder} holds no audio.npy; give a folder of clips that avdiff prepare left")
        self.audio = audio
        beside = {name: _load(folder, name, len(audio)) for name in _BESIDE if video or name not in ("mouth", "seen")}
        self.lengths, self.mouth, self.seen = (beside.get(name) for name in ("lengths", "mouth", "seen"))
        self.phonemes = beside["phonemes"]
        if (
            self.lengths is not None
            and len(self.lengths)
            and not 0 <= self.lengths.min() <= self.lengths.max() <= audio.shape[1]
        ):
            raise UserError(
                f"{folder / 'lengths.npy'} tells {self.lengths.max()} samples of {audio.shape[1]}; make the clips again: "
                "avdiff prepare"
            )
        self.frames, self.random, self.video = round(seconds * 25), random, video
        self.skip = skip
        self.count = (len(self.audio) if clips is None else min(clips, len(self.audio))) - skip
        if self.count < 1:
            raise UserError(
                f"{folder} holds no clips; give more"
                if not skip
                else f"{skip} of {self.count + skip} clips are to be left out, which leaves none; lower skip"
            )

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        index += self.skip
        length = int(self.lengths[index]) if self.lengths is not None else self.audio.shape[1]
        low, high = self.paces
        pace = int(torch.randint(low, high + 1, ())) if high > low else low
        wanted = -(-self.frames * pace // _STEPS)
        spare = max(0, length // SAMPLES_PER_FRAME - wanted)
        start = int(torch.randint(spare + 1, ())) if self.random else 0
        taken = slice(start, min(start + wanted, length // SAMPLES_PER_FRAME))
        samples = slice(taken.start * SAMPLES_PER_FRAME, taken.stop * SAMPLES_PER_FRAME)
        audio = self.audio[index, samples].astype(np.float32) / 32768
        frames: slice | np.ndarray = taken
        if self.pitches != (_STEPS, _STEPS) and float(torch.rand(())) < 0.5:
            audio = transposed(audio, int(torch.randint(self.pitches[0], self.pitches[1] + 1, ())))
        if pace != _STEPS:
            given = min(self.frames, (taken.stop - taken.start) * _STEPS // pace)
            audio = AF.resample(torch.from_numpy(audio), pace, _STEPS).numpy()[: given * SAMPLES_PER_FRAME]
            frames = taken.start + (2 * np.arange(given) + 1) * pace // (2 * _STEPS)
        audio = padded(audio, self.frames * SAMPLES_PER_FRAME)
        if not self.video:
            return {"audio": torch.from_numpy(audio)}
        blank = np.zeros((0, 96, 96), np.uint8)
        mouth = blank if self.mouth is None else self.mouth[index, frames]
        seen = np.ones(len(mouth), bool) if self.seen is None or self.mouth is None else self.seen[index, frames]
        phonemes = np.zeros(0, np.uint8) if self.phonemes is None else self.phonemes[index, frames]
        return {
            "audio": torch.from_numpy(audio),
            "visual": torch.from_numpy(padded(mouth, self.frames)),
            "seen": torch.from_numpy(padded(seen, self.frames)),
            "phonemes": torch.from_numpy(padded(phonemes, self.frames, UNKNOWN)),
        }


def _twentieths(name: str, span: tuple[float, float]) -> tuple[int, int]:
    """A span of factors in steps of a twentieth."""
    low, high = (round(_STEPS * end) for end in span)
    if not 1 <= low <= high:
        raise UserError(
            f"{name} from {span[0]} to {span[1]} were given; give the lower one first, {1 / _STEPS} or more"
        )
    return low, high


def transposed(audio: np.ndarray, pace: int) -> np.ndarray:
    """Move pitch and formants of (T,) float32 by pace / 20 and leave its timing: resampled, then stretched by a phase vocoder."""
    if pace == _STEPS or len(audio) < 1600:
        return audio
    window, hop = torch.hann_window(640), 160
    faster = AF.resample(torch.from_numpy(audio), pace, _STEPS)
    frames = torch.stft(faster, 640, hop, window=window, return_complex=True)
    advance = torch.linspace(0, math.pi * hop, len(frames))[:, None]
    stretched = AF.phase_vocoder(frames[None], _STEPS / pace, advance)[0]
    return torch.istft(stretched, 640, hop, window=window, length=len(audio)).numpy()


class WithVoice(Dataset):
    """Clips, each with the sound of some clip of other sources beside it as `voice` (T,).

    Args:
        clips, voices: as dicts with `audio`, of equal length.
        random: any voice; else one that the index tells.
        share: of the clips; the voice of the others is their own sound.
    """

    def __init__(self, clips: Dataset, voices: Dataset, random: bool, share: float = 1.0) -> None:
        self.clips, self.voices, self.random, self.share = clips, voices, random, share

    def __len__(self) -> int:
        return len(self.clips)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        count = len(self.voices)  # type: ignore[arg-type]
        item = self.clips[index]
        if self.share < 1 and float(torch.rand(())) >= self.share:
            return {**item, "voice": item["audio"]}
        which = int(torch.randint(count, ())) if self.random else index % count
        return {**item, "voice": self.voices[which]["audio"]}


def padded(array: np.ndarray, length: int, value: int = 0) -> np.ndarray:
    """(n, ...) filled up at its end to (length, ...)."""
    out = np.full((length, *array.shape[1:]), value, array.dtype)
    out[: len(array)] = array
    return out


class CleanClips(TrainingClips):
    """Training and validation crops from clip folders.

    Args:
        batch_size: a process.
        seconds: of a training crop. Validation always uses 4 s.
        workers: loader processes; 0 loads in the training process.
        real: folders of prepared real clips, each with `train` and `val` inside, used beside the embedded corpus.
        repeat: how often a real training clip is seen for each time a synthetic one is.
        speed: least and greatest speed that real training clips are played at, see `ClipFolder`.
        pitch: least and greatest factor of the pitch of real training clips with video, see `ClipFolder`.
        clips: embedded training clips of 4 s; generated on first use.
        skip: leave out so many of these at the start. A prior whose lip encoder learned from the same clips trusts lips
            more than it should on unseen faces.
        generators: processes that generate them; None for one a core.
        seed: of the order of the training clips and of the places of their crops.
    """

    video = True

    def __init__(
        self,
        batch_size: int = 8,
        seconds: float = 2.0,
        workers: int = 0,
        real: Sequence[Path] = (),
        repeat: int = 1,
        clips: int = 1000,
        skip: int = 0,
        val_clips: int = 48,
        generators: int | None = None,
        seed: int = 0,
        speed: tuple[float, float] = (1.0, 1.0),
        pitch: tuple[float, float] = (1.0, 1.0),
    ) -> None:
        super().__init__(batch_size, workers, seed)
        at_least(SAMPLES_PER_FRAME / SAMPLE_RATE, seconds=seconds)
        at_least(1, repeat=repeat, clips=clips, val_clips=val_clips, generators=generators)
        at_least(0, skip=skip)
        self.seconds = seconds
        self.real, self.repeat, self.speed, self.pitch = [Path(folder) for folder in real], repeat, speed, pitch
        self.clips, self.skip, self.val_clips, self.generators = clips, skip, val_clips, generators
        #: other sources, of which a share of the training clips have one beside them, see `WithVoice`
        self.beside: CleanClips | None = None
        self.beside_share = 1.0
        #: clips that are trained on and validated with beside these, and how often one is seen for each time that one of these is
        self.joined: CleanClips | None = None
        self.joined_repeat = 1

    def generate(self, split: str, clips: int) -> Path:
        """Make the embedded clips, or find them; returns their folder."""
        raise NotImplementedError

    def prepare_data(self) -> None:
        self.generate("train", self.clips)
        self.generate("val", self.val_clips)
        for other in (self.beside, self.joined):
            if other is not None:
                other.prepare_data()

    def setup(self, stage: str) -> None:
        embedded = self.generate("train", self.clips)
        train: list[Dataset] = [ClipFolder(embedded, self.seconds, True, self.clips, self.video, self.skip)]
        for path in self.real:
            seen = (path / "train" / "mouth.npy").is_file()
            pitch = self.pitch if seen else (1.0, 1.0)
            real = ClipFolder(path / "train", self.seconds, True, video=self.video, speed=self.speed, pitch=pitch)
            train += [real] * self.repeat
        val: list[Dataset] = [ClipFolder(self.generate("val", self.val_clips), 4.0, False, self.val_clips, self.video)]
        if self.joined is not None:
            self.joined.seconds = self.seconds
            self.joined.setup(stage)
            train += [self.joined.train] * self.joined_repeat
            val.append(self.joined.val)
        self.train: Dataset = ConcatDataset(train)
        self.val: Dataset = ConcatDataset(val) if len(val) > 1 else val[0]
        if self.beside is not None:
            self.beside.seconds = self.seconds
            self.beside.setup(stage)
            self.train = WithVoice(self.train, self.beside.train, random=True, share=self.beside_share)

    def val_dataloader(self) -> DataLoader:
        return self.validation(self.val)


class PreparedClips(CleanClips):
    """Clips of one folder with `train` and `val` in it, and no others.

    Args:
        folder: as `avdiff prepare` leaves them for `--data.real`, or one voice's enrolment.
        batch_size, seconds, workers, seed: see `CleanClips`.
        video: give lips too.
    """

    def __init__(
        self,
        folder: Path,
        batch_size: int = 8,
        seconds: float = 2.0,
        workers: int = 0,
        video: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, seconds, workers, clips=1_000_000, val_clips=1_000_000, seed=seed)
        self.folder, self.video = Path(folder), video

    def generate(self, split: str, clips: int) -> Path:
        return self.folder / split
