"""Options that are out of range, nan or infinite are errors when a model is built, by name and with their place in the model."""

import math
import re
from functools import partial

import pytest
import torch
from torch import optim
from torch.optim import lr_scheduler
from zoo import Decoder, Encoder, Label, prior

from pixyz.core import KindError, ParameterError
from pixyz.losses import ELBO
from pixyz.models import CyclicalSchedule, LinearSchedule, Model, Optimizer

LOSS = "-mean(E_q(z|x)[log p(x,z)/q(z|x)])"


def build(**options):
    p, q = Decoder(), Encoder()
    return Model(-ELBO(p * prior(), q).mean(), **options)


def adam(**options):
    return lambda: build(optimizer=optim.Adam, optimizer_params=options)


def scheduled(make, **options):
    return lambda: build(scheduler=make, scheduler_params=options)


def second():
    p, q = Decoder(), Encoder()
    loss = -ELBO(p * prior(), q).mean()
    return Model(loss, optimizers=[Optimizer([p]), Optimizer([q], optim.SGD, {"lr": -1.0})])


class OfItsOwn(optim.SGD):
    """It evaluates the loss itself."""

    def step(self, closure):
        return super().step(closure)


BAD = {
    "lr": (adam(lr=-1), "the optimiser Adam(lr=-1) cannot be made: Invalid learning rate: -1. Change its options"),
    "lr of the second": (second, "optimiser 2, SGD(lr=-1.0), cannot be made: Invalid learning rate: -1.0"),
    "betas": (adam(betas=(1.5, 0.9)), "the optimiser Adam(betas=(1.5, 0.9)) cannot be made: Invalid beta parameter at index 0: 1.5"),
    "one beta": (adam(betas=(0.9,)), "the optimiser Adam(betas=(0.9,)) cannot be made: "),
    "an unknown option": (adam(rate=1), "the optimiser Adam(rate=1) cannot be made: Adam.__init__() got an unexpected keyword argument"),
    "a text": (adam(lr="fast"), "the optimiser Adam(lr=fast) cannot be made: "),
    "lr nan": (adam(lr=math.nan), "the optimiser Adam(lr=nan) has the option lr=nan, which must be finite"),
    "lr infinite": (adam(lr=math.inf), "the optimiser Adam(lr=inf) has the option lr=inf, which must be finite"),
    "lr a tensor": (adam(lr=torch.tensor(math.nan)), "has the option lr=tensor(nan), which must be finite"),
    "a beta nan": (adam(betas=(0.9, math.nan)), "has the option betas=(0.9, nan), which must be finite"),
    "eps nan": (adam(eps=math.nan), "has the option eps=nan, which must be finite"),
    "weight decay": (adam(weight_decay=math.inf), "has the option weight_decay=inf, which must be finite"),
    "a scheduler": (
        scheduled(lr_scheduler.CosineAnnealingWarmRestarts, T_0=0),
        "the scheduler of the optimiser Adam(), CosineAnnealingWarmRestarts(T_0=0) cannot be made: Expected positive integer T_0",
    ),
    "a scheduler that needs more": (scheduled(lr_scheduler.StepLR), "the scheduler of the optimiser Adam(), StepLR() cannot be made: "),
    "a scheduler nan": (scheduled(lr_scheduler.ExponentialLR, gamma=math.nan), "has the option gamma=nan, which must be finite"),
    "milestones": (
        scheduled(lr_scheduler.MultiStepLR, milestones=[1, math.inf]),
        "has the option milestones=[1, inf], which must be finite",
    ),
    "clip nan": (lambda: build(clip_grad_norm=math.nan), "clip_grad_norm must be a positive, finite number; got nan"),
    "clip infinite": (lambda: build(clip_grad_norm=math.inf), "clip_grad_norm must be a positive, finite number; got inf"),
    "clip 0": (lambda: build(clip_grad_value=0), "clip_grad_value must be a positive, finite number; got 0"),
    "clip negative": (lambda: build(clip_grad_value=-1.0), "clip_grad_value must be a positive, finite number; got -1.0"),
    "clip a text": (lambda: build(clip_grad_norm="1"), "clip_grad_norm must be a positive, finite number; got '1'"),
    "accumulate": (lambda: build(accumulate=0), "accumulate is how many calls of train make one step, at least 1; got 0"),
    "accumulate nan": (lambda: build(accumulate=math.nan), "accumulate is how many calls of train make one step, at least 1; got nan"),
    "accumulate true": (lambda: build(accumulate=True), "accumulate is how many calls of train make one step, at least 1; got True"),
    "ema": (lambda: build(ema=-0.1), "ema is the decay of the average, at least 0 and below 1, such as 0.999; got -0.1"),
    "ema nan": (lambda: build(ema=math.nan), "ema is the decay of the average, at least 0 and below 1, such as 0.999; got nan"),
    "ema a text": (lambda: build(ema="0.9"), "ema is the decay of the average, at least 0 and below 1, such as 0.999; got '0.9'"),
    "critic": (
        lambda: build(n_critic=True),
        "n_critic is how many steps of the discriminators make one of the others, at least 1; got True",
    ),
    "critic half": (
        lambda: build(n_critic=1.5),
        "n_critic is how many steps of the discriminators make one of the others, at least 1; got 1.5",
    ),
    "critic 0": (
        lambda: build(n_critic=0),
        "n_critic is how many steps of the discriminators make one of the others, at least 1; got 0",
    ),
    "not in the loss": (
        lambda: build(distributions=[Label()]),
        f"distributions has p(y|x), of which {LOSS} has nothing, so it would not be trained. The loss has p(x|z), p_prior(z), q(z|x).",
    ),
    "one of two not in the loss": (
        lambda: build(optimizers=[Optimizer([Label(), Encoder()])]),
        f"distributions has p(y|x), of which {LOSS} has nothing, so it would not be trained.",
    ),
    "a loss not in the loss": (
        lambda: build(distributions=[Label().log_prob()]),
        f"distributions has log p(y|x), of which {LOSS} has nothing",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_an_option_out_of_range_is_an_error_at_build(case):
    make, message = BAD[case]
    with pytest.raises(ParameterError, match=re.escape(message)) as caught:
        make()
    assert str(caught.value).startswith("Model: ")


SCHEDULES = {
    "start": (lambda: LinearSchedule(math.nan, 1.0, steps=2), "LinearSchedule: start must be a finite number; got nan"),
    "end": (lambda: CyclicalSchedule(0.0, math.inf, period=2), "CyclicalSchedule: end must be a finite number; got inf"),
    "ramp": (lambda: CyclicalSchedule(0.0, 1.0, period=2, ramp=math.nan), "CyclicalSchedule: ramp is the share of the period"),
    "steps": (
        lambda: LinearSchedule(0.0, 1.0, steps=math.nan),
        "LinearSchedule: steps must be a whole number of steps, at least 1; got nan",
    ),
}


@pytest.mark.parametrize("case", SCHEDULES)
def test_a_schedule_of_no_finite_number_is_an_error(case):
    make, message = SCHEDULES[case]
    with pytest.raises(ParameterError, match=re.escape(message)):
        make()


CLOSURES = {"LBFGS": optim.LBFGS, "a part of it": partial(optim.LBFGS, lr=0.1), "one's own": OfItsOwn}


@pytest.mark.parametrize("make", CLOSURES.values(), ids=CLOSURES)
def test_an_optimiser_that_evaluates_the_loss_itself_is_rejected_when_the_model_is_built(make):
    with pytest.raises(KindError, match=r"^Model: (LBFGS|OfItsOwn) evaluates the loss several times in a step, which train does not\."):
        build(optimizer=make)


def test_a_network_that_the_loss_has_under_another_name_is_trained():
    p, q = Decoder(), Encoder()
    twin = Encoder()
    twin.loc = q.loc
    with pytest.warns(UserWarning, match="which nobody trains"):
        model = Model(-ELBO(p * prior(), q).mean(), distributions=[twin])
    before = q.loc.weight.clone()
    model.train({"x": torch.ones(3, 6)})
    assert not torch.equal(q.loc.weight, before)
