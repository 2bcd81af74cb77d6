"""Each kind of training holds as much memory after many steps as after a few."""

import itertools

import pytest
import torch
from held import growth, held_by_fit, held_by_train
from planted import changed
from trainings import TRAININGS

from pixyz.core import Loss
from pixyz.models import Model

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers")
CALLS = (10, 70)


def assert_flat(name, first, last, *, hold=held_by_train, blocks=20.0, allocated=200.0, resident=1e9):
    """Between two numbers of steps fewer than one tensor in a thousand steps is added, and per step no more than so many blocks and bytes.

    Python's allocator keeps some hundred blocks more at each look, however many steps there are between two.
    """
    held = growth(hold, TRAININGS[name], first, last)
    assert held.tensors < 1e-3, held  # in a long run, one may be made late, such as the best loss so far
    assert held.blocks < blocks, held
    assert held.allocated < allocated, held
    assert held.resident < resident, held


def assert_flat_from_the_start(name):
    assert_flat(name, *(calls // TRAININGS[name].calls for calls in CALLS))


@pytest.mark.parametrize("name", TRAININGS)
def test_steps_hold_no_more_memory(name, request):
    """Those of `train`; where `--steps` says how many, those of `fit`, with what it saves, from the tenth part on."""
    steps = request.config.getoption("--steps")
    if steps:
        assert_flat(name, steps // 10, steps, hold=held_by_fit, blocks=0.3, allocated=10.0, resident=200.0)
    else:
        assert_flat_from_the_start(name)


def test_fit_holds_no_more_memory():
    assert_flat("scaled losses", *CALLS, hold=held_by_fit)


KEPT = []


def keeping(keep):
    """The fault that each loss leaves something in a list or a dict."""

    def make(f):
        def fault(self, *arguments, **options):
            value = f(self, *arguments, **options)
            keep(value)
            return value

        return fault

    return changed(Loss, "estimate", make)


def cached_by_step(f):
    """A cache that knows each number of steps."""
    cache = {}

    def fault(self, values, **options):
        cache[self.step_count] = torch.zeros(()) + self.step_count
        return f(self, values, **options)

    return fault


LEAKS = {
    "each loss with its graph": keeping(KEPT.append),
    "each loss without its graph": keeping(lambda loss: KEPT.append(loss.detach())),
    "the data of each loss, which Python does not know": keeping(lambda loss: KEPT.append(bytes(1000))),
    "a cache by the number of steps": changed(Model, "train", cached_by_step),
}


@pytest.mark.parametrize("name", LEAKS)
def test_a_planted_leak_is_found(name, monkeypatch):
    LEAKS[name](monkeypatch)
    with pytest.raises(AssertionError, match="Held"):
        assert_flat_from_the_start("scaled losses")
    KEPT.clear()


def test_a_planted_leak_of_one_number_in_each_step_is_found(monkeypatch):
    """By the limits of the long run."""
    numbers = itertools.count(1000)
    keeping(lambda loss: KEPT.append(next(numbers)))(monkeypatch)
    with pytest.raises(AssertionError, match="Held"):
        assert_flat("scaled losses", 50, 350, blocks=0.3)
    KEPT.clear()
