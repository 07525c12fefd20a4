"""Any container PyAV reads -> RGB frames at 25 a second and audio samples, on one timeline, a few at a time.

Time zero is the container's start. Frames and samples are placed by their timestamps, never by counting: streams of
one file start at different times (by more than 20 ms in flv), phones record at a variable rate, and recorders drop
packets.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from avdiff.errors import UserError
from avdiff.extras import lazy
from avdiff.types import VIDEO_FPS

cv2 = lazy("cv2")

Stream = TypeVar("Stream", AudioStream, VideoStream)

RESYNC = 0.04  # s; audio timestamps are rounded to 1 ms or so in some containers, and real gaps are longer than this
JUMP = 1.0  # s back by which timestamps were set anew: recordings put behind each other, as transport streams are
MISSING_END = 0.5  # s by which a stream may end before its container says
STANDS = 0.125  # s; cameras in the dark take eight pictures a second or more; one that stands longer stood still
SILENT = 1e-4  # of full scale; a sound track that stays below it holds nothing where another does
STRETCHED = 4  # times as wide as high that a pixel may be, or the other way round; beyond, the file is not believed


@dataclass(frozen=True)
class Media:
    """What a file holds.

    Attributes:
        seconds: of the longest stream, 0 where the container does not say.
        width, height: of the video in pixels as stored (before rotation), 0 without video.
        fps: average frames a second, 0 without video.
        rate, channels: of the audio, 0 without audio.
    """

    seconds: float
    width: int = 0
    height: int = 0
    fps: float = 0.0
    rate: int = 0
    channels: int = 0


@contextmanager
def _opened(path: Path) -> Iterator[InputContainer]:
    check_file(path)
    try:
        # FFmpeg takes what is before a relative name's colon for a protocol. A file that names others is not followed to them.
        container = av.open(str(path.absolute()), options={"protocol_whitelist": "file"})
    except PermissionError as error:
        raise UserError(f"{path} cannot be read: permission denied; give a file that you may read.") from error
    except (av.FFmpegError, ValueError) as error:
        raise UserError(
            f"{path} is not a media file that can be read, or its end is missing ({type(error).__name__}); "
            "expected a container such as mp4, mkv, webm, mpg, avi, wav or flac."
        ) from error
    with container:
        try:
            yield container
        except av.FFmpegError as error:
            if error.errno in (errno.EAGAIN, errno.ENOMEM):
                raise UserError(
                    f"{path} cannot be decoded: there is no memory or no thread left for it ({error.strerror}); "
                    "end other programs, or raise the limit of this one."
                ) from error
            raise UserError(f"{path} is damaged ({error.strerror}); give an undamaged recording.") from error


def check_file(path: Path) -> None:
    """Whether there is a recording to read.

    Raises:
        UserError: there is no file, or a folder, or nothing in it.
    """
    if path.is_dir():
        raise UserError(f"{path} is a folder; give the path of one video or audio file.")
    if path.is_symlink() and not path.exists():
        raise UserError(f"{path} is a link to a file that is not there; give the path of a video or audio file.")
    if not path.exists():
        raise UserError(f"There is no file {path}; give the path of a video or audio file.")
    if not path.is_file():
        raise UserError(f"{path} is not a regular file; give the path of a video or audio file.")
    if not path.stat().st_size:
        raise UserError(f"{path} is empty: it holds no samples; give a recording.")


def _video_stream(container: InputContainer) -> VideoStream | None:
    """The first video stream that is one: a cover picture is stored as a video of one frame."""
    cover = av.stream.Disposition.attached_pic
    streams = [stream for stream in container.streams.video if not stream.disposition & cover]
    return _decodable(container, streams)


def _audio_stream(container: InputContainer, index: int = 0) -> AudioStream | None:
    """One of the streams of sound that can be decoded."""
    streams = list(container.streams.audio)
    first = _decodable(container, streams)
    return _decoders(streams)[index] if index else first


def _decoders(streams: list[Stream]) -> list[Stream]:
    # The type says that there always is a context; a codec that FFmpeg does not know has none.
    return [stream for stream in streams if getattr(stream, "codec_context", None) is not None]


def _decodable(container: InputContainer, streams: list[Stream]) -> Stream | None:
    """The first stream for which there is a decoder; None of none.

    Raises:
        UserError: there is a decoder for none of some.
    """
    found = next(iter(_decoders(streams)), None)
    if streams and found is None:
        raise UserError(
            f"{container.name} holds {streams[0].type} in a format that cannot be decoded; convert it, to H.264 and AAC say"
        )
    return found


def probe(path: Path | str) -> Media:
    """Look at a file without decoding it.

    Raises:
        UserError: no such file, or not a media file.
    """
    with _opened(Path(path)) as container:
        video = _video_stream(container)
        audio = _audio_stream(container)
        return Media(
            seconds=(container.duration or 0) / av.time_base,
            width=video.width if video else 0,
            height=video.height if video else 0,
            fps=float(video.average_rate or 0) if video else 0.0,
            rate=audio.rate if audio else 0,
            channels=audio.channels if audio else 0,
        )


def _decoded(container: InputContainer, stream: Any, notes: list[str], name: str) -> Iterator[Any]:
    """Every frame that decodes; what does not is counted and noted."""
    broken = 0
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            break
        except av.FFmpegError:
            broken += 1
            break
        try:
            yield from packet.decode()
        except av.FFmpegError:
            broken += 1
    if broken:
        notes.append(f"{name}: {broken} packet(s) of the {stream.type} stream are damaged and were left out")


def _start(container: InputContainer) -> float:
    return (container.start_time or 0) / av.time_base


def _parts(path: Path) -> list[float]:
    """Where recordings put behind each other begin, of every part but the first the timestamp that its place is counted from.

    Sound and picture of a part seldom end together: the next begins, both at once, when both have ended. Of a file whose
    streams differ in how often their timestamps begin anew, none: then each stream goes on where it ended.
    """
    spans: dict[int, list[list[float]]] = {}
    with _opened(path) as container:
        first = _start(container)
        streams = [stream for stream in (_video_stream(container), _audio_stream(container)) if stream is not None]
        try:
            for packet in container.demux(streams):
                if packet.pts is None or packet.time_base is None:
                    continue
                time = float(packet.pts * packet.time_base)
                parts = spans.setdefault(packet.stream.index, [])
                if not parts or time < parts[-1][1] - JUMP:
                    parts.append([time, time])
                parts[-1][0] = min(parts[-1][0], time)
                parts[-1][1] = max(parts[-1][1], time + float((packet.duration or 0) * packet.time_base))
        except av.FFmpegError:
            pass  # what is damaged is noted where it is decoded
    if len({len(parts) for parts in spans.values()}) != 1:
        return []
    starts = [first]
    for before, after in pairwise(zip(*spans.values(), strict=True)):
        end = max(stop for _, stop in before) - starts[-1]
        starts.append(min(start for start, _ in after) - end)
    return starts[1:]


def _note_end(container: InputContainer, end: float, notes: list[str], what: str) -> None:
    if container.duration and end < container.duration / av.time_base - MISSING_END:
        notes.append(
            f"the {what} ends at {end:.2f} s, the file says {container.duration / av.time_base:.2f} s; "
            "what is there was used"
        )


@dataclass
class VideoFrames:
    """The pictures of a video at 25 a second: picture i is the one nearest in time to i/25 s.

    Iterating decodes; one picture is in memory at a time, and every iteration starts anew. Before the first
    frame of a video stream that starts late, pictures are black. They are turned, mirrored and stretched to square pixels as the
    container asks. Where the resolution changes within the stream, so does theirs.

    Args:
        path: of the video.
        fps: frames a second to give.
        threads: that decode; 0 for one a core.

    Attributes:
        notes: filled while iterating: what was damaged or missing, in sentences.
    """

    path: Path
    fps: float = VIDEO_FPS
    threads: int = 0
    notes: list[str] = field(default_factory=list)

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yields (height, width, 3) uint8 RGB.

        Raises:
            UserError: no such file, not a media file, no video in it.
        """
        self.notes.clear()
        with _opened(self.path) as container:
            stream = _video_stream(container)
            if stream is None:
                raise UserError(f"{self.path} has no video stream; give a video in which the talkers' faces are seen.")
            yield from self._resampled(container, stream)

    def _resampled(self, container: InputContainer, stream: VideoStream) -> Iterator[np.ndarray]:
        stream.thread_type = "AUTO"
        stream.thread_count = self.threads
        start, usual = _start(container), 1 / float(stream.average_rate or self.fps)
        index, held, held_time, end = 0, None, 0.0, 0.0
        begins: Iterator[float] | None = None
        for frame in _decoded(container, stream, self.notes, self.path.name):
            time = (frame.time - start) if frame.time is not None else held_time + usual
            if time < held_time - JUMP:
                begins = begins or iter(_parts(self.path))
                begin = next(begins, start + time - end)
                time, start = time + start - begin, begin
            # Nearest in time, except where a picture stands for long: it stands until the next one comes.
            stood = time - held_time
            until = time - (1 if held is None else 0.5 if stood > STANDS else 0.5 * stood * self.fps) / self.fps
            image = _rgb(frame, _aspect(stream))
            while index / self.fps < until:
                yield np.zeros_like(image) if held is None else held
                index += 1
            held, held_time = image, time
            end = time + (float(frame.duration * frame.time_base) if frame.duration and frame.time_base else usual)
        while held is not None and index + 0.5 < end * self.fps:
            yield held
            index += 1
        _note_end(container, end, self.notes, "video")


