"""Rows of mean, variance, mode and entropy in closed form, one after the other, as far as they are known; and of means of joints."""

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor

import pixyz.distributions as d
from pixyz.core import Distribution, IntractableError

from . import of_composed, of_sequences
from .of_distributions import FAMILIES, member
from .row import BATCH, Computed, Row, differentiated, free, wave

X, Y = wave(BATCH, 2), wave(BATCH, 1, shift=1.0)


def known(p: Distribution, values: Mapping[str, Tensor]) -> Tensor:
    found = []
    for ask in (p.mean, p.variance, p.mode, p.entropy):
        try:
            found.append(ask(values).double().flatten())
        except IntractableError:
            continue
    return torch.cat(found)


def moments(p: Distribution, **values: Tensor) -> Row:
    return Row(Computed(partial(known, p), p), {k: differentiated(v) for k, v in values.items()})


def of_family(name: str) -> Row:
    return moments(member(name, FAMILIES[name][1]))


def means(p: Distribution, *names: str, **values: Tensor) -> Row:
    """Of a joint the mean of each conditional, given the means above it."""

    def all_of_them(given: Mapping[str, Tensor]) -> Tensor:
        found = p.sample_mean(given, return_all=False)
        return torch.cat([found[name].flatten() for name in names])

    return Row(Computed(all_of_them, p), values)


def of_state(make: Callable[[int], Distribution], var: str) -> Row:
    values = {k: v.detach()[:1] for k, v in of_sequences.observations(4).items()}
    return moments(make(4).marginalize_var(of_sequences.states(4)).posterior(var), **values)


def importance_sampled() -> Row:
    """log p(x) by draws of a proposal."""
    p, q = of_sequences.factors(), d.Normal("q(z|x)", loc=torch.nn.Linear(3, 2), scale=free([0.8, 0.6]))
    return Row(Computed(lambda values: p.log_likelihood(values, proposal=q, num_samples=4), p, q), {"x": wave(BATCH, 3)})


ROWS: dict[str, Callable[[], Row]] = {
    **{name: partial(of_family, name) for name in FAMILIES if not name.startswith("Relaxed")},
    "Empirical": lambda: moments(d.Empirical("p_data(x)", x=torch.nn.Parameter(wave(4, 2)))),
    "Joint": lambda: means(d.Normal("p(x|z)", loc="z", scale=0.7) * of_composed.normal("p(z)"), "x", "z"),
    "Normal with networks": lambda: moments(of_composed.Encoder(), x=X[:1]),
    "ProductOfNormal": lambda: moments(d.ProductOfNormal(of_composed.experts()), x=X[:1], y=Y[:1]),
    "ZeroInflated Poisson": lambda: moments(d.ZeroInflated(d.Poisson("p(x)", rate=free([2.5, 0.7])), gate=free(0.3))),
    "hidden Markov chain, a state": partial(of_state, of_sequences.hidden_markov, "z_2"),
    "linear-Gaussian chain, a state": partial(of_state, of_sequences.linear_gaussian, "z_3"),
    "a log-likelihood by importance sampling": importance_sampled,
}
