"""Interleaved measurement of training steps, shared by `model_step.py` and the peers; needs nothing but torch."""

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

Loss = Callable[[dict[str, Tensor]], Tensor]
Step = Callable[[], Tensor | float]

HAND, LEAN = "torch.distributions", "lean"
"""The two references: what a careful user writes, with torch.distributions and its validation, and what an expert writes, with logits and
without distribution objects or checks."""
WARM_UP = 10
STRETCH = 5
"""How many steps of one row follow on one another. After each single one of nine rows, the caches would hold what the others need."""
SAME_LOSS = 0.005  # relative; the samples of compiled code differ


class Size(NamedTuple):
    batch: int
    data: int
    hidden: int
    latent: int


SIZES = {"small": Size(batch=32, data=64, hidden=32, latent=8), "large": Size(batch=128, data=784, hidden=512, latent=64)}
REPEATS = {"small": 1000, "large": 100}

Build = Callable[[Size, Tensor], dict[str, Step]]


def batch_of(x: Tensor) -> dict[str, Tensor]:
    """The data in a tensor object of its own, as a loader gives them: the published pixyz does not run a network twice on the same one."""
    return {"x": x.detach()}


ADAM = {"lr": 1e-3, "fused": True}
"""The optimiser of all rows: torch's fused Adam, which `Model` takes of itself where there is one. Torch's default on the CPU is a loop."""


def adam(parameters: Iterable[nn.Parameter]) -> torch.optim.Adam:
    return torch.optim.Adam(parameters, **ADAM)


def training_step(module: nn.Module, loss: Loss, x: Tensor) -> Step:
    """Loss, zero_grad, backward and a step of `adam`."""
    optimizer = adam(module.parameters())

    def step() -> Tensor:
        value = loss(batch_of(x))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        return value.detach()

    return step


def gradient_step(module: nn.Module, value: Callable[[], Tensor]) -> Callable[[], float]:
    """Loss and gradient, without an optimiser."""

    def run() -> float:
        module.zero_grad()
        loss = value()
        loss.backward()
        return float(loss.detach())

    return run


def seeded(make: Callable[[Size], nn.Module], size: Size) -> nn.Module:
    """A module that starts from the same weights as every other of that size."""
    torch.manual_seed(0)
    return make(size)


def measure(build: Build, size: Size, *, runs: int, repeats: int) -> dict[str, list[float]]:
    """The median microseconds of every step that `build` makes, one for each run; models are built anew in each run."""
    torch.set_num_threads(1)
    shuffler = random.Random(0)
    medians: dict[str, list[float]] = {}
    for _ in range(runs):
        torch.manual_seed(1)
        x = (torch.rand(size.batch, size.data) > 0.5).float()
        steps = build(size, x)
        need_same_loss(steps)
        for step in steps.values():
            for _ in range(WARM_UP):
                step()
        for name, median in interleave(steps, repeats=repeats, shuffler=shuffler).items():
            medians.setdefault(name, []).append(median)
    return medians


def run_peer(package: str, build: Build) -> None:
    """The whole program of a peer: measures every size and prints the medians as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--repeats", type=int)
    args = parser.parse_args()
    sizes = {name: measure(build, size, runs=args.runs, repeats=args.repeats or REPEATS[name]) for name, size in SIZES.items()}
    print(json.dumps({"package": package, "torch": torch.__version__, "sizes": sizes}))


def interleave(steps: Mapping[str, Step], *, repeats: int, shuffler: random.Random) -> dict[str, float]:
    """A few steps of each in every round, one after the other as in a training, in a new order, so that none always follows the same other.

    `repeats` is how many steps of each are taken in all.
    """
    taken: dict[str, list[float]] = {name: [] for name in steps}
    order = list(steps)
    for _ in range(-(-repeats // STRETCH)):
        shuffler.shuffle(order)
        for name in order:
            step = steps[name]
            for _ in range(STRETCH):
                start = time.perf_counter()
                step()
                taken[name].append(time.perf_counter() - start)
    return {name: statistics.median(times) * 1e6 for name, times in taken.items()}


def need_same_loss(steps: Mapping[str, Step]) -> None:
    """Stops if a step does not compute the same loss as the hand-written one: then there is nothing to compare."""
    first = {}
    for name, step in steps.items():
        torch.manual_seed(2)
        first[name] = float(step())
    for name, loss in first.items():
        if other := other_loss(loss, first[HAND]):
            raise SystemExit(f"{name}: the first loss {other}")


def other_loss(loss: float, by_hand: float, tolerance: float = SAME_LOSS) -> str:
    """What is said of a loss that is not the hand-written model's; nothing if it is."""
    return "" if abs(loss / by_hand - 1) <= tolerance else f"is {loss:.4f}, but {by_hand:.4f} in the hand-written model."
