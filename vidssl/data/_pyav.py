"""PyAV: looks at files and decodes them exactly. The default, and what other decoders are checked against.

Where a seek misses, the file is decoded from its start; where that misses too, a named error. A damaged frame is refused, and
so are those made from it up to the next key frame: every library hands them out silently.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from vidssl.data._square import square
from vidssl.data.decode import MAX_FRAMES, MAX_PIXELS, MAX_SECONDS, Decoder, VideoError, VideoInfo, fingerprint

FAILURES = (av.error.FFmpegError, UnicodeDecodeError, ValueError, IndexError, OSError, OverflowError, MemoryError)
"""What PyAV raises on bad files; a file of HMDB makes it raise UnicodeDecodeError, none of its own errors."""
NO_SEEK = {"h263", "h263p"}
"""Codecs whose pictures after a seek differ from those of sequential decoding, measured on a phone's 3gp file."""
NO_TIMES = {("avi", "h264"), ("avi", "hevc")}
"""Containers that do not store when a frame is shown, with codecs whose frames are stored in another order."""
PROBE = 16
"""Frames decoded at a look, to see that timestamps in the file are those of its frames."""
MAY_SKIP = {"h264", "hevc"}
"""Codecs whose pictures that nothing refers to can be left undecoded without changing any other."""
HEADED = {"mov,mp4,m4a,3gp,3g2,mj2"}
"""Containers whose header alone tells when each frame is shown and how far frames are stored out of order."""

CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegvideo,mpegts,flv,live_flv,kux,asf,ogg,gif,yuv4mpegpipe,mxf,h264,hevc,av1,obu,ivf,m4v,h263,h261,vc1,dv,rm,nut,"
    "mp3,aac,wav,flac"
)
"""What a file may be. FFmpeg also reads texts that name other files or addresses, whatever a file is called (hls, concat, sdp): such a text would show the reader's own files."""
ALONE = {"format_whitelist": CONTAINERS, "protocol_whitelist": "file", "enable_drefs": "0"}
"""How FFmpeg is kept to the one file: nothing but files is opened, and what a QuickTime file refers to is not."""


@contextmanager
def _named(path: str, what: str) -> Iterator[None]:
    """Turn PyAV's errors into the one that names the file."""
    try:
        yield
    except VideoError:
        raise
    except FAILURES as error:
        raise VideoError(f"{path} {what} ({type(error).__name__}: {' '.join(str(error).split())[:120]})") from error


def _open(path: str, info: VideoInfo | None = None) -> tuple[av.container.InputContainer, av.video.stream.VideoStream]:
    """The stream to decode; with an earlier look at the file, nothing is decoded to find out what the look told."""
    known = info is not None and info.seekable and info.container in HEADED
    # a decoder that is not allowed spares the frames that FFmpeg decodes at opening and throws away; ours is another
    options = {**ALONE, "codec_whitelist": "none"} if known else dict(ALONE)
    with _named(path, "cannot be opened as video"):
        # the prefix keeps names with a dash or a colon from being read as options or protocols
        container = av.open(f"file:{path}", timeout=MAX_SECONDS, container_options=options)
        stream = container.streams[info.stream] if info is not None and known else container.streams.best("video")
        if stream is None or stream.type != "video" or stream.disposition & av.stream.Disposition.attached_pic:
            container.close()
            raise VideoError(f"{path} has no video stream")
        coder = stream.codec_context
        if coder is None:
            container.close()
            raise VideoError(f"{path} has a video stream of no known kind")
        if known and not coder.width * coder.height:  # of mpeg4, FFmpeg leaves the size to the decoder
            container.close()
            return _open(path, replace(info, seekable=False))
        if not 0 < coder.width * coder.height <= MAX_PIXELS:
            container.close()
            raise VideoError(f"{path} has frames of {coder.width} x {coder.height}; they need 1 to {MAX_PIXELS} pixels")
        coder.options = {"max_pixels": str(MAX_PIXELS)}  # for frames that turn out larger than the header says
        if info is not None:
            coder.options |= {"err_detect": "explode"}  # what is made from a damaged frame bears no flag
        coder.thread_type, coder.thread_count = "NONE", 1  # workers are what runs side by side
    return container, stream


