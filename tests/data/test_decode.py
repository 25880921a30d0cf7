"""Every decoder gives exactly the frames asked for, or one named error, on files of every kind."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from video_files import KINDS, sequential, write

from vidssl.data import _pyav, decode
from vidssl.data.decode import VideoError, look, open_video
from vidssl.types import UserError

Files = Callable[[str], Path]
Truth = Callable[[Path], list[np.ndarray]]


@pytest.mark.parametrize("kind", KINDS)
def test_every_frame_equals_the_sequential_one(kind: str, kinds: Files, truth: Truth) -> None:
    path = kinds(kind)
    frames = truth(path)
    info = look(path)
    assert info.frames == len(frames) and (info.height, info.width) == frames[0].shape[:2]
    assert len(frames) > 10 and not np.array_equal(frames[3], frames[4]), "the file must tell frames apart"
    order = list(range(info.frames))
    random.Random(0).shuffle(order)
    with open_video(path, info=info) as video:
        for i in order:  # one by one, in an order that seeks back and forth
            assert np.array_equal(video.get([i])[0].transpose(1, 2, 0), frames[i]), i
        for start in order[:6]:  # clips with strides, and out of order
            asked = [*range(start, info.frames, 3), start, 0]
            assert np.array_equal(video.get(asked).transpose(0, 2, 3, 1), [frames[i] for i in asked])
        streamed = list(video.stream())
    assert len(streamed) == len(frames) and all(np.array_equal(a.transpose(1, 2, 0), b) for a, b in zip(streamed, frames))


@pytest.mark.parametrize("kind", ["h264", "variable", "fragmented", "h265", "open-gop", "av1", "mpeg4-mp4"])
def test_seeking_in_mp4_needs_no_decoding_from_the_start(kind: str, kinds: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    info = look(kinds(kind))
    monkeypatch.delattr(_pyav.PyAV, "_from_start")
    for start in (info.frames - 5, 3, 14):
        with open_video(info.path, info=info) as video:
            assert len(video.get([start, start + 4])) == 2


def test_damage_before_a_key_frame_does_not_matter(kinds: Files, truth: Truth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames after this key frame mention some before it, so decoding begins at the one before, whose followers are damaged."""
    info, data = look(kinds("open-gop")), bytearray(kinds("open-gop").read_bytes())
    with av.open(str(kinds("open-gop"))) as container:
        packets = {p.pts: (p.pos, p.size) for p in container.demux(video=0) if p.size}
    place, size = packets[info.pts[info.keys[-2] + 2]]
    data[place + 20 : place + size] = bytes(size - 20)
    path = tmp_path / "damaged.mp4"
    path.write_bytes(data)
    monkeypatch.delattr(_pyav.PyAV, "_from_start")
    with open_video(path) as video:
        for index in range(info.keys[-1], info.frames):
            assert np.array_equal(video.get([index])[0].transpose(1, 2, 0), truth(kinds("open-gop"))[index])
        with pytest.raises(AttributeError, match="_from_start"):
            video.get([info.keys[-1] - 2])


def test_the_kinds_are_what_they_say(kinds: Files) -> None:
    gaps = np.diff(look(kinds("variable")).seconds)
    assert gaps.max() > 5 * gaps.min()
    assert look(kinds("edit-list")).frames == 54 - 17
    assert look(kinds("rotated")).rotation == 90 and look(kinds("rotated")).width == 48
    assert look(kinds("h264")).seekable and list(look(kinds("h264")).keys) == [0, 12, 24, 36]
    assert look(kinds("h264")).rate == pytest.approx(10)


def test_sizes_and_channels(kinds: Files) -> None:
    with open_video(kinds("vp9-odd")) as video:
        assert video.get([0, 5]).shape == (2, 3, 51, 67)
        assert video.get([0, 5], size=32).shape == (2, 3, 32, 32)
        assert video.get([0], size=128, channels=1).shape == (1, 1, 128, 128)
        with pytest.raises(UserError, match="channel"):
            video.get([0], channels=2)
        for wrong in ([-1], [20], []):
            with pytest.raises(VideoError, match="has frames 0 to 19"):
                video.get(wrong)


