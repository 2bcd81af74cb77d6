"""What the Loss API costs: many draws, divergences and bounds beside the same by hand, and formulas of many terms.

    python tests/benchmarks/losses.py [--rounds 60]

One thread; medians of interleaved rounds, loss and gradient, batch 32. The sum of an expectation and a divergence at both sizes, its value
alone as well.
"""

import argparse
import copy
import math
import pickle
import random
import statistics
import time
from collections.abc import Callable

import torch
from handwritten import HandVAE
from interleaved import SIZES, Size, gradient_step, interleave
from pixyz_networks import networks
from torch import Tensor, nn
from torch.distributions import Bernoulli, Normal

from pixyz.core import Loss
from pixyz.distributions import Normal as Prior
from pixyz.losses import ELBO, IWAE, DReG, KullbackLeibler

SIZE = SIZES["small"]


def log_weights(vae: HandVAE, x: Tensor, count: int) -> Tensor:
    """log p(x,z) - log q(z|x), `(count, batch)`, the decoder run once for all draws."""
    loc, scale = vae.encoder(x)
    q = Normal(loc, scale)
    z = q.rsample((count,))
    probs = vae.decoder(z.flatten(0, 1)).unflatten(0, (count, -1))
    return Bernoulli(probs=probs).log_prob(x).sum(-1) + Normal(torch.zeros(()), torch.ones(())).log_prob(z).sum(-1) - q.log_prob(z).sum(-1)


def hand_and_ours(size: Size) -> tuple[HandVAE, nn.ModuleList, Tensor]:
    """The model by hand, the networks of ours, and data."""
    torch.manual_seed(0)
    x = (torch.rand(size.batch, size.data) > 0.5).float()
    return HandVAE(size), networks(size), x


def compare_sum(rounds: int) -> None:
    """E_q[log p(x|z)] - KL[q||p(z)] beside the same by hand, with the same validation and calling convention."""
    print(f"\n{'Expectation - KullbackLeibler':32}{'ours, µs':>10}{'by hand, µs':>13}{'ratio':>8}")
    for name, size in SIZES.items():
        vae, nets, x = hand_and_ours(size)
        prior = Prior(var=["z"], loc=0.0, scale=1.0, dim=size.latent)
        loss = -(nets[1].log_prob().expectation(nets[0]) - KullbackLeibler(nets[0], prior)).mean()
        for title, a, b in (
            (f"{name}, value", lambda: loss.estimate({"x": x}), lambda: vae({"x": x})),
            (
                f"{name}, value and gradient",
                gradient_step(loss, lambda: loss.estimate({"x": x})),
                gradient_step(vae, lambda: vae({"x": x})),
            ),
        ):
            report(title, a, b, rounds if name == "large" else 5 * rounds)


def report(title: str, ours: Callable[[], object], by_hand: Callable[[], object], rounds: int) -> None:
    for run in (ours, by_hand, ours, by_hand):
        run()
    taken = interleave({"ours": ours, "by hand": by_hand}, repeats=rounds, shuffler=random.Random(0))
    print(f"{title:32}{taken['ours']:10.0f}{taken['by hand']:13.0f}{taken['ours'] / taken['by hand']:8.2f}")


def compare(rounds: int) -> None:
    vae, nets, x = hand_and_ours(SIZE)
    q, p = nets[0], nets[1] * Prior(var=["z"], loc=0.0, scale=1.0, dim=SIZE.latent)

    def ours(loss: Loss) -> Callable[[], float]:
        loss = -loss.mean()
        return gradient_step(loss, lambda: loss.estimate({"x": x}))

    def by_hand(value: Callable[[], Tensor]) -> Callable[[], float]:
        return gradient_step(vae, lambda: -value().mean())

    rows = {
        "ELBO, 64 draws": (ours(ELBO(p, q, num_samples=64)), by_hand(lambda: log_weights(vae, x, 64).mean(0))),
        "IWAE, 64 draws": (ours(IWAE(p, q, num_samples=64)), by_hand(lambda: log_weights(vae, x, 64).logsumexp(0) - math.log(64))),
        "DReG, 64 draws (IWAE by hand)": (
            ours(DReG(p, q, num_samples=64)),
            by_hand(lambda: log_weights(vae, x, 64).logsumexp(0) - math.log(64)),
        ),
    }
    print(f"{'':32}{'ours, µs':>10}{'by hand, µs':>13}{'ratio':>8}")
    for title, (a, b) in rows.items():
        report(title, a, b, rounds)


def formulas() -> None:
    """Sums of many different terms."""
    print(f"\n{'terms':>8}{'build, ms':>12}{'print':>8}{'deepcopy':>10}{'pickle':>8}")
    for count in (200, 2000):
        terms = [Prior(var=["z"], loc=float(i), scale=1.0, name=f"p_{i}").log_prob() for i in range(count)]

        def build(terms: list[Loss] = terms) -> Loss:
            total = terms[0]
            for i, term in enumerate(terms[1:]):
                total = total + i * term
            return total

        total = build()
        row = [build, lambda t=total: str(t), lambda t=total: copy.deepcopy(t), lambda t=total: pickle.dumps(t)]
        print(f"{count:8}{timed(row[0]):12.1f}{timed(row[1]):8.1f}{timed(row[2]):10.1f}{timed(row[3]):8.1f}")


def timed(run: Callable[[], object]) -> float:
    """Milliseconds, the median of five."""
    taken = []
    for _ in range(5):
        start = time.perf_counter()
        run()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken) * 1e3


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=60)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, one thread, medians of {rounds} rounds")
    compare(rounds)
    compare_sum(rounds)
    formulas()


if __name__ == "__main__":
    main()
