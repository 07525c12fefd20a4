"""Audio files in and out, of any length in blocks, and what of a recording 16 kHz models hear."""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator
from math import ceil, gcd
from pathlib import Path

import numpy as np
import soundfile
import torch
from scipy.signal import resample_poly
from torch import Tensor
from torchaudio.functional import resample as sinc_resample

from avdiff.errors import UserError
from avdiff.files import naming
from avdiff.types import SAMPLE_RATE
from avdiff.video.decode import MISSING_END, SoundTrack

ODD_RATIO = 1000  # a reduced ratio beyond this makes torchaudio's kernel table larger than the signal
ZEROS = 64  # zero crossings of the resampler's kernel to each side
BLOCK = 1 << 16  # samples of all channels together, read at a time
UNKNOWN = 4096  # bytes from 2**31 or 2**32 within which a size in a header says that its writer did not know it


class Sound:
    """The sound of an audio file, or of a video on the video's timeline, in blocks; little of it is in memory at a time.

    Args:
        path: of the file.
        libsndfile: whether that library may read what it can.

    Attributes:
        rate: in Hz.
        channels: of every block.
        notes: filled while iterating: what was damaged or missing, in sentences.
        told: which of several tracks is read, in sentences.

    Raises:
        UserError: no such file, not a media file, no sound in it.
    """

    def __init__(self, path: Path | str, *, libsndfile: bool = True) -> None:
        self.path = Path(path)
        self.notes: list[str] = []
        self._track: SoundTrack | None = None
        if not (libsndfile and self.path.is_file() and self._known()):
            self._track = SoundTrack(self.path)
            self.rate, self.channels = self._track.rate, self._track.channels

    def _known(self) -> bool:
        """Whether libsndfile reads the file. It finds no samples where a writer left 0 for their number: FFmpeg does."""
        try:
            with soundfile.SoundFile(os.fsencode(self.path)) as file:
                self.rate, self.channels = file.samplerate, file.channels
                return file.frames > 0
        except (soundfile.LibsndfileError, TypeError):  # TypeError: of headerless samples it asks for the rate
            return False  # not a format of libsndfile: the containers of video, m4a, ...

    @property
    def told(self) -> list[str]:
        return [] if self._track is None else self._track.told

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yields (channels, n) float32."""
        self.notes.clear()
        if self._track is not None:
            yield from self._track
            self.notes += self._track.notes
            return
        done = 0
        with soundfile.SoundFile(os.fsencode(self.path)) as file:
            promised = _promised(file)
            try:
                # Not by blocks(), which asks how many samples are left: of some formats none can be sought.
                while len(block := file.read(max(1, BLOCK // self.channels), dtype="float32", always_2d=True)):
                    done += len(block)
                    yield np.ascontiguousarray(block.T)
            except soundfile.LibsndfileError:
                damaged = True
            else:
                damaged = False
        if damaged:  # FFmpeg goes on behind the damage
            yield from self._behind(done)
        elif done < promised - MISSING_END * self.rate:
            self.notes.append(
                f"{self.path.name} is cut short: the sound ends at {done / self.rate:.2f} s, the file says "
                f"{promised / self.rate:.2f} s; what is there was used"
            )

    def _behind(self, done: int) -> Iterator[np.ndarray]:
        self.notes.append(
            f"{self.path.name} is damaged at {done / self.rate:.2f} s; what can be read after it was used"
        )
        try:
            track = SoundTrack(self.path)
            if (track.rate, track.channels) != (self.rate, self.channels):
                return
            skip = done
            for block in track:
                if skip < block.shape[1]:
                    yield block[:, skip:]
                skip = max(0, skip - block.shape[1])
            self.notes += track.notes
        except UserError:
            return


def _promised(file: soundfile.SoundFile) -> float:
    """Samples a channel that a file's header says there are, where that is more than are there.

    libsndfile's account of a header says by how much: "RIFF : 192072 (should be 96032)".
    """
    for said, there in re.findall(
        r"(?:RIFF|FORM|riff|Riff size|Data Size)\s*: (\d+) \(should be (\d+)\)", file.extra_info
    ):
        size, real = int(said), int(there)
        if real < size and all(abs(size - unknown) > UNKNOWN for unknown in (2**31, 2**32)):
            return file.frames * size / max(1, real)
    return float(file.frames)


def read_audio(path: Path | str, notes: list[str] | None = None) -> tuple[np.ndarray, int]:
    """Read an audio file, or the sound of a video on the video's timeline.

    Args:
        notes: takes what was damaged or missing, in sentences.

    Returns:
        samples (channels, n) float32 and the rate in Hz.

    Raises:
        UserError: no such file, not a media file, no sound in it.
    """
    sound = Sound(path)
    samples = np.concatenate(list(sound), axis=1)
    if notes is not None:
        notes += sound.notes
    return samples, sound.rate


class WavFile:
    """A mono WAV of 32-bit floats that grows; of the same samples the same bytes.

    Beyond 4 GiB it is an RF64 file (EBU Tech 3306), for whose sizes the header has room from the start.

    Args:
        path: of the file.
        rate: in Hz.
    """

    LARGEST = 2**32 - 1  # bytes that a RIFF header can say
    HEADER = 94  # bytes before the samples

    def __init__(self, path: Path | str, rate: int) -> None:
        self.path = path
        self.rate = rate
        self.samples = 0
        with naming(path):
            self._file = Path(path).open("wb")  # noqa: SIM115
            self._file.write(self._header())

    def write(self, samples: np.ndarray) -> None:
        """Add (n,) float32."""
        with naming(self.path):
            self._file.write(np.ascontiguousarray(samples, "<f4").data)
        self.samples += len(samples)

    def close(self) -> None:
        """Write what is not on disk yet, and the header; once more does nothing.

        Raises:
            OSError: it cannot be written.
        """
        if self._file.closed:
            return
        with naming(self.path):
            try:
                self._file.seek(0)
                self._file.write(self._header())
            finally:
                self._file.close()

    def _header(self) -> bytes:
        data = 4 * self.samples
        riff = self.HEADER - 8 + data
        small = riff <= self.LARGEST
        sizes = struct.pack("<4sI28x", b"JUNK", 28) if small else struct.pack(
            "<4sIQQQI", b"ds64", 28, riff, data, self.samples, 0
        )  # fmt: skip
        most = 2**32 - 1
        return b"".join(
            (
                struct.pack("<4sI4s", b"RIFF" if small else b"RF64", riff if small else most, b"WAVE"),
                sizes,
                struct.pack("<4sIHHIIHHH", b"fmt ", 18, 3, 1, self.rate, 4 * self.rate, 4, 32, 0),
                struct.pack("<4sII", b"fact", 4, min(self.samples, most)),
                struct.pack("<4sI", b"data", data if small else most),
            )
        )

    def __enter__(self) -> WavFile:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def write_wav(path: Path | str, samples: np.ndarray | Tensor, rate: int) -> None:
    """Write mono float32 WAV, which neither clips nor rounds. `samples` is (n,), `rate` in Hz."""
    with WavFile(path, rate) as file:
        file.write(np.asarray(samples, np.float32))


def resample(x: Tensor, rate: int, to: int) -> Tensor:
    """Band-limited resampling, (..., n) at `rate` -> (..., ceil(n * to / rate)) at `to` (both in Hz)."""
    ratio = gcd(rate, to)
    if max(rate, to) // ratio > ODD_RATIO:
        return torch.from_numpy(resample_poly(x.numpy(), to // ratio, rate // ratio, axis=-1).astype(np.float32))
    return sinc_resample(x, rate, to, lowpass_filter_width=ZEROS, rolloff=0.97)


def reach(rate: int) -> int:
    """Whole seconds to each side beyond which samples change nothing in what is resampled between `rate` and 16 kHz."""
    return ceil((ZEROS / 0.97 + 2) / min(rate, SAMPLE_RATE))


def join_band(heard: Tensor, rate: int, length: int) -> Tensor:
    """(..., m) at 16 kHz -> (..., length) at `rate` Hz, linear in its input, with length = m * rate / 16000 at most."""
    if length > ceil(heard.shape[-1] * rate / SAMPLE_RATE):
        raise ValueError(f"{heard.shape[-1]} samples at 16 kHz do not fill {length} samples at {rate} Hz")
    return (resample(heard, SAMPLE_RATE, rate) if rate != SAMPLE_RATE else heard)[..., :length]
