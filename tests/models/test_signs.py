"""A lower bound that is minimised as it stands gives a warning, which shows the sign to write."""

import re

import pytest
from torch import optim
from zoo import Decoder, Encoder, Label, prior

from pixyz.core import Loss
from pixyz.losses import ELBO
from pixyz.models import Model, Optimizer

WRONG = {
    "a bound": (
        lambda: ELBO(Decoder() * prior(), Encoder()).mean(),
        "mean(E_q(z|x)[log p(x,z)/q(z|x)]) is a lower bound, and Model minimises it, so training makes it worse without end. "
        "To maximise it, minimise its negative, -mean(E_q(z|x)[log p(x,z)/q(z|x)]).",
    ),
    "a likelihood": (lambda: Label().log_prob().mean(), "mean(log p(y|x)) is a log-likelihood, and Model minimises it"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_to_be_maximised_gives_a_warning_that_shows_the_sign(case):
    make, message = WRONG[case]
    with pytest.warns(UserWarning, match="^" + re.escape("Model: " + message)) as caught:
        Model(make())
    assert caught[0].filename == __file__


def test_each_optimiser_counts_towards_what_is_trained():
    p, q = Decoder(), Encoder()
    loss = ELBO(p * prior(), q).mean()
    with pytest.warns(UserWarning, match="is a lower bound"):
        Model(loss, optimizers=[Optimizer([p], optim.Adam), Optimizer([q], optim.SGD, {"lr": 0.1})])


def test_a_bound_that_an_adversary_minimises_gives_none():
    p, q = Decoder(), Encoder()
    with pytest.warns(UserWarning, match=r"uses p\(x\|z\), which nobody trains") as caught:
        Model(ELBO(p * prior(), q).mean(), distributions=[q])
    assert len(caught) == 1


def test_the_right_sign_and_what_is_unknown_give_none():
    Model(-ELBO(Decoder() * prior(), Encoder()).mean())
    Model((Label().log_prob() + Loss.from_function(lambda x: x.sum(-1), "f", var=["x"])).mean())
