"""What a step of both players costs: `GAN.train` beside the same loop by hand, eager, and compiled.

    python tests/benchmarks/gan.py [--runs 5] [--rounds 200] [--no-compile] [--only NAME]

Three sizes: points in a plane, networks of 2 × 128; flat 8 × 8 images, 2 × 256; flat 28 × 28 images, 2 × 512. Batch 128, the
discriminator first, the fakes drawn once; the loops by hand judge each datum once for the loss and its penalty. By hand twice: with
torch.distributions and its validation, and lean, without distribution objects or checks. All rows have torch's fused Adam. One thread; all
rows of a table are interleaved, start from the same weights and are checked to give the same losses. A run is the median over its rounds;
the table shows the median of the runs' ratios, with the least and the largest.
"""

import argparse
import random
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from interleaved import ADAM, HAND, LEAN, WARM_UP, Step, adam, interleave
from table import again, collect, print_table
from torch import Tensor, distributions, nn

from pixyz.core import Distribution, Loss
from pixyz.distributions import Deterministic, Normal
from pixyz.gan import GAN, R1, R2, AdversarialNonSaturating, AdversarialWassersteinDistance, GradientPenalty, RelativisticPairing

BATCH = 128
REQUIRED = 1.05
OURS, COMPILED = "GAN.train", "GAN(compile=True).train"


class Size(NamedTuple):
    data: int
    latent: int
    hidden: int


SIZES = {"points": Size(2, 2, 128), "8 × 8": Size(64, 32, 256), "28 × 28": Size(784, 64, 512)}

Networks = tuple[nn.Module, nn.Module]
Losses = tuple[Tensor, Tensor]
Objectives = tuple[Callable[[nn.Module, Tensor, Tensor], Tensor], Callable[[nn.Module, Tensor, Tensor], Tensor]]


def networks(size: Size) -> Networks:
    torch.manual_seed(0)

    def layers(features: int, out: int) -> nn.Module:
        return nn.Sequential(
            nn.Linear(features, size.hidden), nn.ReLU(), nn.Linear(size.hidden, size.hidden), nn.ReLU(), nn.Linear(size.hidden, out)
        )

    return layers(size.latent, size.data), layers(size.data, 1)


def squared_slope(number: Tensor, x: Tensor) -> Tensor:
    (slope,) = torch.autograd.grad(number.sum(), x, create_graph=True)
    return slope.square().sum(-1).mean()


def relativistic(d: nn.Module, x: Tensor, fake: Tensor) -> Tensor:
    x, fake = x.detach().requires_grad_(), fake.detach().requires_grad_()
    real_number, fake_number = d(x), d(fake)
    penalty = squared_slope(real_number, x) + squared_slope(fake_number, fake)
    return F.softplus(fake_number - real_number).mean() + 0.5 * penalty


def wasserstein(d: nn.Module, x: Tensor, fake: Tensor) -> Tensor:
    fake = fake.detach()
    between = torch.lerp(fake, x, torch.rand(len(x), 1)).requires_grad_()
    (slope,) = torch.autograd.grad(d(between).sum(), between, create_graph=True)
    return d(fake).mean() - d(x).mean() + 10 * (slope.norm(dim=-1) - 1).square().mean()


def _ours_relativistic(p: Distribution, d: Distribution) -> Loss:
    return RelativisticPairing(p, d) - 0.5 * (R1(p, d) + R2(p, d))


def _ours_wasserstein(p: Distribution, d: Distribution) -> Loss:
    return AdversarialWassersteinDistance(p, d) - 10 * GradientPenalty(p, d)


def log_bernoulli(number: Tensor, kind: float) -> Tensor:
    """log p(t) of a label for all data."""
    return distributions.Bernoulli(logits=number, validate_args=True).log_prob(torch.full_like(number, kind))


