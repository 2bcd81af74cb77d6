"""Peak memory of bounds and of their gradients against the number of draws.

    python tests/benchmarks/memory.py [--batch 8]

Torch's profiler counts the bytes of all tensors that are alive at once, in the loss and its backward pass; the machine has no part in it.
Two latent dims, float32.
"""

import argparse
from collections.abc import Callable

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from pixyz.core import Loss
from pixyz.distributions import Bernoulli, Distribution, Normal
from pixyz.losses import ELBO, IWAE, DReG, RenyiBound

DATA, LATENT = 3, 2


def peak_bytes(run: Callable[[], object]) -> int:
    """The most bytes of tensors that were alive at once, of those that `run` makes."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
        run()
    recorded = watched.profiler.kineto_results.events()  # type: ignore[union-attr]
    changes = sorted((event.start_ns(), event.nbytes()) for event in recorded if event.name() == "[memory]")
    alive = peak = 0
    for _, change in changes:
        alive += change
        peak = max(peak, alive)
    return peak


def continuous() -> tuple[Distribution, Distribution]:
    """p(x,z) and q(z|x), drawn pathwise."""
    return _likelihood() * Normal("p(z)", loc=0.0, scale=1.0, dim=LATENT), Normal("q(z|x)", loc=nn.Linear(DATA, LATENT), scale=0.5)


def discrete() -> tuple[Distribution, Distribution]:
    """The same with z of zeros and ones, to be scored."""
    return _likelihood() * Bernoulli("p(z)", probs=0.5, dim=LATENT), Bernoulli("q(z|x)", logits=nn.Linear(DATA, LATENT))


def _likelihood() -> Distribution:
    return Normal("p(x|z)", loc=nn.Linear(LATENT, DATA), scale=1.0)


BOUNDS: dict[str, Callable[[int], Loss]] = {
    "ELBO": lambda k: ELBO(*continuous(), num_samples=k),
    "IWAE": lambda k: IWAE(*continuous(), num_samples=k),
    "RenyiBound, α = 0.5": lambda k: RenyiBound(*continuous(), 0.5, num_samples=k),
    "RenyiBound, α = 2": lambda k: RenyiBound(*continuous(), 2.0, num_samples=k),
    "DReG": lambda k: DReG(*continuous(), num_samples=k),
    "ELBO, score": lambda k: ELBO(*discrete(), num_samples=k, estimator="score"),
    "IWAE, score": lambda k: IWAE(*discrete(), num_samples=k, estimator="score"),
    "RenyiBound, α = 0.5, score": lambda k: RenyiBound(*discrete(), 0.5, num_samples=k, estimator="score"),
}


def step(bound: Loss, batch: int) -> Callable[[], None]:
    """The loss and its backward pass."""
    loss, x = -bound.mean(), torch.zeros(batch, DATA)
    return lambda: loss.estimate({"x": x}).backward()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch", type=int, default=8)
    args = parser.parse_args()
    counts = [10**n for n in range(1, 6)]
    print(f"torch {torch.__version__}, batch {args.batch}; peak of the tensors alive, MB, against the number of draws K")
    print(f"{'':28}" + "".join(f"{f'K = {k:,}':>14}" for k in counts) + f"{'bytes per K':>14}")
    for name, made in BOUNDS.items():
        peaks = [peak_bytes(step(made(k), args.batch)) for k in counts]
        print(f"{name:28}" + "".join(f"{peak / 1e6:14.3f}" for peak in peaks) + f"{peaks[-1] / counts[-1]:14.0f}")


if __name__ == "__main__":
    main()