class _Clock:
    """Raises when a file takes longer than the cap."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.start()

    def start(self) -> None:
        """From zero."""
        self.end = time.monotonic() + MAX_SECONDS

    def check(self) -> None:
        if time.monotonic() > self.end:
            raise VideoError(f"{self.path} takes longer than {MAX_SECONDS:.0f} s to decode: cut it into shorter files")


def _frames(container: av.container.InputContainer, stream: av.video.stream.VideoStream, clock: _Clock, whole: bool = False) -> Iterator[av.VideoFrame]:
    """In sequence; the clock is asked at each packet, since there may be any number of them without a frame. If `whole`, damaged packets are refused."""
    for packet in container.demux(stream):
        clock.check()
        if whole and packet.is_corrupt:
            raise VideoError(f"{clock.path} has a damaged packet")
        yield from packet.decode()


def look(path: Path) -> VideoInfo:
    """See :func:`vidssl.data.decode.look`."""
    path = path.absolute()
    if not path.is_file():
        raise VideoError(f"there is no file {str(path)!r}")
    packets, kind = _packets(path)
    times = [pts for pts, _ in packets]
    seekable = bool(times) and None not in times and len(set(times)) == len(times) and any(key for _, key in packets)
    seekable = seekable and kind not in NO_TIMES and kind[1] not in NO_SEEK
    found, broken = _decoded(path, PROBE if seekable else MAX_FRAMES)
    probed = found.frames if broken else min(PROBE, len(times))  # of a frame that is damaged, whoever asks for it is told
    if seekable and list(found.pts) != sorted(times)[:probed]:  # type: ignore[type-var]
        found, seekable = _decoded(path, MAX_FRAMES)[0], False
    if seekable:
        ordered = sorted(packets)  # type: ignore[type-var]
        found.pts = np.array([pts for pts, _ in ordered], np.int64)
        found.keys = np.flatnonzero([key for _, key in ordered])
        found.seekable = True
    return found


def _packets(path: Path) -> tuple[list[tuple[int | None, bool]], tuple[str, str]]:
    """Each packet's timestamp and whether it is a key frame, and (container, codec); nothing is decoded."""
    container, stream = _open(str(path))
    clock, packets = _Clock(str(path)), []
    with container, _named(str(path), "breaks off"):
        for packet in container.demux(stream):
            if packet.size and not packet.is_discard:
                packets.append((packet.pts, packet.is_keyframe))
            if len(packets) > MAX_FRAMES:
                raise VideoError(f"a video has at most {MAX_FRAMES} frames; {path} has more: cut it into shorter files")
            clock.check()
        return packets, (container.format.name, stream.codec_context.name)


def _decoded(path: Path, count: int) -> tuple[VideoInfo, bool]:
    """What decoding the first `count` frames tells, and whether it broke off before; frames whose timestamps do not rise are counted instead."""
    container, stream = _open(str(path))
    clock, times, first, broken = _Clock(str(path)), [], None, False
    with container:
        with _named(str(path), "has no decodable frame"):
            try:
                for frame in _frames(container, stream, clock):
                    first = first or (frame.width, frame.height, round(frame.rotation / 90) * 90 % 360)
                    times.append(frame.pts if frame.pts is not None else len(times))
                    if len(times) >= count:
                        break
            except FAILURES as error:
                if first is None or isinstance(error, VideoError):
                    raise
                broken = True  # it has the frames before
        base = float(stream.time_base) if stream.time_base else 1.0
        rate = float(stream.average_rate or 0)
        name, index = container.format.name, stream.index
    if first is None:
        raise VideoError(f"{path} has no decodable frame")
    if any(b <= a for a, b in zip(times, times[1:])):
        times, base = list(range(len(times))), 1 / rate if rate > 0 else 1.0
    width, height, turn = first
    width, height = (height, width) if turn % 180 else (width, height)
    pts, keys = np.array(times, np.int64), np.zeros(1, np.int64)
    return VideoInfo(str(path), fingerprint(path), pts, base, keys, False, width, height, turn, index, name), broken