def _aspect(stream: VideoStream) -> Fraction:
    """Width of a pixel over its height; 1 where that is not said or not believed."""
    ratio = stream.sample_aspect_ratio
    return ratio if ratio and Fraction(1, STRETCHED) <= ratio <= STRETCHED else Fraction(1)


def _rgb(frame: VideoFrame, aspect: Fraction = Fraction(1)) -> np.ndarray:
    image: np.ndarray = frame.to_ndarray(format="rgb24")
    height, width = image.shape[:2]
    size = round(width * max(aspect, 1)), round(height / min(aspect, 1))
    if size != (width, height):
        image = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
    matrix: Any = frame.side_data.get("DISPLAYMATRIX")
    if matrix is not None:  # x of the file goes a to the right and b down, y goes c to the right and d down
        a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32)[:5].tolist()
        if max(abs(b), abs(c)) > max(abs(a), abs(d)):
            image, a, d = image.transpose(1, 0, 2), c, b
        image = image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]
    return np.ascontiguousarray(image)  # rows come padded, and dlib finds no face, or another, in a padded array


def _alike(frames: Iterator[AudioFrame], layout: str, rate: int) -> Iterator[AudioFrame]:
    """Frames as planes of float32 with one layout and rate, whatever each of them has."""
    convert, known = None, None
    for frame in frames:
        kind = (frame.format.name, frame.layout.name, frame.sample_rate)
        if kind != known:
            if convert is not None:
                yield from convert.resample(None)
            convert, known = av.AudioResampler(format="fltp", layout=layout, rate=rate), kind
        assert convert is not None
        yield from convert.resample(frame)
    if convert is not None:
        yield from convert.resample(None)


