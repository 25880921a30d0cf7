"""Whatever a run is killed in, it goes on as if nothing had been."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from runs import Accident, Started, steps

STEPS, BATCHES, BATCH, CLIPS = 12, 5, 8, 43
MOMENTS: dict[str, range] = {  # what there is to die in, and how often it comes before the last step is saved
    "step": range(2, 13), "backward": range(2, 13), "validation": range(3, 7), "half": range(1, 4), "fsync": range(1, 12), "replace": range(1, 11),
    "replaced": range(1, 11), "link": range(1, 5),
}  # fmt: skip
CERTAIN: list[Accident] = [("step", 8), ("step", 11), ("half", 2), ("replace", 5), ("replaced", 5)]
"""In the middle of an epoch, at its end, in the middle of writing, and between a checkpoint and its digest."""


def moments(seed: int) -> list[Accident]:
    """Ten: the certain ones and five at random."""
    chance = random.Random(seed)
    kinds = chance.sample(sorted(MOMENTS), 5)
    return CERTAIN + [(kind, chance.choice(MOMENTS[kind])) for kind in kinds]


def weights(folder: Path) -> dict:
    """Everything that a run ends with: averages, weights, the optimiser's memory."""
    last = sorted(folder.glob("runs/run/version_*"))[-1]  # a run that was killed before its first checkpoint has begun anew
    made = torch.load(last / "checkpoints" / "last.ckpt", weights_only=True)
    assert made["global_step"] == STEPS
    optimiser = {f"{i}.{name}": value for i, state in made["optimizer_states"][0]["state"].items() for name, value in state.items()}
    return {**made["state_dict"], **{f"trained.{k}": v for k, v in made["trained_state_dict"].items()}, **optimiser}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """The folder of a run of so many processes that nothing befell, each made once."""
    made: dict[int, Path] = {}

    def get(world: int) -> Path:
        if world not in made:
            folder = tmp_path_factory.mktemp(f"whole-{world}")
            run = Started(folder, world)
            assert run.wait() == [0] * world, run.said()
            made[world] = folder
        return made[world]

    return get


def test_an_epoch_has_an_order_of_its_own_and_no_clip_twice(whole: Callable) -> None:
    done = steps(whole(1), 1)
    assert sorted(done) == list(range(STEPS)) and all(len(times) == 1 for times in done.values())
    epochs = [[key for step in range(e * BATCHES, min(STEPS, (e + 1) * BATCHES)) for key in done[step][0][1]] for e in range(3)]
    assert all(len(set(epoch)) == len(epoch) for epoch in epochs) and epochs[0][: 2 * BATCH] != epochs[1][: 2 * BATCH] != epochs[2]


@pytest.mark.slow
@pytest.mark.parametrize("accident", moments(0), ids=lambda a: f"{a[0]}-{a[1]}")
@pytest.mark.parametrize("world", [1, 2])
def test_after_a_kill_losses_and_weights_are_bitwise_those_of_a_run_that_nothing_befell(world: int, accident: Accident, tmp_path: Path, whole: Callable) -> None:
    victim = random.Random(str(accident)).randrange(world) if accident[0] in ("step", "backward", "validation") else 0  # the first one writes
    first = Started(tmp_path, world, accidents={victim: accident})
    ends = first.wait()
    assert ends[victim] == -9 and 0 not in ends, f"nothing befell it: {ends}, {first.said()}"
    again = Started(tmp_path, world, "--ckpt_path", "auto")
    assert again.wait() == [0] * world, again.said()
    want, done = steps(whole(world), world), steps(tmp_path, world)
    assert sorted(done) == list(range(STEPS))
    for step, times in done.items():
        assert all(once == want[step][0] for once in times), step
    expected, found = weights(whole(world)), weights(tmp_path)
    assert expected.keys() == found.keys()
    assert [name for name in expected if not torch.equal(expected[name], found[name])] == []


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), [(2, 1), (2, 4), (1, 2)])
def test_another_number_of_processes_goes_on_with_the_same_clips_and_losses(before: int, after: int, tmp_path: Path, whole: Callable) -> None:
    first = Started(tmp_path, before, accidents={0: ("step", 7)})
    assert first.wait()[0] == -9
    parts = [steps(tmp_path, before)]
    for file in tmp_path.glob("steps-*"):
        file.unlink()
    again = Started(tmp_path, after, "--ckpt_path", "last")
    assert again.wait() == [0] * after, again.said()
    parts.append(steps(tmp_path, after))
    want = steps(whole(1), 1)
    assert min(parts[1]) == 4 and max(parts[1]) == STEPS - 1
    for step, times in (item for part in parts for item in part.items()):
        losses, keys = times[0]
        assert keys == want[step][0][1]
        assert sum(map(float.fromhex, losses)) / len(losses) == pytest.approx(float.fromhex(want[step][0][0][0]), rel=1e-4), step
