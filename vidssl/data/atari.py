"""Games of the Atari 2600 as video files, played at random; the only file that imports ale_py.

A folder holds ``GAME/00000.mp4`` and so on, an episode a file, so that no game is in two splits, and ``atari.json``. Actions are
drawn evenly from those that the game knows, each is held for `SKIP` frames, and at every frame the console repeats the action before with
probability `REPEAT` ("sticky actions", Machado et al. 2018): what comes next is then not known, even to who knows the next action.
An episode ends where the game is over, so no file has a cut. It is a function of (seed, game, episode) and of ale-py's version.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vidssl.data.encode import write_video
from vidssl.files import write_json
from vidssl.types import UserError

MARK = "atari.json"
REPEAT, SKIP, RATE = 0.25, 4, 15
"""Probability of a sticky action, frames of the console for one that is kept, and frames kept a second (the console has 60)."""
SIDE = 210
"""Pixels. A screen has 210 rows of 160 wide pixels; columns are stretched to a square, as clips are cut out square and would lose rows."""
CRF = 4
"""Almost without loss, as in worlds: pixels are off by 1.6 of 255 on average (pong, breakout), but colour is stored at half resolution, as in any mp4
that plays everywhere, so coloured edges are off by up to 102."""


def _ale() -> Any:
    try:
        import ale_py
        import ale_py.roms
    except ImportError as error:
        raise UserError("Atari games are played by ale-py, which is not installed: pip install vidssl[atari]") from error
    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
    return ale_py


def games() -> list[str]:
    """Names of the games that can be played.

    Raises:
        UserError: ale-py is not installed.
    """
    two_players = {"combat", "joust", "maze_craze", "warlords"}
    return sorted(set(_ale().roms.get_all_rom_ids()) - two_players)


def play(game: str, episode: int, frames: int, seed: int = 0) -> Iterator[np.ndarray]:
    """The pictures of one episode, uint8 ``[3, SIDE, SIDE]``, `frames` at most: it ends where the game is over."""
    from PIL import Image

    ale = _ale()
    choice = np.random.default_rng([seed, zlib.crc32(game.encode()), episode])
    console = ale.ALEInterface()
    console.setInt("random_seed", int(choice.integers(1 << 31)))
    console.setInt("frame_skip", SKIP)
    console.setFloat("repeat_action_probability", REPEAT)
    console.loadROM(ale.roms.get_rom_path(game))
    console.reset_game()
    actions = console.getMinimalActionSet()
    for _ in range(frames):
        screen = Image.fromarray(console.getScreenRGB()).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
        yield np.asarray(screen).transpose(2, 0, 1)
        console.act(actions[choice.integers(len(actions))])
        if console.game_over():
            return


def record(
    folder: str | Path,
    names: list[str],
    episodes: int,
    frames: int,
    seed: int = 0,
    progress: Callable[[Iterable[Any], int, str], Iterable[Any]] = lambda items, total, what: items,
) -> list[Path]:
    """Play `episodes` episodes of each game into `folder`; files that are there stay, so it goes on where it was stopped.

    Args:
        folder: new or empty, or one of an earlier call with the same `frames` and `seed`; games and episodes may be added.
        names: of the games. episodes: of each.
        frames: of a file, at most.
        seed: of actions and of the console.
        progress: wraps the loop over files: (items, their number, what is done) -> items.

    Returns:
        The files, game by game.

    Raises:
        UserError: ale-py is not installed, a name that is no game, numbers out of range, or a folder with something else in it.
    """
    known = games()
    if unknown := [name for name in names if name not in known]:
        raise UserError(f"a game is one that ale-py has; got {', '.join(map(repr, unknown))}: choose among {', '.join(known)}")
    if not names or episodes < 1 or frames < 2 or seed < 0:
        raise UserError(
            f"a recording has a game or more, an episode or more of each, two frames or more and a seed from 0 on; "
            f"got {len(names)} games, {episodes} episodes, {frames} frames and seed {seed}"
        )
    folder = Path(folder)
    _claim(folder, {"format": 1, "ale_py": _ale().__version__, "frames": frames, "seed": seed, "repeat": REPEAT, "skip": SKIP, "side": SIDE, "crf": CRF})
    wanted = [(name, i, folder / name / f"{i:05d}.mp4") for name in dict.fromkeys(names) for i in range(episodes)]
    for name, i, path in progress(wanted, len(wanted), "playing"):
        if not path.exists():  # videos appear whole or not at all
            write_video(path, play(name, i, frames, seed), fps=RATE, crf=CRF)
    return [path for _, _, path in wanted]


def _claim(folder: Path, settings: dict[str, Any]) -> None:
    """Make sure that what lies in `folder` is an earlier recording of the same kind."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        try:
            before = json.loads((folder / MARK).read_text())
        except (OSError, ValueError):
            before = None
        if not isinstance(before, dict):
            raise UserError(f"games are recorded to a new folder, or to one of an earlier recording; {str(folder)!r} holds something else: name another")
        if before != settings:
            told = ", ".join(f"{key} {before.get(key)!r} there and {value!r} here" for key, value in settings.items() if before.get(key) != value)
            raise UserError(f"a folder holds recordings of one kind; {str(folder)!r} has {told}: name another, or record as before")
    write_json(folder / MARK, settings)
