"""Prepared videos hold the frames of the files; preparing goes on where it stopped and loses count of nothing."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import fsspec
import numpy as np
import pytest

from vidssl import cli
from vidssl.data.config import load_data
from vidssl.data.decode import VideoError, VideoInfo, open_video
from vidssl.data.module import VideoData
from vidssl.data.prepare import Counts, Unit, prepare
from vidssl.data.shards import ShardSource, marks, signed
from vidssl.types import UserError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def folder(tmp_path: Path, kinds: Callable[[str], Path]) -> Path:
    """Three videos and one that is none."""
    made = tmp_path / "videos"
    (made / "deep").mkdir(parents=True)
    for kind, name in (("h264", "a.mp4"), ("avi", "deep/a.avi"), ("rotated", "c.mp4")):
        shutil.copy(kinds(kind), made / name)
    (made / "bad.mp4").write_bytes(b"no video")
    return made


def counted(counts: Counts) -> tuple[int, int, int, int]:
    return counts.found, counts.written, counts.kept, counts.refused


def test_frames_are_those_of_the_files(folder: Path, tmp_path: Path) -> None:
    counts = prepare(folder, tmp_path / "out", 24)
    assert counted(counts) == (4, 3, 0, 1) and counts.frames == 40 + 50 + 20
    source = pickle.loads(pickle.dumps(ShardSource(tmp_path / "out", 24, 3)))
    assert source.names == ["a.mp4", "c.mp4", "deep/a.avi"] and "bad.mp4" in source.refused[0].reason and source.name == "videos"
    for number, name in enumerate(source.names):
        with open_video(folder / name) as video:
            assert np.array_equal(video.info.pts, source.infos[number].pts)
            for frames in (np.arange(3, 15), np.arange(0, 19, 3), np.array([0, 0, 7, 5]), np.array([19])):
                out = np.empty((len(frames), 3, 24, 24), np.uint8)
                source.read(number, frames, out)
                assert np.array_equal(out, video.get(frames.tolist(), 24))


def test_it_goes_on_where_it_stopped(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    real, made = Unit._write, []

    def breaking(unit: Unit, info: VideoInfo) -> dict:
        if len(made) == 2:
            raise OSError(28, "No space left on device")
        note = real(unit, info)
        made.append(note["shard"])
        return note

    with monkeypatch.context() as patch:
        patch.setattr(Unit, "_write", breaking)
        with pytest.raises(OSError):
            prepare(folder, out, 24, 1)
    assert not (out / "index.json").exists() and len(list((out / "shards").iterdir())) == 2
    assert counted(prepare(folder, out, 24, 1)) == (4, 1, 2, 1)
    before = (out / "shards" / made[0]).stat().st_mtime_ns
    assert counted(prepare(folder, out, 24, 1)) == (4, 0, 3, 1)
    assert (out / "shards" / made[0]).stat().st_mtime_ns == before
    os.utime(folder / "a.mp4", (1, 1))  # changed: prepared anew
    shutil.copy(folder / "c.mp4", folder / "d.mp4")
    assert counted(prepare(folder, out, 24, 1)) == (5, 2, 2, 1)


def test_a_full_disk_leaves_no_half_shard(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vidssl.data._pyav import PyAV

    stream = PyAV.stream

    def full(self: PyAV, *arguments: object) -> object:
        yield next(stream(self, *arguments))
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(PyAV, "stream", full)
    with pytest.raises(OSError):
        prepare(folder, tmp_path / "out", 24)
    assert not list((tmp_path / "out" / "shards").iterdir())


def test_a_video_that_fails_while_decoding_is_counted_as_refused(folder: Path, tmp_path: Path, kinds: Callable[[str], Path]) -> None:
    content = kinds("h264").read_bytes()
    index = content.rindex(b"moov")
    broken = bytearray(content)
    broken[index // 2 : index // 2 + 2000] = bytes(2000)
    (folder / "e.mp4").write_bytes(broken)
    counts = prepare(folder, tmp_path / "out", 24)
    assert counted(counts) == (5, 3, 0, 2)
    reasons = json.loads((tmp_path / "out" / "refused.json").read_text())
    assert {Path(entry["path"]).name for entry in reasons} == {"bad.mp4", "e.mp4"}
    with pytest.raises(UserError, match="more than the share"):
        prepare(folder, tmp_path / "out2", 24, max_bad=0.3)
    assert not (tmp_path / "out2" / "index.json").exists()


def test_what_is_refused(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepare(folder, out, 24)
    kept = (out / "index.json").read_bytes()
    for call, says in (
        (lambda: prepare(folder, out, 32), "something else"),
        (lambda: prepare(folder, folder, 24), "something else"),
        (lambda: prepare(folder, tmp_path / "new", 2), "size"),
        (lambda: prepare(tmp_path / "absent", tmp_path / "new", 24), "there is no"),
        (lambda: ShardSource(out, 32, 3), "has size 24 and 3 channels"),
        (lambda: ShardSource(folder, 32, 3), "damaged"),
    ):
        with pytest.raises(UserError, match=says):
            call()
    assert (out / "index.json").read_bytes() == kept and not (tmp_path / "new").exists()
    shard = next((out / "shards").iterdir())
    shard.write_bytes(shard.read_bytes()[:-100])
    source = ShardSource(out, 24, 3)
    number = source.shards.index(shard.name)
    with pytest.raises(VideoError, match="cut short|does not hold"):
        source.read(number, np.arange(2), np.empty((2, 3, 24, 24), np.uint8))
    for harm, says in ((('"frames": ', '"frames": 1'), "checksum differs"), (("{", "["), "damaged"), (('"format": 3', '"format": 2'), "has format 2")):
        (out / "index.json").write_text(kept.decode().replace(*harm, 1))
        with pytest.raises(UserError, match=says):
            ShardSource(out, 24, 3)


def test_a_pixel_that_has_changed_is_noticed(folder: Path, tmp_path: Path) -> None:
    prepare(folder, tmp_path / "out", 9, 3)  # 243 bytes a frame are no whole number of words
    source = ShardSource(tmp_path / "out", 9, 3)
    shard = tmp_path / "out" / "shards" / source.shards[0]
    content = bytearray(shard.read_bytes())
    content[128 + 5 * 243 + 242] ^= 1
    shard.write_bytes(content)
    out = np.empty((4, 3, 9, 9), np.uint8)
    source.read(0, np.arange(6, 10), out)
    with pytest.raises(VideoError, match="has changed since it was written, at frames 2 to 5"):
        ShardSource(tmp_path / "out", 9, 3).read(0, np.arange(2, 6), out)


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_a_shard_that_is_another_of_the_same_size_is_noticed_and_made_anew(scheme: str, tmp_path: Path, kinds: Callable[[str], Path]) -> None:
    (tmp_path / "videos").mkdir()
    for kind, name in (("variable", "a.mp4"), ("h264", "b.mp4"), ("fragmented", "c.mp4")):
        shutil.copy(kinds(kind), tmp_path / "videos" / name)
    out = tmp_path / "out"
    prepare(tmp_path / "videos", out, 24)
    source = ShardSource(f"{scheme}{out}", 24, 3)
    first, third = (out / "shards" / source.shards[i] for i in (0, 2))
    kept, other = first.read_bytes(), third.read_bytes()
    assert len(kept) == len(other) and kept != other
    first.write_bytes(other)
    with pytest.raises(VideoError, match="is not the shard that index.json lists"):
        source.read(0, np.arange(2), np.empty((2, 3, 24, 24), np.uint8))
    assert counted(prepare(tmp_path / "videos", out, 24)) == (3, 1, 2, 0) and first.read_bytes() == kept


def test_a_shard_outside_its_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    prepare(folder, tmp_path / "out", 24)
    index = json.loads((tmp_path / "out" / "index.json").read_text())
    index["videos"][0]["shard"] = "../../videos/a.mp4"
    (tmp_path / "out" / "index.json").write_text(json.dumps(signed(index)))
    with pytest.raises(UserError, match="a.mp4' is not in its folder"):
        ShardSource(tmp_path / "out", 24, 3)


def test_a_name_that_is_no_text(tmp_path: Path, kinds: Callable[[str], Path], capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "videos").mkdir()
    name = os.fsdecode(b"a\xff.mp4")
    try:
        shutil.copy(kinds("h264"), tmp_path / "videos" / name)
    except OSError:
        pytest.skip("this file system has names of text only")
    (tmp_path / "videos" / os.fsdecode(b"bad\xff.mp4")).write_bytes(b"no video")
    assert cli.main(["prepare", str(tmp_path / "videos"), str(tmp_path / "out"), "--size", "24"]) == 0
    source = ShardSource(tmp_path / "out", 24, 3)
    assert source.names == [name] and "bad" in source.refused[0].reason
    source.read(0, np.arange(2), np.empty((2, 3, 24, 24), np.uint8))
    assert "Traceback" not in "".join(capfd.readouterr())


def test_what_an_earlier_call_left_damaged_is_made_anew_and_other_files_stay(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepare(folder, out, 24)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    shard, (first, second, *_) = next((out / "shards").iterdir()), sorted((out / "units").iterdir())
    shard.write_bytes(shard.read_bytes()[:-9])
    first.write_text("{}")
    second.write_text("[")
    (out / ".gitignore").write_text("*")
    prepare(folder, out, 24)
    assert {path: path.read_bytes() for path in before} == before and (out / ".gitignore").is_file()


def test_marks_are_sums_of_words_times_odd_numbers() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (3, 2, 5), np.uint8)  # 10 bytes: two words, the second filled up with zeros
    odd = [int(w) for w in np.random.Generator(np.random.Philox(0)).integers(0, 1 << 64, 2, np.uint64) | np.uint64(1)]
    for frame, mark in zip(frames, marks(frames)):
        data = frame.tobytes()
        words = [int.from_bytes(data[:8], "little"), int.from_bytes(data[8:], "little")]
        assert int(mark) == sum(w * o for w, o in zip(words, odd)) % 2**64


@pytest.mark.parametrize("scheme", ["file", "memory"])
def test_shards_are_read_from_elsewhere(scheme: str, folder: Path, tmp_path: Path) -> None:
    prepare(folder, tmp_path / "out", 24)
    url = f"file://{tmp_path}/out" if scheme == "file" else "memory://prepared"
    if scheme == "memory":
        fsspec.filesystem("memory").put(str(tmp_path / "out"), "/prepared", recursive=True)
    near, far = ShardSource(tmp_path / "out", 24, 3), pickle.loads(pickle.dumps(ShardSource(url, 24, 3)))
    for number in range(3):
        for frames in (np.arange(3, 15), np.arange(0, 19, 3), np.array([0, 0, 7, 5]), np.array([19])):
            outs = np.empty((2, len(frames), 3, 24, 24), np.uint8)
            near.read(number, frames, outs[0])
            far.read(number, frames, outs[1])
            assert np.array_equal(*outs)
    data = VideoData(url, past=3, future=3, size=24, batch_size=2, val_share=0.3, test_share=0.3)
    assert next(iter(data.train_dataloader())).x.shape == (2, 3, 3, 24, 24)


def test_what_is_wrong_with_shards_elsewhere(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(folder, tmp_path / "out", 24)
    url, out = f"file://{tmp_path}/out", np.empty((2, 3, 24, 24), np.uint8)
    for address in ("file:///nowhere", "memory://nothing", "nosuch://bucket/x"):
        with pytest.raises(UserError, match="cannot be read") as error:
            ShardSource(address, 24, 3)
        assert "\n" not in str(error.value)
    with monkeypatch.context() as patch:
        patch.setattr(fsspec.core, "url_to_fs", lambda url: 1 / 0)
        with pytest.raises(UserError, match="cannot be read.*ZeroDivisionError"):
            ShardSource(url, 24, 3)
    source = ShardSource(url, 24, 3)
    shard = tmp_path / "out" / "shards" / source.shards[0]
    content = shard.read_bytes()
    for left, says in ((content[:-9], "cut short"), (content[:100], "cut short"), (b"x" * len(content), "no shard"), (None, "cannot be read")):
        shard.unlink() if left is None else shard.write_bytes(left)
        with pytest.raises(VideoError, match=says):
            ShardSource(url, 24, 3).read(0, np.arange(2), out)


@pytest.mark.slow
def test_the_command_with_workers(folder: Path, tmp_path: Path) -> None:
    line = [sys.executable, "-m", "vidssl.cli", "prepare", str(folder), str(tmp_path / "out"), "--size", "16", "--channels", "1", "--workers", "2"]
    done = subprocess.run(line, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "bad.mp4" in done.stdout and "refused" in done.stdout
    assert len(ShardSource(tmp_path / "out", 16, 1).names) == 3
    done = subprocess.run([*line[:4], str(tmp_path / "absent"), "out"], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "absent" in done.stderr and not (tmp_path / "out2").exists()


def test_the_command_takes_an_address_and_a_configuration_does_not(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    prepare(folder, "out", 64)
    url = f"file://{tmp_path}/out"
    words = ["fit", "--config", "video-gaussian", "--trainer.accelerator", "cpu", "--trainer.max_steps", "1", "--data.batch_size", "1", "--data.val_share", "0.3", "--data.test_share", "0.3"]
    assert cli.main([*words, f"--data.folder={url}", "--trainer.fast_dev_run", "true"]) == 0
    assert load_data("video-gaussian", folder=url).frames().names
    (tmp_path / "own.yaml").write_text(f"data: {{init_args: {{folder: '{url}'}}}}\n")
    for more in (["--config", "own.yaml"], ["--data.folder", f"simplecache::{url}"]):
        assert cli.main([*words, *more]) == 2
        assert "no addresses" in capsys.readouterr().err


def test_one_job_has_one_decoder_and_each_video_once(folder: Path, tmp_path: Path) -> None:
    (folder / "list.txt").write_text("a.mp4\ndeep/../a.mp4\n# c.mp4\nc.mp4\n")
    assert counted(prepare(folder / "list.txt", tmp_path / "out", 24)) == (2, 2, 0, 0)
    with pytest.raises(UserError, match="something else"):
        prepare(folder / "list.txt", tmp_path / "out", 24, decoder="decord")


@pytest.mark.slow
def test_a_process_that_dies_is_told_in_one_line(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Unit, "work", _die)
    with pytest.raises(UserError, match="ended from outside"):
        prepare(folder, tmp_path / "out", 24, workers=1)


def _die(unit: Unit) -> None:
    os._exit(9)