def test_resize_keeps_the_middle_and_the_mean(kinds: Files) -> None:
    with open_video(kinds("h264")) as video:
        whole, small = video.get([7])[0], video.get([7], size=24)[0]
    errors = [whole[:, :, left : left + 48].reshape(3, 24, 2, 24, 2).mean((2, 4)) - small for left in (7, 8, 9)]
    assert np.argmin([np.abs(error).mean() for error in errors]) == 1, "a pixel to the left or right fits worse"
    assert np.abs(errors[1].mean((1, 2))).max() < 1


@pytest.mark.parametrize("kind", ["h264", "mpeg4-mp4"])
def test_frames_made_from_a_damaged_one_are_refused_up_to_the_next_key_frame(kind: str, kinds: Files, tmp_path: Path) -> None:
    info, frames, data = look(kinds(kind)), sequential(kinds(kind)), bytearray(kinds(kind).read_bytes())
    with av.open(str(kinds(kind))) as container:
        packets = {p.pts: (p.pos, p.size) for p in container.demux(video=0) if p.size}
    first, then = info.keys[1:3]
    place, size = packets[info.pts[first]]
    data[place + size // 2 : place + size // 2 + 200] = bytes(200)
    path = tmp_path / f"damaged{kinds(kind).suffix}"
    path.write_bytes(data)
    with open_video(path) as video:
        for index in (0, 5, first - 4, then + 1, then + 5):
            assert np.array_equal(video.get([index])[0].transpose(1, 2, 0), frames[index])
        for index in (first, first + 1, first + 5, then - 3):
            with pytest.raises(VideoError, match=path.name):
                video.get([index])
        with pytest.raises(VideoError, match=path.name):
            list(video.stream())


def test_bad_files_are_one_named_error(tmp_path: Path, kinds: Files) -> None:
    good = kinds("h264").read_bytes()
    cases = {"empty.mp4": b"", "noise.mp4": random.Random(0).randbytes(5000), "head.mp4": good[:400], "text.mp4": b"hello"}
    for name, content in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(VideoError, match=name):
            look(tmp_path / name)
    with pytest.raises(VideoError, match="no file"):
        look(tmp_path / "absent.mp4")
    with pytest.raises(VideoError, match="no file"):
        look(tmp_path)
    with pytest.raises(UserError, match="pyav, decord, torchcodec"):
        open_video(kinds("h264"), decoder="opencv")


def test_corrupt_frames_are_refused_and_others_are_right(tmp_path: Path, kinds: Files, truth: Truth) -> None:
    good = kinds("h264")
    content = bytearray(good.read_bytes())
    rng = random.Random(1)
    for _ in range(40):  # in the pictures of the second half; the index of the file lies behind them
        content[rng.randrange(len(content) // 2, len(content) * 9 // 10)] ^= 0xFF
    bad = tmp_path / "flipped.mp4"
    bad.write_bytes(content)
    info, frames, refused = look(bad), truth(good), 0
    with open_video(bad, info=info) as video:
        for i in range(info.frames):
            try:
                made = video.get([i])[0].transpose(1, 2, 0)
            except VideoError as error:
                refused += 1
                assert "flipped.mp4" in str(error)
            else:
                assert i >= 12 or np.array_equal(made, frames[i])
        with pytest.raises(VideoError):
            list(video.stream())
    assert refused


def test_caps_hold_before_memory_is_taken(kinds: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    path = kinds("h264")
    info = look(path)
    monkeypatch.setattr(decode, "MAX_BYTES", 64 * 48 * 3 * 5)
    with open_video(path, info=info) as video:
        assert len(video.get([0, 1, 2, 3, 4])) == 5
        with pytest.raises(VideoError, match="at most"):
            video.get([0, 1, 2, 3, 4, 5])
    for cap, value, says in (("MAX_PIXELS", 100, "64 x 48"), ("MAX_FRAMES", 9, "at most 9 frames"), ("MAX_SECONDS", -1.0, "longer than")):
        with monkeypatch.context() as patch:
            patch.setattr(_pyav, cap, value)
            with pytest.raises(VideoError, match=says):
                look(path)


def test_a_pass_over_a_file_has_a_cap_on_each_frame(kinds: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    info, now = look(kinds("h264")), [0.0]
    monkeypatch.setattr(_pyav.time, "monotonic", lambda: now[0])
    with open_video(info.path, info=info) as video:
        for count, _ in enumerate(video.stream(), 1):
            now[0] += 0.9 * decode.MAX_SECONDS  # a caller that takes its time
        assert count == info.frames
    with open_video(info.path, info=info) as video:
        stream = video.stream()
        next(stream)
        monkeypatch.setattr(_pyav, "MAX_SECONDS", -1.0)
        with pytest.raises(VideoError, match="longer than"):
            list(stream)


@pytest.mark.parametrize(("name", "text"), [
    ("list.m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:5,\n{other}\n#EXT-X-ENDLIST\n"),
    ("list.mp4", "ffconcat version 1.0\nfile '{other.name}'\n"),
])  # fmt: skip
def test_a_text_that_names_another_file_does_not_show_it(name: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(text.format(other=write(tmp_path, "ts")))
    with av.open(f"file:{path}") as container:
        assert len(list(container.decode(video=0))) == 54, "left to itself, the library does"
    with pytest.raises(VideoError, match=name):
        look(path)


@pytest.mark.parametrize("decoder", ["decord", "torchcodec"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore:decord")
def test_other_decoders_are_right_or_refuse(decoder: str, kind: str, kinds: Files, truth: Truth) -> None:
    pytest.importorskip(decoder)
    path = kinds(kind)
    try:
        with open_video(path, decoder) as video:
            frames = truth(path)
            for i in range(0, video.info.frames, 5):
                made = video.get([i])[0].transpose(1, 2, 0).astype(int)
                distances = [np.abs(made - frame).mean() for frame in frames]
                assert int(np.argmin(distances)) == i and distances[i] < 3
            assert video.get([3, 1], size=16, channels=1).shape == (2, 1, 16, 16)
    except VideoError as error:
        assert kind not in ("h264", "dash"), error
        assert path.name in str(error) and "pyav" in str(error)


def test_decord_warns(kinds: Files) -> None:
    pytest.importorskip("decord")
    with pytest.warns(UserWarning, match="decord"):
        open_video(kinds("h264"), "decord").close()


@pytest.mark.data
def test_odd_files_give_right_frames_or_a_named_error(odd: Path, truth: Truth) -> None:
    refused = set()
    for path in sorted(odd.iterdir()):
        begin = time.monotonic()
        try:
            info = look(path)
            frames = _until_failure(truth, path)
            with open_video(path, info=info) as video:
                for i in random.Random(0).sample(range(len(frames)), min(6, len(frames))):
                    made = video.get([i])[0].transpose(1, 2, 0)
                    assert np.array_equal(made, frames[i]), (path.name, i)
        except VideoError as error:
            refused.add(path.name)
            assert path.name in str(error) and "\n" not in str(error)
        assert time.monotonic() - begin < 30, path.name
    assert {"exo_full_blocks.mkv", "ft_fixture-isom.mp4", "tc_nasa_13013.mp4.audio.mp3"} <= refused
    assert len(refused) <= 8, refused


def _until_failure(truth: Truth, path: Path) -> list[np.ndarray]:
    import av

    frames: list[np.ndarray] = []
    with av.open(f"file:{path}") as container:
        try:
            for frame in container.decode(container.streams.best("video")):
                frames.append(np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90)))
        except av.error.FFmpegError:
            pass
    return frames
