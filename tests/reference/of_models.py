"""Rows of pixyz.models: the losses of the ready-made models, before and after steps of their optimisers, and log-likelihoods."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from pixyz.core import Constant, Distribution
from pixyz.distributions import Normal
from pixyz.losses import MMD, Parameter
from pixyz.models import ML, VAE, VI, CyclicalSchedule, LinearSchedule, LogLikelihood, Model

from .row import Row, f64, free, wave

X = wave(4, 3)


def encoder() -> Normal:
    return Normal("q(z|x)", loc=nn.Linear(3, 2), scale=free([0.8, 1.1]))


def decoder() -> Normal:
    return Normal("p(x|z)", loc=nn.Linear(2, 3), scale=free(0.6))


def prior() -> Normal:
    return Normal("p(z)", loc=free([0.2, -0.1]), scale=free([1.1, 0.9]))


def inference(**options: Any) -> VI:
    return VI(decoder() * prior(), encoder(), num_samples=2, **{"optimizer_params": {"lr": 0.05}, **options})


def autoencoder() -> VAE:
    return VAE(encoder(), decoder(), prior())


def regularised() -> VAE:
    q = encoder()
    return VAE(q, decoder(), regularizer=10.0 * MMD(q, prior()))


def likelihood() -> ML:
    return ML(Normal("p(x)", loc=free([0.1, 0.2, 0.3]), scale=free(0.9)))


def loss_of(make: Callable[[], Model]) -> Row:
    return Row(make().loss, {"x": X})


def trained(make: Callable[[], Model], steps: int = 3) -> Row:
    """The loss after some steps."""
    model = make()
    for _ in range(steps):
        model.train({"x": X})
    return Row(model.loss, {"x": X})


def averaged() -> Row:
    """The loss of the average of the weights."""
    model = inference(ema=0.5)
    for _ in range(3):
        model.train({"x": X})
    with model.averaged(), torch.no_grad():
        value = model.loss.estimate({"x": X})
    return Row(Constant(value))


def annealed() -> Row:
    """A weight that follows a schedule."""
    weights = {"linear": LinearSchedule(0.0, 1.0, steps=4), "cyclical": CyclicalSchedule(0.0, 1.0, period=4)}
    loss = Parameter("linear") * likelihood().loss + Parameter("cyclical") * ML(Normal("r(x)", loc=free([0.1, 0.2, 0.3]), scale=1.0)).loss
    return Row(loss, {"x": X, **{name: f64(schedule(1)) for name, schedule in weights.items()}})


def log_likelihood(p: Distribution, q: Distribution | None, **options: Any) -> Row:
    model = ML(p) if q is None else VI(p, q)
    found = model.log_likelihood({"x": X}, **options)
    assert isinstance(found, LogLikelihood)
    return Row(Constant(found.each.double()))


ROWS: dict[str, Callable[[], Row]] = {
    "VI": lambda: loss_of(inference),
    "VI after steps of Adam": lambda: trained(inference),
    "VI after steps of SGD with momentum": lambda: trained(
        lambda: inference(optimizer=torch.optim.SGD, optimizer_params={"lr": 0.01, "momentum": 0.9})
    ),
    "VI after steps with clipped gradients": lambda: trained(lambda: inference(clip_grad_norm=0.1)),
    "VI with averaged weights": averaged,
    "VAE": lambda: loss_of(autoencoder),
    "VAE with another regulariser": lambda: loss_of(regularised),
    "VAE after steps of Adam": lambda: trained(autoencoder),
    "ML": lambda: loss_of(likelihood),
    "ML after steps of Adam": lambda: trained(likelihood),
    "schedules": annealed,
    "log-likelihood, exact": lambda: log_likelihood(Normal("p(x)", loc=free([0.1, 0.2, 0.3]), scale=free(0.9)), None),
    "log-likelihood, exact, in bits": lambda: log_likelihood(
        Normal("p(x)", loc=free([0.1, 0.2, 0.3]), scale=free(0.9)), None, unit="bits/dim"
    ),
    "log-likelihood, by importance sampling": lambda: log_likelihood(decoder() * prior(), encoder(), num_samples=5),
}
