"""The rule of bouncing and its exact consequences, against brute force and simulation."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from vidssl.data.worlds.tree import spread, tracks
from vidssl.data.worlds.trellis import Trellis
from vidssl.data.worlds.walls import (
    OUTCOMES,
    VELOCITIES,
    backward,
    belief,
    number,
    probability,
    simulate,
    step,
    track_of,
)
from vidssl.types import UserError

LIMIT = 32
ANY = np.full(81, 1 / 81)


def velocity(vy: int, vx: int) -> int:
    return (vy + 4) * 9 + vx + 4


def known(vy: int, vx: int) -> np.ndarray:
    return np.eye(81)[velocity(vy, vx)]


def pasts(count: int, seed: int, limit: int = LIMIT, frames: int = 5) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    starts = rng.integers(0, limit, (count, 2))
    return [np.concatenate([s[None], simulate(s, ANY, frames - 1, 1, limit, rng)[0]]) for s in starts]


def joined(start: np.ndarray, ways: np.ndarray) -> np.ndarray:
    return np.concatenate([np.broadcast_to(start, (len(ways), 1, 2)), ways], 1)


def brute(start: tuple[int, int], prior: np.ndarray, frames: int, limit: int) -> dict[tuple, float]:
    """All tracks and their probabilities, by following the rule one velocity at a time."""
    found: dict[tuple, float] = {}

    def go(y: int, x: int, v: int, p: float, so_far: tuple) -> None:
        if len(so_far) == frames:
            found[so_far] = found.get(so_far, 0) + p
            return
        vy, vx = VELOCITIES[v]
        y, x = y + vy, x + vx
        new = None
        if y < 0 or y >= limit:
            new = [(a, b) for a in range(-4, 5) for b in range(-4, 5) if (a > 0 if y < 0 else a < 0)]
            y = min(max(y, 0), limit - 1)
        if x < 0 or x >= limit:
            new = [(a, b) for a in range(-4, 5) for b in range(-4, 5) if (b > 0 if x < 0 else b < 0)]
            x = min(max(x, 0), limit - 1)
        for w in [v] if new is None else [velocity(*o) for o in new]:
            go(y, x, w, p if new is None else p / len(new), (*so_far, (int(y), int(x))))

    for v in np.flatnonzero(prior):
        go(*start, v, prior[v], ())
    return found


def test_a_wall_draws_one_of_36_velocities() -> None:
    assert OUTCOMES.shape == (4, 36) and math.log2(36) == pytest.approx(5.17, abs=0.005)
    for wall, (axis, sign) in enumerate([(0, 1), (0, -1), (1, 1), (1, -1)]):
        drawn = VELOCITIES[OUTCOMES[wall]]
        assert set(sign * drawn[:, axis]) == {1, 2, 3, 4} and set(drawn[:, 1 - axis]) == set(range(-4, 5))
        assert len({tuple(v) for v in drawn}) == 36


@pytest.mark.parametrize(
    ("start", "v", "end", "wall"),
    [
        ((5, 5), (-4, 3), (1, 8), -1),
        ((4, 9), (-4, 0), (0, 9), -1),  # reaching the last pixel is no hit
        ((3, 9), (-4, 0), (0, 9), 0),
        ((28, 9), (4, 0), (31, 9), 1),  # 32 is one too far
        ((9, 1), (0, -2), (9, 0), 2),
        ((9, 31), (1, 1), (10, 31), 3),
        ((1, 1), (-4, -4), (0, 0), 2),  # a corner draws by the rule of the side wall
    ],
)
def test_steps(start: tuple, v: tuple, end: tuple, wall: int) -> None:
    there, hit = step(np.array(start), np.array(velocity(*v)), LIMIT)
    assert tuple(there) == end and hit == wall


@pytest.mark.parametrize("limit", [5, 7])
@pytest.mark.parametrize("prior", [ANY, known(-3, 2), known(0, 0)], ids=["any", "known", "still"])
def test_tracks_and_probabilities_equal_brute_force(limit: int, prior: np.ndarray) -> None:
    start = np.array([1, 3])
    ways, p, _ = tracks(start, prior, 3, limit, 10**6)
    want = brute((1, 3), prior, 3, limit)
    got = {tuple(map(tuple, way.tolist())): q for way, q in zip(ways, p)}
    assert got == pytest.approx(want) and sum(p) == pytest.approx(1)
    assert probability(joined(start, ways), prior, limit) == pytest.approx(p)
    exact = spread(start, prior, 3, limit)
    assert exact.count == len(want)
    assert exact.bits == pytest.approx(-sum(q * math.log2(q) for q in want.values()))


def test_belief_equals_brute_force() -> None:
    """p(velocity | past) by Bayes over all first velocities and draws, in a small world where walls are always near."""
    for track in pasts(20, 3, limit=6, frames=3):
        want = np.zeros(81)
        for v in range(81):
            here, wall = step(track[0], np.array(v), 6)
            if (here == track[1]).all():
                for w in [v] if wall < 0 else OUTCOMES[wall]:
                    there, wall2 = step(track[1], np.array(w), 6)
                    if (there == track[2]).all():
                        last = [w] if wall2 < 0 else OUTCOMES[wall2]
                        want[last] += (1 if wall < 0 else 1 / 36) / len(last)
        assert belief(track, 6) == pytest.approx(want / want.sum())


def test_a_bounce_in_the_last_frame_leaves_36_velocities() -> None:
    track = np.array([[9, 9], [6, 9], [3, 9], [0, 9], [0, 9]])  # 3 a frame: the last step hit the top
    assert np.flatnonzero(belief(track, LIMIT)).tolist() == OUTCOMES[0].tolist()
    assert spread(track[-1], belief(track, LIMIT), 1, LIMIT).bits == pytest.approx(math.log2(36))


def test_far_from_walls_the_future_is_certain() -> None:
    exact = spread(np.array([16, 16]), known(1, 1), 10, LIMIT)
    assert exact.bits == 0 and exact.count == 1


def test_one_bounce_gives_36_futures() -> None:
    exact = spread(np.array([2, 16]), known(-4, 0), 4, LIMIT)
    assert exact.count == 36 and exact.bits == pytest.approx(math.log2(36))
    assert exact.bits_at.tolist() == pytest.approx([0, math.log2(36), 0, 0])  # told one frame after the wall


def test_numbers_name_tracks_one_to_one() -> None:
    for track in pasts(25, 0):
        prior = belief(track, LIMIT)
        if spread(track[-1], prior, 10, LIMIT).count > 3000:
            continue
        ways, _, codes = tracks(track[-1], prior, 10, LIMIT, 3000)
        assert (np.diff(codes) > 0).all() and codes[0] >= 0
        assert (number(joined(track[-1], ways), prior, LIMIT) == codes).all()
        assert (track_of(codes, track[-1], 10, LIMIT) == ways).all()


def test_an_impossible_track_has_no_number() -> None:
    way = np.array([[[16, 16], [17, 17], [18, 18], [18, 19]]])  # turns in mid-air
    assert number(way, known(1, 1), LIMIT).tolist() == [-1]
    assert probability(way, known(1, 1), LIMIT).tolist() == [0]
    assert backward(way, LIMIT)[0].sum() == 0


def test_simulated_frequencies_follow_the_probabilities() -> None:
    start, prior, n = np.array([1, 16]), known(-4, 0), 36_000
    _, p, codes = tracks(start, prior, 3, LIMIT, 100)
    drawn = number(joined(start, simulate(start, prior, 3, n, LIMIT, np.random.default_rng(0))), prior, LIMIT)
    counts = np.bincount(np.searchsorted(codes, drawn), minlength=len(codes))
    assert p == pytest.approx(np.full(36, 1 / 36))
    chi = ((counts - n / 36) ** 2 / (n / 36)).sum()
    assert len(codes) == 36 and chi < 66.6  # 35 degrees of freedom, p = .001


def test_entropy_is_the_mean_surprise() -> None:
    """Exact entropy of a past near a corner, where listing is hopeless, against draws."""
    track = np.array([[8, 9], [6, 7], [4, 5], [2, 3], [0, 1]])
    prior = belief(track, LIMIT)
    exact = spread(track[-1], prior, 10, LIMIT)
    assert exact.count > 1e6
    ways = simulate(track[-1], prior, 10, 4000, LIMIT, np.random.default_rng(1))
    surprise = -np.log2(probability(joined(track[-1], ways), prior, LIMIT))
    assert exact.bits == pytest.approx(surprise.mean(), abs=4 * surprise.std() / 4000**0.5)
    with pytest.raises(UserError, match="draw futures"):
        tracks(track[-1], prior, 10, LIMIT, 10_000)


def test_bits_of_the_default_world() -> None:
    """5 past and 10 future frames of 32 places: .126 bounces a frame, so 10 frames of them say 6.5 bits; what shows, a little less."""
    every = pasts(20_000, 5, frames=2)
    rng = np.random.default_rng(6)
    hits = 0
    place, v = np.array([t[0] for t in every]), rng.integers(0, 81, len(every))
    for t in range(15):
        place, wall = step(place, v, LIMIT)
        v = np.where(wall < 0, v, OUTCOMES[wall, rng.integers(36, size=len(v))])
        hits += (wall >= 0).sum() if t >= 5 else 0
    assert hits / len(every) / 10 == pytest.approx(0.126, abs=0.003)
    assert hits / len(every) * math.log2(36) == pytest.approx(6.52, abs=0.15)
    bits = [spread(t[-1], belief(t, LIMIT), 10, LIMIT).bits for t in pasts(120, 7)]
    assert np.mean(bits) == pytest.approx(6.4, abs=4 * np.std(bits) / 120**0.5)


@pytest.mark.parametrize("start", list(itertools.product([0, 3, 6], [1, 6])))
def test_the_trellis_finds_the_cheapest_track(start: tuple[int, int]) -> None:
    limit, frames, at = 7, 4, np.array(start)
    ways, _, codes = tracks(at, ANY, frames, limit, 10**6)
    assert (number(joined(at, ways), ANY, limit) == codes).all()
    cost = np.random.default_rng(0).random((5, frames, limit**2)).astype(np.float32)
    found = Trellis(at, ANY, frames, limit).cheapest(cost)
    assert (probability(joined(at, found), ANY, limit) > 0).all()
    cells = ways[..., 0] * limit + ways[..., 1]
    least = cost[:, np.arange(frames), cells].sum(-1).min(1)
    mine = cost[np.arange(5)[:, None], np.arange(frames), found[..., 0] * limit + found[..., 1]].sum(1)
    assert mine == pytest.approx(least)
