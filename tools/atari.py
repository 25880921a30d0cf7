"""Record Atari games that are played at random, as a folder of videos."""

from __future__ import annotations

import argparse
from pathlib import Path

from vidssl.data.atari import REPEAT, SIDE, SKIP, record
from vidssl.progress import bar


def main(argv: list[str]) -> None:
    """Run ``vidssl atari OUT``."""
    parser = argparse.ArgumentParser(
        prog="vidssl atari",
        description=f"{__doc__} An action is held for {SKIP} frames of the console and is sticky with probability {REPEAT:g} (Machado et al. 2018). "
        "Needs ale-py: pip install vidssl[atari]. Run it again after an interruption, or for more games or episodes: it goes on where it stopped.",
    )
    parser.add_argument("out", metavar="OUT", type=Path, help="a new folder, for OUT/GAME/00000.mp4 and so on: an episode a file")
    parser.add_argument("--games", nargs="+", metavar="GAME", default=["pong", "breakout"], help="default: pong breakout; an unknown name lists all")
    parser.add_argument("--episodes", type=int, default=8, help="of each game (default 8)")
    parser.add_argument("--frames", type=int, default=600, help="of an episode, at most: it ends where the game is over (default 600, 15 a second)")
    parser.add_argument("--seed", type=int, default=0, help="of actions and of the console (default 0)")
    a = parser.parse_args(argv)
    files = record(a.out, a.games, a.episodes, a.frames, a.seed, bar)
    print(f"{len(files)} videos of {SIDE} x {SIDE} pixels in {a.out}")
    print(f"  next: vidssl prepare {a.out} SHARDS --size 64")
