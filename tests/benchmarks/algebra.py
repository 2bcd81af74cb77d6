"""What the algebra of distributions costs: products of many factors, and chains of hidden states, beside the same by hand.

    python tests/benchmarks/algebra.py [--rounds 15]

One thread; medians of interleaved rounds, in the dtype float64.
"""

import argparse
import random
from collections.abc import Callable

import torch
import torch.distributions as td
from interleaved import interleave
from torch import Tensor, nn

from pixyz.core import Distribution
from pixyz.distributions import Categorical, MultivariateNormal, Normal

Pair = tuple[Callable[[], Tensor | float], Callable[[], Tensor | float]]
BATCH = 8


def product_of(count: int) -> tuple[Pair, Pair]:
    """The log-likelihood and a draw of a joint of so many independent normals, and the same by torch's distributions."""
    p: Distribution = Normal("p(x_0)", loc=torch.zeros(4), scale=torch.ones(4))
    for i in range(1, count):
        p = p * Normal(f"p(x_{i})", loc=torch.zeros(4), scale=torch.ones(4))
    values = {f"x_{i}": torch.randn(BATCH, 4) for i in range(count)}
    parameters = [(torch.zeros(4), torch.ones(4)) for _ in range(count)]

    def score() -> Tensor:
        return sum([td.Normal(loc, scale).log_prob(x).sum(-1) for (loc, scale), x in zip(parameters, values.values())], torch.zeros(()))

    def draw() -> float:
        return len({name: td.Normal(loc, scale).rsample((BATCH,)) for name, (loc, scale) in zip(values, parameters)})

    return (lambda: p.log_likelihood(values), score), (lambda: float(len(p.sample(batch_size=BATCH))), draw)


def chain(prior: Distribution, move: Distribution, see: Distribution, steps: int) -> Distribution:
    p = prior * see.replace_var(z="z_1", x="x_1")
    for t in range(2, steps + 1):
        p = p * move.replace_var(z=f"z_{t}", h=f"z_{t - 1}") * see.replace_var(z=f"z_{t}", x=f"x_{t}")
    return p.marginalize_var([f"z_{t}" for t in range(1, steps + 1)])


def hidden_markov(steps: int, states: int = 5) -> Pair:
    """log p(x) of a hidden Markov model, and the forward algorithm by hand."""
    start, table, means = torch.randn(states), torch.randn(states, states), torch.randn(states, 2)
    p = chain(
        Categorical("p(z_1)", logits=start),
        Categorical("p(z|h)", logits=lambda h: h @ table),
        Normal("p(x|z)", loc=lambda z: z @ means, scale=1.0),
        steps,
    )
    x = torch.randn(BATCH, steps, 2)
    values = {f"x_{t + 1}": x[:, t] for t in range(steps)}

    def by_hand() -> Tensor:
        log_b = td.Normal(means, 1.0).log_prob(x.unsqueeze(2)).sum(-1)
        move = table.log_softmax(-1)
        alpha = start.log_softmax(-1) + log_b[:, 0]
        for t in range(1, steps):
            alpha = (alpha.unsqueeze(-1) + move).logsumexp(1) + log_b[:, t]
        return alpha.logsumexp(-1)

    return lambda: p.log_likelihood(values), by_hand


def linear_system(steps: int) -> Pair:
    """log p(x) of a linear dynamical system, and the Kalman filter by hand."""
    move, see = nn.Linear(2, 2, bias=False), nn.Linear(2, 3, bias=False)
    q, r = 0.3 * torch.eye(2), 0.25 * torch.eye(3)
    p = chain(
        Normal("p(z_1)", loc=0.0, scale=1.0, dim=2),
        MultivariateNormal("p(z|h)", loc=move, covariance_matrix=q),
        Normal("p(x|z)", loc=see, scale=0.5),
        steps,
    )
    x = torch.randn(BATCH, steps, 3)
    values = {f"x_{t + 1}": x[:, t] for t in range(steps)}

    def by_hand() -> Tensor:
        mean, cov, total = torch.zeros(BATCH, 2), torch.eye(2), torch.zeros(BATCH)
        a, c = move.weight, see.weight
        for t in range(steps):
            if t:
                mean, cov = mean @ a.T, a @ cov @ a.T + q
            s = c @ cov @ c.T + r
            gap = x[:, t] - mean @ c.T
            total = total + td.MultivariateNormal(torch.zeros(3), s, validate_args=False).log_prob(gap)
            gain = torch.linalg.solve(s, c @ cov).T
            mean, cov = mean + gap @ gain.T, cov - gain @ c @ cov
        return total

    return lambda: p.log_likelihood(values), by_hand


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    shuffler = random.Random(0)
    print(f"torch {torch.__version__}, batch {BATCH}, one thread, medians of {rounds} rounds")
    print(f"{'':34}{'ours, ms':>10}{'by hand, ms':>13}{'ratio':>8}{'ours, µs each':>15}")
    rows: list[tuple[str, int, Pair]] = []
    for count in (4, 16, 64, 256):
        score, draw = product_of(count)
        rows += [(f"log-likelihood of {count} factors", count, score), (f"draw of {count} factors", count, draw)]
    rows += [(f"hidden Markov model, T = {t}", t, hidden_markov(t)) for t in (50, 200, 500, 2000)]
    rows += [(f"linear dynamical system, T = {t}", t, linear_system(t)) for t in (50, 200, 500, 2000)]
    for title, count, (ours, by_hand) in rows:
        for step in (ours, by_hand):
            step()
        taken = interleave({"ours": ours, "by hand": by_hand}, repeats=rounds, shuffler=shuffler)
        a, b = taken["ours"], taken["by hand"]
        print(f"{title:34}{a / 1e3:10.2f}{b / 1e3:13.2f}{a / b:8.2f}{a / count:15.1f}")


if __name__ == "__main__":
    main()