# Each with our loss, and by hand what the discriminator and the generator minimise.
OBJECTIVES: dict[str, tuple[Callable[[Distribution, Distribution], Loss], Objectives]] = {
    "non-saturating": (
        AdversarialNonSaturating,
        (
            lambda d, x, fake: F.softplus(-d(x)).mean() + F.softplus(d(fake.detach())).mean(),
            lambda d, x, fake: F.softplus(-d(fake)).mean(),
        ),
    ),
    "relativistic, R1, R2": (_ours_relativistic, (relativistic, lambda d, x, fake: F.softplus(d(x) - d(fake)).mean())),
    "Wasserstein, penalty": (_ours_wasserstein, (wasserstein, lambda d, x, fake: -d(fake).mean())),
}
WITH_DISTRIBUTIONS: dict[str, Objectives] = {
    "non-saturating": (
        lambda d, x, fake: -log_bernoulli(d(x), 1.0).mean() - log_bernoulli(d(fake.detach()), 0.0).mean(),
        lambda d, x, fake: -log_bernoulli(d(fake), 1.0).mean(),
    ),
}
"""The games that a label's density can express; the others have no distribution but that of z."""

CASES = {f"{name}, {title}": (name, size) for title, size in SIZES.items() for name in OBJECTIVES}


def lean_noise(n: int, size: Size) -> Tensor:
    return torch.randn(n, size.latent)


def drawn_noise(n: int, size: Size) -> Tensor:
    zero = torch.zeros(n, size.latent)
    return distributions.Normal(zero, torch.ones_like(zero), validate_args=True).sample()


def by_hand(size: Size, objectives: Objectives, x: Tensor, noise: Callable[[int, Size], Tensor]) -> Callable[[], Losses]:
    g, d = networks(size)
    g_optimizer, d_optimizer = [adam(net.parameters()) for net in (g, d)]
    g_weights, d_weights = [*g.parameters()], [*d.parameters()]
    of_d, of_g = objectives

    def step() -> Losses:
        fake = g(noise(len(x), size))
        d_loss = of_d(d, x, fake)
        d_optimizer.zero_grad()
        d_loss.backward(inputs=d_weights)
        d_optimizer.step()
        loss = of_g(d, x, fake)
        g_optimizer.zero_grad()
        loss.backward(inputs=g_weights)
        g_optimizer.step()
        return loss.detach(), d_loss.detach()

    return step


def by_us(size: Size, loss: Callable[[Distribution, Distribution], Loss], x: Tensor, **options: bool) -> Callable[[], Tensor]:
    g, d = networks(size)
    p = (Deterministic("p(x|z)", x=g) * Normal("p(z)", loc=0.0, scale=1.0, dim=size.latent)).marginalize_var("z")
    model = GAN(p, Deterministic("d(t|x)", t=d), loss=loss, optimizer_params=ADAM, **options)
    return lambda: model.train({"x": x})


def rows_of(name: str, size: Size, compiles: bool) -> dict[str, Step]:
    loss, objectives = OBJECTIVES[name]
    torch.manual_seed(1)
    x = torch.randn(BATCH, size.data)
    hand = {HAND: (WITH_DISTRIBUTIONS.get(name, objectives), drawn_noise), LEAN: (objectives, lean_noise)}
    rows: dict[str, Step] = {row: by_hand(size, of, x, noise) for name, (of, noise) in hand.items() for row in (name, again(name))}
    rows[OURS] = by_us(size, loss, x)
    if compiles:
        rows[COMPILED] = by_us(size, loss, x, compile=True)
    found = {}
    for row, step in rows.items():
        for _ in range(WARM_UP):
            torch.manual_seed(2)
            found.setdefault(row, torch.stack(tuple(step())))
        for _ in range(WARM_UP):
            step()
    for row in {*rows} - {COMPILED}:  # compiled code draws other numbers
        torch.testing.assert_close(found[row], found[HAND], msg=f"{name}: {row} has not the losses of the loop by hand")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5, help="how often the whole measurement is repeated")
    parser.add_argument("--rounds", type=int, default=200, help="rounds in a run")
    parser.add_argument("--no-compile", action="store_true", help="leave out the compiled rows")
    parser.add_argument("--only", choices=[*CASES], help="one table")
    args = parser.parse_args()
    torch.set_num_threads(1)
    measure = partial(interleave, repeats=args.rounds, shuffler=random.Random(0))
    print(f"torch {torch.__version__}, one thread, {args.runs} runs of {args.rounds} rounds")
    for title, (name, size) in CASES.items():
        if args.only not in (None, title):
            continue
        medians = collect(lambda name=name, size=size: measure(rows_of(name, size, not args.no_compile)), args.runs)
        print_table(title, medians, [HAND, LEAN], required={OURS: (LEAN, REQUIRED)})


if __name__ == "__main__":
    main()
