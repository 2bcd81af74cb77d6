"""What the Loss API costs: many draws, divergences and bounds beside the same by hand, and formulas of many terms.

    python tests/benchmarks/losses.py [--rounds 60]

One thread; medians of interleaved rounds, loss and gradient, batch 32.
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
from interleaved import SIZES, interleave
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


def closed_form(vae: HandVAE, x: Tensor) -> Tensor:
    loc, scale = vae.encoder(x)
    z = Normal(loc, scale).rsample()
    kl = (0.5 * (loc**2 + scale**2 - 1) - scale.log()).sum(-1)
    return Bernoulli(probs=vae.decoder(z)).log_prob(x).sum(-1) - kl


def step(module: nn.Module, value: Callable[[], Tensor]) -> Callable[[], float]:
    def run() -> float:
        module.zero_grad()
        loss = value()
        loss.backward()
        return float(loss.detach())

    return run


def compare(rounds: int) -> None:
    torch.manual_seed(0)
    x = (torch.rand(SIZE.batch, SIZE.data) > 0.5).float()
    vae = HandVAE(SIZE)
    nets = networks(SIZE)
    q, p = nets[0], nets[1] * Prior(var=["z"], loc=0.0, scale=1.0, dim=SIZE.latent)
    prior = p.marginalize_var("x")

    def ours(loss: Loss) -> Callable[[], float]:
        loss = -loss.mean()
        return step(loss, lambda: loss.estimate({"x": x}))

    def by_hand(value: Callable[[], Tensor]) -> Callable[[], float]:
        return step(vae, lambda: -value().mean())

    rows = {
        "ELBO, 64 draws": (ours(ELBO(p, q, num_samples=64)), by_hand(lambda: log_weights(vae, x, 64).mean(0))),
        "IWAE, 64 draws": (ours(IWAE(p, q, num_samples=64)), by_hand(lambda: log_weights(vae, x, 64).logsumexp(0) - math.log(64))),
        "Expectation - KullbackLeibler": (
            ours(nets[1].log_prob().expectation(q) - KullbackLeibler(q, prior)),
            by_hand(lambda: closed_form(vae, x)),
        ),
        "DReG, 64 draws (IWAE by hand)": (
            ours(DReG(p, q, num_samples=64)),
            by_hand(lambda: log_weights(vae, x, 64).logsumexp(0) - math.log(64)),
        ),
    }
    print(f"{'':32}{'ours, µs':>10}{'by hand, µs':>13}{'ratio':>8}")
    for title, (a, b) in rows.items():
        for run in (a, b, a, b):
            run()
        taken = interleave({"ours": a, "by hand": b}, repeats=rounds, shuffler=random.Random(0))
        print(f"{title:32}{taken['ours']:10.0f}{taken['by hand']:13.0f}{taken['ours'] / taken['by hand']:8.2f}")


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
    formulas()


if __name__ == "__main__":
    main()
