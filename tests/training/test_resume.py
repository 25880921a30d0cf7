"""A run that was stopped and goes on ends bit for bit where an uninterrupted one ends, in the epochs that follow too."""

from __future__ import annotations

import signal
from typing import Any

import pytest
import torch
from accidents import Crash, Term

from vidssl.training.checkpoints import newest
from vidssl.training.preempt import SaveOnSignal

STEPS, BATCHES = 17, 5
pytestmark = pytest.mark.filterwarnings("ignore:Checkpoint directory", "ignore:You're resuming from", "ignore:The '", "ignore:You have overridden", "ignore:`isinstance")


def same(first: Any, second: Any, begin: int) -> None:
    """The second run did from step `begin` on what the first did, bit for bit."""
    steps = range(begin, STEPS + 1)
    assert sorted(second.record.losses) == list(steps)
    assert [second.record.keys[s] for s in steps] == [first.record.keys[s] for s in steps]
    assert [second.record.losses[s] for s in steps] == [first.record.losses[s] for s in steps]
    for step, loss in second.record.validations.items():
        assert loss == first.record.validations[step]
    for name, weight in first.weights().items():
        assert torch.equal(weight, second.weights()[name]), name


def test_every_epoch_sees_every_clip_once_in_an_order_of_its_own(run) -> None:
    keys = run(3 * BATCHES).fit().record.keys
    epochs = [[k for s in range(e * BATCHES + 1, (e + 1) * BATCHES + 1) for k in keys[s]] for e in range(3)]
    assert all(len(set(epoch)) == 8 * BATCHES for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_noise_differs_between_steps_and_not_between_runs(run) -> None:
    first, second = run(3, name="a").fit(), run(3, name="b").fit()
    assert first.record.losses == second.record.losses
    other = run(3, name="c", data={"seed": 1}).fit()
    assert other.record.losses[1] != first.record.losses[1]


@pytest.mark.parametrize("latent", ["categorical", "gaussian_learned", "vq"])
def test_after_a_crash_in_the_middle_of_an_epoch(run, latent: str) -> None:
    whole = run(STEPS, name="whole", latent=latent).fit()
    with pytest.raises(ZeroDivisionError):
        run(STEPS, Crash(9), latent=latent, every=4).fit()
    again = run(STEPS, latent=latent, every=4)
    again.fit(newest(again.folder))
    same(whole, again, 9)


@pytest.mark.parametrize("step", [1, 4, 5, 6, 10])
def test_after_a_signal(run, step: int) -> None:
    """Steps 5 and 10 are the last of their epochs."""
    whole = run(STEPS, name="whole").fit()
    with pytest.raises(SystemExit) as end:
        run(STEPS, Term(step), SaveOnSignal()).fit()
    assert end.value.code == 143
    again = run(STEPS)
    assert newest(again.folder).name == f"step={step}.ckpt"
    again.fit(newest(again.folder))
    same(whole, again, step + 1)


def test_after_a_signal_in_validation(run) -> None:
    whole = run(STEPS, name="whole").fit()
    with pytest.raises(SystemExit):
        run(STEPS, Term(10, validating=True, number=signal.SIGUSR1), SaveOnSignal()).fit()
    again = run(STEPS)
    again.fit(newest(again.folder))
    same(whole, again, 11)


def test_twice(run) -> None:
    whole = run(STEPS, name="whole").fit()
    for begin, end in ((None, 3), (3, 8)):
        with pytest.raises(SystemExit):
            part = run(STEPS, Term(end), SaveOnSignal())
            part.fit(begin and newest(part.folder))
    again = run(STEPS)
    again.fit(newest(again.folder))
    same(whole, again, 9)


def test_when_epochs_are_counted_and_validation_comes_within_them(run) -> None:
    options = {"max_epochs": 3, "val_check_interval": 2}
    whole = run(-1, name="whole", **options).fit()
    with pytest.raises(SystemExit):
        run(-1, Term(7), SaveOnSignal(), **options).fit()
    again = run(-1, **options)
    again.fit(newest(again.folder))
    assert sorted(again.record.losses) == list(range(8, 16))
    assert all(again.record.losses[s] == whole.record.losses[s] and again.record.keys[s] == whole.record.keys[s] for s in range(8, 16))


def test_with_accumulated_gradients(run) -> None:
    """The signal comes in the first of the two batches of step 5."""
    options = {"accumulate_grad_batches": 2}
    whole = run(8, name="whole", **options).fit()
    with pytest.raises(SystemExit):
        run(8, Term(5), SaveOnSignal(), **options).fit()
    again = run(8, **options)
    assert newest(again.folder).name == "step=5.ckpt"
    again.fit(newest(again.folder))
    assert {s: again.record.losses[s] for s in (6, 7, 8)} == {s: whole.record.losses[s] for s in (6, 7, 8)}
    assert all(torch.equal(weight, again.weights()[name]) for name, weight in whole.weights().items())


@pytest.mark.slow
def test_when_other_processes_load_the_clips(run) -> None:
    """They fetch ahead of the steps, from the moment that the loader is iterated."""
    options = {"limit_val_batches": 0}
    workers = {"data": {"workers": 1}, **options}
    whole = run(STEPS, name="whole", **options).fit()
    with pytest.raises(SystemExit):
        run(STEPS, Term(8), SaveOnSignal(), **workers).fit()
    again = run(STEPS, **workers)
    again.fit(newest(again.folder))
    same(whole, again, 9)


def test_signals_are_given_back(run) -> None:
    before = [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGUSR1)]
    run(2, SaveOnSignal()).fit()
    assert [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGUSR1)] == before