class SoundTrack:
    """A sound track of a file on the file's timeline, in blocks; few are in memory at a time.

    The first block starts at the container's start, and where nothing was recorded there is silence. Of several tracks it is
    the first that is not silent.

    Args:
        path: of the file.

    Attributes:
        rate: the track's own, in Hz.
        channels: of every block.
        notes: filled while iterating: what was damaged or missing, in sentences.
        told: which of several tracks it is, in sentences.

    Raises:
        UserError: no such file, not a media file, no audio in it.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.notes: list[str] = []
        self.told: list[str] = []
        with _opened(self.path) as container:
            stream = _audio_stream(container)
            if stream is None:
                raise UserError(f"{path} has no sound, so there is nothing to separate; give a recording with audio.")
            count = len(_decoders(list(container.streams.audio)))
        self._index = next((i for i in range(count) if not self._silent(i)), 0) if count > 1 else 0
        if count > 1:
            before = {0: "", 1: ", as the first is silent"}.get(self._index, f", as the first {self._index} are silent")
            self.told.append(
                f"{self.path.name} holds {count} sound tracks; number {self._index + 1} was taken{before}. "
                "For another, make a file of it alone."
            )
        with _opened(self.path) as container:
            stream = _audio_stream(container, self._index)
            assert stream is not None
            self.rate, self.channels, self._layout = stream.rate, stream.channels, stream.layout.name
        if not self.rate or not self.channels:
            raise UserError(f"The audio stream of {path} says neither rate nor channels; convert it, to WAV say.")

    def _silent(self, index: int) -> bool:
        with _opened(self.path) as container:
            stream = _audio_stream(container, index)
            assert stream is not None
            frames = _decoded(container, stream, [], self.path.name)
            blocks = (block.to_ndarray() for block in _alike(frames, stream.layout.name, stream.rate))
            return all(float(np.abs(block).max(initial=0)) <= SILENT for block in blocks)

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yields (channels, n) float32.

        Raises:
            UserError: no sample decodes.
        """
        self.notes.clear()
        done = 0
        begins: Iterator[float] | None = None
        path, rate, notes = self.path, self.rate, self.notes
        with _opened(path) as container:
            stream = _audio_stream(container, self._index)
            assert stream is not None
            start = _start(container)
            for block in _alike(_decoded(container, stream, notes, path.name), self._layout, rate):
                samples = block.to_ndarray()
                time = start + done / rate if block.time is None else block.time
                late = round((time - start) * rate) - done
                if done and late < -JUMP * rate:
                    notes.append(
                        f"{path.name}: timestamps begin anew at {done / rate:.2f} s, as where recordings were put behind "
                        "each other; what follows was put there"
                    )
                    begins = begins or iter(_parts(path))
                    start = next(begins, start + late / rate)
                    late = round((time - start) * rate) - done
                elif done and abs(late) <= RESYNC * rate:
                    late = 0
                while late > 0:
                    gap = np.zeros((samples.shape[0], min(late, rate)), np.float32)
                    late -= gap.shape[1]
                    done += gap.shape[1]
                    yield gap
                samples = samples[:, -late:]
                if samples.shape[1]:
                    done += samples.shape[1]
                    yield samples
            if not done:
                raise UserError(
                    f"The audio stream of {path} holds no samples that decode; give an undamaged recording."
                )
            _note_end(container, done / rate, notes, "sound")


def read_track(path: Path | str) -> tuple[np.ndarray, int, list[str]]:
    """A sound track of a file, whole: see `SoundTrack`.

    Returns:
        samples (channels, n) float32 at the track's own rate; the rate in Hz; notes on what was damaged or missing.

    Raises:
        UserError: no such file, not a media file, no audio in it.
    """
    track = SoundTrack(path)
    return np.concatenate(list(track), axis=1), track.rate, track.notes