class PyAV(Decoder):
    """Exact by timestamp."""

    def __init__(self, info: VideoInfo) -> None:
        self.info = info
        self.container, self.video = _open(info.path, info)
        self.skips = self.video.codec_context.name in MAY_SKIP
        self.scaler = VideoReformatter()  # one for all frames: each frame's own would be set up anew

    def get(self, indices: list[int], size: int | None = None, channels: int = 3) -> np.ndarray:
        """See :class:`Decoder`."""
        self.check(indices, size, channels)
        wanted = sorted(set(indices))
        with _named(self.info.path, f"does not decode from frame {wanted[0]} to {wanted[-1]}"):
            frames = self._sought(wanted, size, channels) if self.info.seekable else None
            if frames is None:
                frames = {}
                for index, frame in self._from_start(wanted[-1]):
                    if index in set(wanted):
                        frames[index] = self._pixels(frame, size, channels)
            missing = sorted(set(wanted) - set(frames))
            if missing:
                raise VideoError(f"{self.info.path} does not give frame {missing[0]}, although it announces {self.info.frames}")
            return np.stack([frames[index] for index in indices])

    def stream(self, size: int | None = None, channels: int = 3) -> Iterator[np.ndarray]:
        """See :class:`Decoder`; one pass, without a seek."""
        count = 0
        with _named(self.info.path, "does not decode to its end"):
            for index, frame in self._from_start(self.info.frames - 1, together=False):
                if index != count:
                    break
                yield self._pixels(frame, size, channels)
                count += 1
        if count != self.info.frames:
            raise VideoError(f"{self.info.path} does not give frame {count}, although it announces {self.info.frames}")

    def close(self) -> None:
        """Let go of the file."""
        self.container.close()

    def _sought(self, wanted: list[int], size: int | None, channels: int) -> dict[int, np.ndarray] | None:
        """By timestamp from the key frame before, or, where that one's followers mention frames before it, from the one before that;
        None when the file does not give every frame that way."""
        info, clock = self.info, _Clock(self.info.path)
        at = max(0, bisect_right(info.keys, wanted[0]) - 1)
        key, last = int(info.pts[info.keys[at]]), int(info.pts[wanted[-1]])
        place = {int(info.pts[i]): i for i in wanted}
        for begin in info.keys[[at, at - 1] if at else [at]]:
            frames: dict[int, np.ndarray] = {}
            before = None
            try:
                for frame in self._decode(int(info.pts[begin]), key, place, clock):
                    if frame.is_corrupt or frame.pts is None or not (frame.pts > before if before is not None else frame.key_frame and frame.pts == key):
                        break  # damage to what others may be made from, a key frame that needs its predecessors, or a seek that fell too late
                    before = frame.pts
                    if before in place:
                        frames[place[before]] = self._pixels(frame, size, channels)
                    if len(frames) < len(wanted) and before >= last:
                        break
                else:
                    if len(frames) == len(wanted):
                        return frames
            except av.error.FFmpegError:
                pass
        return None

    def _decode(self, begin: int, key: int, place: dict[int, int], clock: _Clock) -> Iterator[av.VideoFrame]:
        """Frames from the one at `key` on, decoded from the one at `begin` on, leaving out those that are neither wanted nor needed by others."""
        coder, left, warm = self.video.codec_context, len(place), False
        self.container.seek(begin, stream=self.video, backward=True)
        for packet in self.container.demux(self.video):
            clock.check()
            if packet.pts is not None and packet.pts < begin:
                continue  # stored after a key frame and shown before it: it may need frames that the seek left out
            warm, wanted = warm or packet.pts == key, packet.pts in place
            if warm and packet.is_corrupt:
                return  # so says the container
            if self.skips and packet.size:  # where decoding began earlier there was an error, which a frame that is left out would hide
                coder.skip_frame = "DEFAULT" if wanted or begin != key else "NONREF"
            try:
                yield from (frame for frame in packet.decode() if frame.pts is None or frame.pts >= key)
            except av.error.FFmpegError:
                if warm:
                    raise
            left -= wanted
            if not left:  # what follows in the file changes none of them: the decoder only has to hand out what it has
                yield from coder.decode()
                return

    def _from_start(self, last: int, together: bool = True) -> Iterator[tuple[int, av.VideoFrame]]:
        """Frames with their indices up to `last`, decoded in sequence; the cap in seconds is of all of them `together`, or of each."""
        self.container.close()
        self.container, self.video = _open(self.info.path, self.info)
        clock, place = _Clock(self.info.path), {int(pts): i for i, pts in enumerate(self.info.pts[: last + 1])}
        for count, frame in enumerate(_frames(self.container, self.video, clock, whole=True)):
            index = place.get(frame.pts, -1) if self.info.seekable else count
            if index >= 0:
                yield index, frame
            if index >= last:
                return
            if not together:
                clock.start()

    def _pixels(self, frame: av.VideoFrame, size: int | None, channels: int) -> np.ndarray:
        """A frame as uint8 ``[channels, H, W]``, upright."""
        if frame.is_corrupt:
            raise VideoError(f"{self.info.path}: the codec flags a frame as corrupt")
        turned = self.info.rotation % 180 != 0
        if size is None and (frame.height, frame.width)[:: -1 if turned else 1] != (self.info.height, self.info.width):
            raise VideoError(f"{self.info.path}: frames change size on the way; ask for a size")
        return square(frame, size, channels, self.scaler, self.info.rotation)


def decode_only(info: VideoInfo) -> int:
    """Decode every frame in sequence and convert none: what no reader of clips on this machine can be quicker than, a frame."""
    container, stream = _open(info.path, info)
    with container, _named(info.path, "does not decode to its end"):
        return sum(1 for _ in container.decode(stream))
