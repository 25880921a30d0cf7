"""What is written is what was given, plays in browsers, and appears whole or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from video_files import picture

from vidssl.data.decode import open_video
from vidssl.data.encode import write_gif, write_video
from vidssl.types import UserError


def frames(count: int, width: int = 64, height: int = 48) -> torch.Tensor:
    smooth = np.stack([picture(i, width, height) // 60 * 60 for i in range(count)])
    return torch.from_numpy(smooth).permute(0, 3, 1, 2)


def test_video_comes_back(tmp_path: Path) -> None:
    given = frames(25)
    path = write_video(tmp_path / "new" / "a: -b.mp4", given, fps=12.5, crf=1, gop=5)
    with open_video(path) as video:
        assert video.info.frames == 25 and video.info.rate == pytest.approx(12.5)
        assert np.diff(video.info.keys).max() <= 5
        assert np.abs(video.get(list(range(25))).astype(int) - given.numpy()).mean() < 12  # colour is stored at half size
    head = path.read_bytes()
    assert head.index(b"moov") < head.index(b"mdat"), "browsers start to play when the index comes first"


def test_grey_and_odd_sizes(tmp_path: Path) -> None:
    path = write_video(tmp_path / "grey.mp4", (f[:1] for f in frames(6, 33, 21)), crf=0)
    with open_video(path) as video:
        made = video.get([0, 5], channels=3)
    assert made.shape == (2, 3, 22, 34)
    assert np.abs(made[:, 0].astype(int) - made[:, 2]).max() <= 2
    assert np.abs(made[:, 0, :21, :33].astype(int) - frames(6, 33, 21)[[0, 5], 0].numpy()).mean() < 3


def test_gif_keeps_every_frame(tmp_path: Path) -> None:
    given = torch.cat([frames(3), frames(3)[-1:].expand(3, -1, -1, -1)])
    with Image.open(write_gif(tmp_path / "a.gif", given, fps=10)) as made:
        total = 0
        for i in range(made.n_frames):
            made.seek(i)
            total += made.info["duration"]
        assert made.info["loop"] == 0
        made.seek(1)
        assert np.abs(np.asarray(made.convert("RGB")).transpose(2, 0, 1).astype(int) - given[1].numpy()).mean() < 6
    assert total == 600


@pytest.mark.parametrize(
    ("given", "options", "says"),
    [
        (torch.zeros(2, 3, 8, 8), {}, "uint8"),
        (torch.zeros(2, 2, 8, 8, dtype=torch.uint8), {}, "uint8"),
        (torch.zeros(0, 3, 8, 8, dtype=torch.uint8), {}, "at least one frame"),
        ([torch.zeros(3, 8, 8, dtype=torch.uint8), torch.zeros(3, 8, 10, dtype=torch.uint8)], {}, "one size"),
        (frames(2), {"fps": 0}, "rate"),
        (frames(2), {"codec": "nonesuch"}, "nonesuch"),
    ],
)
def test_refused_and_nothing_is_lost(tmp_path: Path, given: object, options: dict, says: str) -> None:
    path = tmp_path / "kept.mp4"
    path.write_bytes(b"before")
    with pytest.raises(UserError, match=says):
        write_video(path, given, **options)
    assert path.read_bytes() == b"before" and [p.name for p in tmp_path.iterdir()] == ["kept.mp4"]


def test_unknown_container(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="suffix"):
        write_video(tmp_path / "a.nonesuch", frames(2))
    with pytest.raises(UserError, match="at most 50"):
        write_gif(tmp_path / "a.gif", frames(2), fps=60)
    assert not list(tmp_path.iterdir())
