"""What enumeration costs: the unlabelled bound of a semi-supervised VAE, ten labels summed, beside the same by hand.

    python tests/benchmarks/estimators.py [--runs 3] [--rounds 200] [--compiled]

One thread; loss and gradient. By hand twice, the batch repeated for every label so that each network runs once: with the densities of
torch.distributions, which validates as we do, and lean, without distribution objects or checks. `--compiled` has all rows compiled. Medians
of interleaved rounds and of the runs.
"""

import argparse
import math
import random
from collections.abc import Callable

import torch
import torch.nn.functional as F
from handwritten import log_bernoulli
from interleaved import HAND, LEAN, SAME_LOSS, SIZES, Size, Step, gradient_step, interleave
from table import again, collect, print_table
from torch import Tensor, distributions, nn

from pixyz.core import Loss
from pixyz.distributions import Bernoulli, Categorical, Normal
from pixyz.losses import ELBO

LABELS = 10


class Encoder(nn.Module):
    def __init__(self, size: Size) -> None:
        super().__init__()
        self.hidden = nn.Linear(size.data + LABELS, size.hidden)
        self.out = nn.Linear(size.hidden, 2 * size.latent)

    def forward(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        loc, scale = self.out(F.relu(self.hidden(torch.cat([x, y], -1)))).chunk(2, -1)
        return {"loc": loc, "scale": F.softplus(scale)}


class Decoder(nn.Module):
    def __init__(self, size: Size) -> None:
        super().__init__()
        self.hidden = nn.Linear(LABELS + size.latent, size.hidden)
        self.out = nn.Linear(size.hidden, size.data)

    def forward(self, y: Tensor, z: Tensor) -> Tensor:
        return self.out(F.relu(self.hidden(torch.cat([y, z], -1))))


class Networks(nn.Module):
    def __init__(self, size: Size) -> None:
        super().__init__()
        self.encoder, self.decoder = Encoder(size), Decoder(size)
        self.classifier = nn.Sequential(nn.Linear(size.data, size.hidden), nn.ReLU(), nn.Linear(size.hidden, LABELS))


class ByHand(nn.Module):
    """-Σ_y q(y|x) [log p(x,y,z) - log q(y,z|x)], z drawn from q(z|x,y), averaged over the batch."""

    def __init__(self, networks: Networks, latent: int) -> None:
        super().__init__()
        self.networks, self.latent = networks, latent

    def forward(self, values: dict[str, Tensor]) -> Tensor:
        validate = not torch.compiler.is_compiling()
        x = values["x"]
        n = len(x)
        log_q_y = self.networks.classifier(x).log_softmax(-1).T
        many_x = x.expand(LABELS, -1, -1).flatten(0, 1)
        y = torch.eye(LABELS).repeat_interleave(n, 0)
        q = distributions.Normal(**self.networks.encoder(many_x, y), validate_args=validate)
        z = q.rsample()
        likelihood = distributions.Bernoulli(logits=self.networks.decoder(y, z), validate_args=validate).log_prob(many_x).sum(-1)
        prior = distributions.Normal(torch.zeros(self.latent), torch.ones(self.latent), validate_args=validate).log_prob(z).sum(-1)
        inside = (likelihood + prior - q.log_prob(z).sum(-1)).unflatten(0, (LABELS, n)) - math.log(LABELS) - log_q_y
        return -(log_q_y.exp() * inside).sum(0).mean()


class Lean(ByHand):
    """The same without distribution objects or checks; the constants of both normal densities cancel."""

    def forward(self, values: dict[str, Tensor]) -> Tensor:
        x = values["x"]
        n = len(x)
        log_q_y = self.networks.classifier(x).log_softmax(-1).T
        many_x = x.expand(LABELS, -1, -1).flatten(0, 1)
        y = torch.eye(LABELS).repeat_interleave(n, 0)
        q = self.networks.encoder(many_x, y)
        noise = torch.randn_like(q["loc"])
        z = q["loc"] + q["scale"] * noise
        inside = log_bernoulli(many_x, self.networks.decoder(y, z)) + (0.5 * (noise**2 - z**2) + q["scale"].log()).sum(-1)
        return -(log_q_y.exp() * (inside.unflatten(0, (LABELS, n)) - math.log(LABELS) - log_q_y)).sum(0).mean()


def ours(networks: Networks, size: Size) -> Loss:
    prior = Normal("p(z)", loc=0.0, scale=1.0, dim=size.latent) * Categorical("p(y)", probs=torch.full((LABELS,), 1 / LABELS))
    p = Bernoulli("p(x|y,z)", logits=networks.decoder) * prior
    q = Normal("q(z|x,y)", networks.encoder) * Categorical("q(y|x)", logits=networks.classifier)
    return -ELBO(p, q, estimator={"y": "enumerate"}).mean()


def step(module: nn.Module, x: Tensor, compiled: bool) -> Callable[[], float]:
    if compiled:
        module.compile(fullgraph=True)

    return gradient_step(module, lambda: module({"x": x}))


def rows(size: Size, compiled: bool) -> dict[str, Step]:
    torch.compiler.reset()
    torch.manual_seed(0)
    networks = Networks(size)
    x = (torch.rand(size.batch, size.data) > 0.5).float()
    modules = {row: make(networks, size.latent) for make, name in ((ByHand, HAND), (Lean, LEAN)) for row in (name, again(name))}
    steps = {row: step(module, x, compiled) for row, module in (modules | {"pixyz": ours(networks, size)}).items()}
    first = {row: sum(run() for _ in range(10)) for row, run in steps.items()}
    if any(abs(value / first[HAND] - 1) > SAME_LOSS for value in first.values()):
        raise SystemExit(f"the losses differ: {first}")
    return steps


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--compiled", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    kind = "compiled" if args.compiled else "eager"
    print(f"torch {torch.__version__}, one thread, {args.runs} runs of {args.rounds} rounds, {kind}")
    for name, size in SIZES.items():
        medians = collect(
            lambda size=size: interleave(rows(size, args.compiled), repeats=args.rounds, shuffler=random.Random(0)), args.runs
        )
        print_table(f"ten labels enumerated, {name}: batch {size.batch}, data {size.data}", medians, [HAND, LEAN])


if __name__ == "__main__":
    main()
