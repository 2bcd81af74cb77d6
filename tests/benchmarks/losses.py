"""What the Loss API costs: many draws, divergences and bounds beside the same by hand, and formulas of many terms.

    python tests/benchmarks/losses.py [--runs 5] [--rounds 60]

One thread; loss and gradient, batch 32, with a decoder of logits. By hand twice: with torch.distributions and its validation, and lean,
without distribution objects or checks. DReG by hand runs its decoder once and weighs the gradient with a hook on z (Tucker et al., 2019).
The sum of an expectation and a divergence at both sizes, its value alone as well. Medians of interleaved rounds and of the runs.
"""

import argparse
import copy
import math
import pickle
import random
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from handwritten import HandVAE, LeanVAE, decode_logits, encode, log_bernoulli
from interleaved import HAND, LEAN, SIZES, Size, gradient_step, interleave, seeded
from pixyz_networks import DecoderOfLogits, networks
from table import again, collect, print_table
from torch import Tensor, nn
from torch.distributions import Bernoulli, Normal

from pixyz.core import Loss
from pixyz.distributions import Normal as Prior
from pixyz.losses import ELBO, IWAE, DReG, KullbackLeibler

SIZE = SIZES["small"]
DRAWS = 64
OURS = "pixyz"

Row = tuple[nn.Module, Callable[[], Tensor]]
"""What is trained, and the loss."""
Rows = dict[str, Row]


def log_weights(vae: HandVAE, x: Tensor, *, stop: bool = False) -> tuple[Tensor, Tensor]:
    """log p(x,z) - log q(z|x), `(draws, batch)`, and z. The decoder runs once for all draws; `stop` holds q fixed in its own density."""
    loc, scale = vae.encoder(x)
    q = Normal(loc, scale)
    z = q.rsample((DRAWS,))
    p = Bernoulli(logits=decode_logits(vae.decoder, z))
    density = Normal(loc.detach(), scale.detach()) if stop else q
    prior = Normal(torch.zeros(()), torch.ones(()))
    return p.log_prob(x).sum(-1) + prior.log_prob(z).sum(-1) - density.log_prob(z).sum(-1), z


def lean_log_weights(vae: HandVAE, x: Tensor, *, stop: bool = False) -> tuple[Tensor, Tensor]:
    """The same without distribution objects or checks; the constants of both normal densities cancel."""
    loc, scale = encode(vae.encoder, x)
    noise = torch.randn(DRAWS, *loc.shape)
    z = loc + scale * noise
    if stop:
        scale, noise = scale.detach(), (z - loc.detach()) / scale.detach()
    log_p = log_bernoulli(x.expand(DRAWS, *x.shape), decode_logits(vae.decoder, z))
    return log_p + (0.5 * (noise**2 - z**2) + scale.log()).sum(-1), z


def iwae(log_w: Tensor, z: Tensor) -> Tensor:
    return log_w.logsumexp(0) - math.log(DRAWS)


def dreg(log_w: Tensor, z: Tensor) -> Tensor:
    """A surrogate with the doubly reparametrised gradient: the weights once in the loss and once more on the way back to z."""
    weights = log_w.detach().softmax(0)
    z.register_hook(lambda slope: weights[..., None] * slope)
    return (weights * log_w).sum(0)


BOUNDS: dict[str, tuple[type[Loss], Callable[[Tensor, Tensor], Tensor], bool]] = {
    "ELBO": (ELBO, lambda log_w, z: log_w.mean(0), False),
    "IWAE": (IWAE, iwae, False),
    "DReG": (DReG, dreg, True),
}


def hand_and_ours(size: Size) -> tuple[HandVAE, LeanVAE, nn.ModuleList, Tensor]:
    """The models by hand, the networks of ours, and data."""
    torch.manual_seed(1)
    x = (torch.rand(size.batch, size.data) > 0.5).float()
    return seeded(HandVAE, size), seeded(LeanVAE, size), seeded(partial(networks, decoder=DecoderOfLogits), size), x


