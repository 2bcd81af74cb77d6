"""What a loss over a sequence costs: a deep Markov model beside the same as a plain loop.

    python tests/benchmarks/sequences.py [--runs 3] [--rounds 20]

T = 50, batch 64, x 88, hidden 128, z 32; one thread; loss and gradient. By hand twice: a loop over the steps with torch.distributions and
its validation, and lean: the loop has what the next step needs, all else is computed once for all steps, without distribution objects or
checks. Medians of interleaved rounds and of the runs.
"""

import argparse
import random

import torch
import torch.nn.functional as F
from handwritten import log_bernoulli
from interleaved import HAND, LEAN, Step, gradient_step, interleave, need_same_loss
from table import again, collect, print_table
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

    def lean(self, x: Tensor, *, analytic: bool) -> Tensor:
        h = self.backward_rnn(x)["h"]
        z = x.new_zeros(len(x), LATENT)
        noise = torch.randn(STEPS, len(x), LATENT)
        states, locs, scales = [z], [], []
        for t in range(STEPS):
            q = self.combiner(z, h[:, t])
            z = q["loc"] + q["scale"] * noise[t]
            states.append(z)
            locs.append(q["loc"])
            scales.append(q["scale"])
        z, loc, scale = torch.stack(states), torch.stack(locs), torch.stack(scales)
        prior = self.transition(z[:-1])
        if analytic:
            ratio = (scale / prior["scale"]).square()
            kl = 0.5 * (ratio + ((loc - prior["loc"]) / prior["scale"]).square() - 1 - ratio.log())
        else:
            kl = 0.5 * (((z[1:] - prior["loc"]) / prior["scale"]).square() - noise.square()) + (prior["scale"] / scale).log()
        log_p = log_bernoulli(x.transpose(0, 1), self.emission(z[1:])["logits"])
        return (kl.sum(-1) - log_p).sum(0).mean()

    def formula(self, *, kl: str) -> Loss:
        p = Bernoulli("p(x|z)", self.emission) * Normal("p(z|z_prev)", self.transition)
        q = Normal("q(z|z_prev,h)", self.combiner)
        step = IterativeLoss(ELBO(p, q, kl=kl), series_var=["x", "h"], update_value={"z": "z_prev"})
        return -step.expectation(Deterministic("rnn(h|x)", self.backward_rnn)).mean()


def rows(kl: str) -> dict[str, Step]:
    torch.manual_seed(0)
    model = DeepMarkovModel()
    x = (torch.rand(BATCH, STEPS, DATA) > 0.5).float()
    values = {"x": x, "z_prev": torch.zeros(BATCH, LATENT)}
    loss, analytic = model.formula(kl=kl), kl == "analytic"
    found = {
        HAND: gradient_step(model, lambda: model.by_hand(x, analytic=analytic)),
        again(HAND): gradient_step(model, lambda: model.by_hand(x, analytic=analytic)),
        LEAN: gradient_step(model, lambda: model.lean(x, analytic=analytic)),
        again(LEAN): gradient_step(model, lambda: model.lean(x, analytic=analytic)),
        "pixyz": gradient_step(model, lambda: loss.estimate(values)),
    }
    need_same_loss(found)
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=20)
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, one thread, {args.runs} runs of {args.rounds} rounds")
    for kl in ("analytic", "sample"):
        medians = collect(lambda kl=kl: interleave(rows(kl), repeats=args.rounds, shuffler=random.Random(0)), args.runs)
        print_table(f"deep Markov model, KL {kl}, loss and gradient", medians, [HAND, LEAN], unit="ms")


if __name__ == "__main__":
    main()
