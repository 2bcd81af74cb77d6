"""What a step of both players costs: `GAN.train` beside the same loop by hand, eager, and compiled.

    python tests/benchmarks/gan.py [--runs 5] [--rounds 200] [--no-compile] [--only NAME]

Three sizes: points in a plane, networks of 2 × 128; flat 8 × 8 images, 2 × 256; flat 28 × 28 images, 2 × 512. Batch 128, Adam, the
discriminator first, the fakes drawn once; the loops by hand judge each datum once for the loss and its penalty. They have torch's default
Adam, and in one row the fused one, which `GAN` takes of itself. One thread; all rows of a table are interleaved, start from the same
weights and are checked to give the same losses. A run is the median over its rounds; the table shows the median of the runs' ratios to the
loop by hand, with the least and the largest. "Again" is that loop against itself: the noise.
"""

import argparse
import random
import statistics
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from interleaved import WARM_UP, Step, interleave
from torch import Tensor, nn

from pixyz.core import Distribution, Loss
from pixyz.distributions import Deterministic, Normal
from pixyz.gan import GAN, R1, R2, AdversarialNonSaturating, AdversarialWassersteinDistance, GradientPenalty, RelativisticPairing

BATCH = 128
REQUIRED = 1.05
HAND, AGAIN, FUSED, OURS, COMPILED = "by hand", "by hand, again", "by hand, fused Adam", "GAN.train", "GAN(compile=True).train"


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
CASES = {f"{name}, {title}": (name, size) for title, size in SIZES.items() for name in OBJECTIVES}


def by_hand(size: Size, objectives: Objectives, x: Tensor, **options: bool) -> Callable[[], Losses]:
    g, d = networks(size)
    g_optimizer, d_optimizer = [torch.optim.Adam(net.parameters(), lr=1e-3, **options) for net in (g, d)]
    g_weights, d_weights = [*g.parameters()], [*d.parameters()]
    of_d, of_g = objectives

    def step() -> Losses:
        fake = g(torch.randn(len(x), size.latent))
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
    model = GAN(p, Deterministic("d(t|x)", t=d), loss=loss, optimizer_params={"lr": 1e-3}, **options)
    return lambda: model.train({"x": x})


def rows_of(name: str, size: Size, compiles: bool) -> dict[str, Step]:
    loss, objectives = OBJECTIVES[name]
    torch.manual_seed(1)
    x = torch.randn(BATCH, size.data)
    hand = {HAND: {}, AGAIN: {}, FUSED: {"fused": True}}
    rows: dict[str, Step] = {row: by_hand(size, objectives, x, **options) for row, options in hand.items()}
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
    for row in (AGAIN, FUSED, OURS):  # compiled code draws other numbers
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
    shuffler = random.Random(0)
    print(f"torch {torch.__version__}, one thread, {args.runs} runs of {args.rounds} rounds")
    for title, (name, size) in CASES.items():
        if args.only not in (None, title):
            continue
        medians: dict[str, list[float]] = {}
        for _ in range(args.runs):
            for row, median in interleave(rows_of(name, size, not args.no_compile), repeats=args.rounds, shuffler=shuffler).items():
                medians.setdefault(row, []).append(median)
        print(f"\n{title:<36}{'µs':>8}  / by hand")
        for row, times in medians.items():
            ratios = [a / b for a, b in zip(times, medians[HAND], strict=True)]
            required = f"   ≤ {REQUIRED:.2f}" if row == OURS else ""
            shown = f"{statistics.median(ratios):.3f} ({min(ratios):.3f}–{max(ratios):.3f})"
            print(f"  {row:<34}{statistics.median(times):>8.0f}  {shown}{required}", flush=True)


if __name__ == "__main__":
    main()