def bound_rows(name: str) -> Rows:
    ours, of_weights, stop = BOUNDS[name]
    vae, lean, nets, x = hand_and_ours(SIZE)
    loss = -ours(nets[1] * Prior(var=["z"], loc=0.0, scale=1.0, dim=SIZE.latent), nets[0], num_samples=DRAWS).mean()

    def by_hand(vae: HandVAE, weights: Callable[..., tuple[Tensor, Tensor]]) -> Row:
        return vae, lambda: -of_weights(*weights(vae, x, stop=stop)).mean()

    return {
        HAND: by_hand(vae, log_weights),
        again(HAND): by_hand(vae, log_weights),
        LEAN: by_hand(lean, lean_log_weights),
        again(LEAN): by_hand(lean, lean_log_weights),
        OURS: (loss, lambda: loss.estimate({"x": x})),
    }


def with_logits(vae: HandVAE, values: dict[str, Tensor]) -> Tensor:
    """-ELBO with torch.distributions, whose decoder gives logits."""
    x = values["x"]
    loc, scale = vae.encoder(x)
    z = Normal(loc, scale).rsample()
    kl = (0.5 * (loc**2 + scale**2 - 1) - scale.log()).sum(-1)
    return (kl - Bernoulli(logits=decode_logits(vae.decoder, z)).log_prob(x).sum(-1)).mean()


def sum_rows(size: Size) -> Rows:
    """E_q[log p(x|z)] - KL[q||p(z)]."""
    vae, lean, nets, x = hand_and_ours(size)
    prior = Prior(var=["z"], loc=0.0, scale=1.0, dim=size.latent)
    loss = -(nets[1].log_prob().expectation(nets[0]) - KullbackLeibler(nets[0], prior)).mean()
    return {
        HAND: (vae, lambda: with_logits(vae, {"x": x})),
        again(HAND): (vae, lambda: with_logits(vae, {"x": x})),
        LEAN: (lean, lambda: lean({"x": x})),
        again(LEAN): (lean, lambda: lean({"x": x})),
        OURS: (loss, lambda: loss.estimate({"x": x})),
    }


def need_same_gradient(rows: Rows) -> None:
    """Stops if a row has not the gradient of the first: then there is nothing to compare."""
    found = {}
    for row, (module, value) in rows.items():
        torch.manual_seed(2)
        module.zero_grad()
        value().backward()
        found[row] = float(sum(w.grad.square().sum() for w in module.parameters()).sqrt())
    for row, norm in found.items():
        if not math.isclose(norm, found[HAND], rel_tol=1e-4):
            raise SystemExit(f"{row}: the gradient's norm is {norm}, but {found[HAND]} with {HAND}.")


def measure(make: Callable[[], Rows], rounds: int, *, gradient: bool = True) -> dict[str, float]:
    rows = make()
    need_same_gradient(rows)
    steps = {row: gradient_step(module, value) if gradient else value for row, (module, value) in rows.items()}
    for step in [*steps.values()] * 3:
        step()
    return interleave(steps, repeats=rounds, shuffler=random.Random(0))


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
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=60)
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, one thread, {args.runs} runs of {args.rounds} rounds")
    for name in BOUNDS:
        medians = collect(lambda name=name: measure(partial(bound_rows, name), args.rounds), args.runs)
        print_table(f"{name}, {DRAWS} draws, loss and gradient", medians, [HAND, LEAN])
    for name, size in SIZES.items():
        for gradient in (False, True):
            medians = collect(lambda size=size, g=gradient: measure(partial(sum_rows, size), args.rounds, gradient=g), args.runs)
            print_table(f"Expectation - KullbackLeibler, {name}, {'loss and gradient' if gradient else 'loss'}", medians, [HAND, LEAN])
    formulas()


if __name__ == "__main__":
    main()
