"""Options and constants that are nan or infinite, and given values outside of the support, are rejected when they are given."""

import math

import pytest
import torch
from torch import nn

from pixyz.core import FormulaError, KindError, MovingAverage, Parameter, Rebar, Relaxed, Score, StraightThrough, SupportError, maximum
from pixyz.distributions import Bernoulli, Binomial, Categorical, DiscretizedLogistic, Normal, Poisson, Truncated, VectorQuantizer
from pixyz.flows import BatchNormFlow, Scale, SplineMap
from pixyz.gan import clip_weights
from pixyz.losses import ELBO, MMD, Commitment, Renyi, RenyiBound, Sinkhorn, Wasserstein

PRIOR = Normal("p(z)", loc=0.0, scale=1.0)
MODEL, POSTERIOR = Normal("p(x|z)", loc="z", scale=1.0) * PRIOR, Normal("q(z|x)", loc="x", scale=1.0)
OTHER = Normal("q(z)", loc=1.0, scale=1.0)
LOSS = PRIOR.log_prob()


def quantizer(**options):
    return VectorQuantizer("q(z|x)", z=nn.Linear(2, 3), num_codes=4, dim=3, **options)


OPTIONS = {
    "free_bits": lambda v: ELBO(MODEL, POSTERIOR, kl="auto", free_bits=v),
    "beta": lambda v: ELBO(MODEL, POSTERIOR, kl="auto", beta=v),
    "a factor|A constant": lambda v: ELBO(MODEL, POSTERIOR, kl="auto", beta=torch.tensor(v)),
    "order": lambda v: RenyiBound(MODEL, POSTERIOR, v, num_samples=2),
    "alpha": lambda v: Renyi(PRIOR, OTHER, v),
    "the order": lambda v: Wasserstein(PRIOR, OTHER, order=v),
    "epsilon": lambda v: Sinkhorn(PRIOR, OTHER, epsilon=v),
    "sigma_sqr": lambda v: MMD(PRIOR, OTHER, sigma_sqr=[1.0, v]),
    "Commitment.*beta": lambda v: Commitment(quantizer(), beta=v),
    "decay": lambda v: quantizer(decay=v),
    "restart_below": lambda v: quantizer(decay=0.9, restart_below=v),
    "Relaxed: a temperature": lambda v: Relaxed(v),
    "Rebar: a temperature": lambda v: Rebar(v),
    "Rebar: scale": lambda v: Rebar(scale=v),
    "StraightThrough: a temperature": lambda v: StraightThrough(v),
    "Score: baseline": lambda v: Score(v),
    "MovingAverage: decay": lambda v: MovingAverage(v),
    r"\* log p\(z\): a factor|A constant in a formula": lambda v: v * LOSS,
    r"tensor.*: a factor|A constant in a formula.*a tensor of shape \(2,\)": lambda v: torch.tensor([1.0, v]) * LOSS,
    "log p.*/.*: a factor|A constant": lambda v: LOSS / v,
    "the exponent|A constant": lambda v: LOSS**v,
    "constant_var: b": lambda v: (Parameter("b") * LOSS).constant_var({"b": v}),
    "total_count": lambda v: Binomial("p(x)", total_count=v, probs=0.5),
    "levels": lambda v: DiscretizedLogistic("p(x)", loc=0.0, scale=1.0, levels=v),
    "Scale: by 0": lambda v: Scale(v),
    "Scale: shift": lambda v: Scale(1.0, v),
    "SplineMap: bound": lambda v: SplineMap(bound=v),
    "momentum": lambda v: BatchNormFlow(2, momentum=v),
    "eps": lambda v: BatchNormFlow(2, eps=v),
}


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_that_is_not_finite_is_rejected_by_its_name(option, value):
    with pytest.raises((KindError, FormulaError, SupportError), match=option):
        OPTIONS[option](value)


def test_the_errors_show_what_came():
    with pytest.raises(KindError, match=r"^ELBO: free_bits must be a finite number; got nan\.$"):
        ELBO(MODEL, POSTERIOR, kl="auto", free_bits=math.nan)
    with pytest.raises(KindError, match=r"^A constant in a formula must be a number; got nan, which would make the whole nan\.$"):
        LOSS + math.nan
    with pytest.raises(KindError, match=r"^inf \* log p\(z\): a factor must be finite; got inf\.$"):
        math.inf * LOSS


def test_an_infinite_bound_is_no_bound():
    z = torch.tensor([0.5, 3.0])
    for loss in (LOSS.clamp(max=math.inf), maximum(LOSS, -math.inf), Truncated(PRIOR, lower=-math.inf).log_prob()):
        torch.testing.assert_close(loss.estimate({"z": z}), LOSS.estimate({"z": z}))
    clip_weights(torch.optim.SGD, math.inf)


COIN = Bernoulli("p(y)", probs=0.5)
OF_COIN = Normal("p(x|y)", loc="y", scale=1.0) * COIN
SCALED = Normal("p(x|s)", loc=0.0, scale="s")
CHOICES = Categorical("p(k)", probs=torch.ones(3) / 3)
CHOICE = Normal("p(x|k)", loc=nn.Linear(3, 1), scale=1.0) * CHOICES
OUTSIDE = {
    "a coin": (lambda: OF_COIN.condition(y=0.3), r"p\(x,y\)\.condition\(y=0\.3\): y of p\(y\) \(Bernoulli\) must be 0 or 1, but 1 of 1"),
    "renamed": (lambda: OF_COIN.replace_var(y="w").condition(w=2.0), r"w of p\(w\) \(Bernoulli\) must be 0 or 1"),
    "a posterior": (
        lambda: (
            (Bernoulli("p(b|k)", logits=nn.Linear(3, 1)) * Categorical("p(k)", probs=torch.ones(3) / 3)).posterior("k").condition(b=0.3)
        ),
        r"b of p\(k\|b\) \(posterior\) must be 0 or 1",
    ),
    "one-hot": (lambda: CHOICE.condition(k=torch.tensor([0.5, 0.5, 0.0])), r"k of p\(k\) \(Categorical\) must be one-hot"),
    "counts": (
        lambda: (Normal("p(x|n)", loc="n", scale=1.0) * Poisson("p(n)", rate=2.0)).condition(n=1.5),
        r"n of p\(n\) \(Poisson\) must be a whole number, at least 0",
    ),
    "a parameter": (lambda: SCALED.condition(s=-1.0), r"s of p\(x\|s\) \(Normal\) must be positive"),
    "nan": (lambda: OF_COIN.condition(x=math.nan), r"condition\(x=nan\): 1 of 1 numbers of x are nan"),
}


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_given_value_outside_of_the_support_is_rejected(name):
    make, words = OUTSIDE[name]
    with pytest.raises(SupportError, match=words):
        make()


def test_a_given_value_in_the_support_is_kept():
    assert OF_COIN.condition(y=1.0).mean() == 1.0
    assert SCALED.condition(s=2.0).variance() == 4.0
    assert "k=[0,1,0]" in str(CHOICE.condition(k=torch.tensor([0.0, 1.0, 0.0])).formula)
