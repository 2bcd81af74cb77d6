"""What a loss over a sequence costs: a deep Markov model beside the same as a plain loop.

    python tests/benchmarks/sequences.py [--rounds 20]

T = 50, batch 64, x 88, hidden 128, z 32; one thread; medians of interleaved rounds, loss and gradient.
"""

import argparse
import random

import torch
import torch.nn.functional as F
from interleaved import gradient_step, interleave
from torch import Tensor, nn
from torch.distributions import Bernoulli as TorchBernoulli
from torch.distributions import Normal as TorchNormal
from torch.distributions import kl_divergence

from pixyz.distributions import Bernoulli, Deterministic, Normal
from pixyz.losses import ELBO, IterativeLoss, Loss

STEPS, BATCH, DATA, HIDDEN, LATENT = 50, 64, 88, 128, 32


class Heads(nn.Module):
    """loc and scale after one hidden layer."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.hidden, self.heads = nn.Linear(inputs, HIDDEN), nn.Linear(HIDDEN, 2 * LATENT)

    def forward(self, *inputs: Tensor) -> dict[str, Tensor]:
        loc, scale = self.heads(torch.tanh(self.hidden(torch.cat(inputs, -1)))).chunk(2, -1)
        return {"loc": loc, "scale": F.softplus(scale) + 1e-3}


class Emission(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.logits = nn.Linear(LATENT, HIDDEN), nn.Linear(HIDDEN, DATA)

    def forward(self, z: Tensor) -> dict[str, Tensor]:
        return {"logits": self.logits(torch.relu(self.hidden(z)))}


class Backward(nn.Module):
    """For every step, a summary of it and all that comes later."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(DATA, HIDDEN, batch_first=True)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"h": self.rnn(x.flip(1))[0].flip(1)}


class DeepMarkovModel(nn.Module):
    """The networks, and the bound as a loop by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.emission, self.transition, self.combiner, self.backward_rnn = Emission(), Heads(LATENT), Heads(LATENT + HIDDEN), Backward()

    def by_hand(self, x: Tensor, *, analytic: bool) -> Tensor:
        h = self.backward_rnn(x)["h"]
        z = x.new_zeros(len(x), LATENT)
        total = x.new_zeros(len(x))
        for t in range(STEPS):
            q = TorchNormal(**self.combiner(z, h[:, t]))
            prior = TorchNormal(**self.transition(z))
            z = q.rsample()
            total = total + TorchBernoulli(**self.emission(z)).log_prob(x[:, t]).sum(-1)
            total = total - (kl_divergence(q, prior) if analytic else q.log_prob(z) - prior.log_prob(z)).sum(-1)
        return -total.mean()

    def formula(self, *, kl: str) -> Loss:
        p = Bernoulli("p(x|z)", self.emission) * Normal("p(z|z_prev)", self.transition)
        q = Normal("q(z|z_prev,h)", self.combiner)
        step = IterativeLoss(ELBO(p, q, kl=kl), series_var=["x", "h"], update_value={"z": "z_prev"})
        return -step.expectation(Deterministic("rnn(h|x)", self.backward_rnn)).mean()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=20)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = DeepMarkovModel()
    x = (torch.rand(BATCH, STEPS, DATA) > 0.5).float()
    values = {"x": x, "z_prev": torch.zeros(BATCH, LATENT)}
    print(f"torch {torch.__version__}, one thread, medians of {rounds} rounds, milliseconds")
    print(f"{'deep Markov model':32}{'ours':>10}{'by hand':>10}{'ratio':>8}")
    for kl in ("analytic", "sample"):
        loss = model.formula(kl=kl)
        steps = {
            "ours": gradient_step(model, lambda loss=loss: loss.estimate(values)),
            "by hand": gradient_step(model, lambda kl=kl: model.by_hand(x, analytic=kl == "analytic")),
        }
        same = []
        for run in steps.values():
            torch.manual_seed(0)
            same.append(run())
        if abs(same[0] / same[1] - 1) > 1e-4:
            raise SystemExit(f"not the same loss: {same}")
        taken = interleave(steps, repeats=rounds, shuffler=random.Random(0))
        print(f"{'KL ' + kl:32}{taken['ours'] / 1e3:10.1f}{taken['by hand'] / 1e3:10.1f}{taken['ours'] / taken['by hand']:8.2f}")


if __name__ == "__main__":
    main()
