"""After an error that comes a step late, a model trains as if the bad step, and those left out after it, had never been."""

import copy

import pytest
import torch
from torch import nn, optim

from pixyz.core import NonFiniteLossError, SupportError
from pixyz.distributions import Bernoulli, Categorical, Normal
from pixyz.models import ML, Model

GOOD = [torch.bernoulli(torch.full((4, 6), 0.5), generator=torch.Generator().manual_seed(n)) for n in range(4)]
BAD = 0.5 * torch.ones(4, 6)


def plain(**options):
    torch.manual_seed(0)
    p = Bernoulli("p(x)", logits=nn.Parameter(torch.zeros(6)))
    return ML(p, optimizer=optim.SGD, optimizer_params={"lr": 0.5, "momentum": 0.9}, **options)


def state(model):
    averages = () if model.ema is None else model.ema.state_dict()
    weights = [w.detach().clone() for w in model.trained_parameters]
    return copy.deepcopy((weights, [o.state_dict() for o in model.optimizers], averages, model.step_count))


def with_errors(model, batches):
    """Trains, and goes on after each error with the batches that come after it."""
    errors = 0
    for x in batches:
        try:
            model.train({"x": x})
        except (SupportError, NonFiniteLossError):
            errors += 1
    try:
        model.check()
    except (SupportError, NonFiniteLossError):
        errors += 1
    return errors


@pytest.mark.parametrize("place", range(3))
@pytest.mark.parametrize("options", [{}, {"ema": 0.9}], ids=["plain", "averaged"])
def test_a_step_of_several_calls_is_begun_anew(place, options):
    model, twin = (plain(accumulate=3, validate=v, **options) for v in ("deferred", True))
    for x in GOOD[:3]:
        model.train({"x": x})
        twin.train({"x": x})
    assert with_errors(model, [*GOOD[:place], BAD]) == 1
    assert model.is_between_steps
    assert model.step_count == 1
    for x in GOOD[1:]:
        model.train({"x": x})
        twin.train({"x": x})
    model.check()
    torch.testing.assert_close(state(model), state(twin), rtol=0, atol=0)


@pytest.mark.parametrize("first", [True, False])
def test_averages_and_schedulers_go_back(first):
    options = {"ema": 0.9, "scheduler": optim.lr_scheduler.ExponentialLR, "scheduler_params": {"gamma": 0.5}}
    model, twin = (plain(validate=v, **options) for v in ("deferred", True))
    if not first:
        model.train({"x": GOOD[0]})
        twin.train({"x": GOOD[0]})
    assert with_errors(model, [BAD]) == 1
    for x in GOOD[1:]:
        model.train({"x": x})
        twin.train({"x": x})
    model.check()
    torch.testing.assert_close(state(model), state(twin), rtol=0, atol=0)
    assert [s.last_epoch for s in model.schedulers] == [s.last_epoch for s in twin.schedulers]


@pytest.mark.parametrize("validate", [True, False])
def test_an_error_on_its_way_is_not_lost_with_its_flags(validate):
    model = plain(validate="deferred")
    model.train({"x": GOOD[0]})
    model.train({"x": BAD})
    with pytest.raises(SupportError, match=r"x must be 0 or 1.*The weights are those before this step, number 2; what was called"):
        model.validate = validate
    assert model.validate == "deferred"
    model.validate = validate
    model.train({"x": GOOD[1]})


def test_a_file_is_loaded_in_the_middle_of_a_step(tmp_path):
    pytest.importorskip("safetensors")
    model = plain(accumulate=2, validate="deferred")
    for x in GOOD[:2]:
        model.train({"x": x})
    model.save(tmp_path / "a")
    model.train({"x": BAD})
    model.load(tmp_path / "a")
    twin = plain(accumulate=2)
    twin.load(tmp_path / "a")
    for x in GOOD[2:]:
        model.train({"x": x})
        twin.train({"x": x})
    model.check()
    torch.testing.assert_close(state(model), state(twin), rtol=0, atol=0)


@pytest.mark.parametrize("options", [{}, {"compile": {"backend": "eager"}}, {"optimizer": optim.Adadelta, "compile": {"backend": "eager"}}])
def test_a_copy_of_a_model_trains_itself(options):
    p = Bernoulli("p(x)", logits=nn.Parameter(torch.zeros(6)))
    model = ML(p, **{"optimizer": optim.SGD, "optimizer_params": {"lr": 0.5}, **options})
    model.train({"x": GOOD[0]})
    twin = copy.deepcopy(model)
    before, copied = (m.trained_parameters[0].detach().clone() for m in (model, twin))
    twin.train({"x": GOOD[1]})
    assert torch.equal(model.trained_parameters[0], before)
    assert not torch.equal(twin.trained_parameters[0], copied)


class Scaled(Normal):
    """Its last scale is no scale."""

    def __init__(self):
        super().__init__(var=["x"], cond_var=["y"])
        self.scales = nn.Parameter(torch.tensor([1.0, 2.0, 0.0]))

    def forward(self, y):
        return {"loc": (y @ torch.arange(3.0)).unsqueeze(-1), "scale": (y * self.scales).sum(-1, keepdim=True)}


@pytest.mark.parametrize("options", [{"validate": False}, {"validate": "deferred"}, {"compile": {"backend": "eager"}}], ids=str)
def test_an_impossible_category_harms_no_step(options):
    def model(**options):
        p = (Scaled() * Categorical("p(y)", probs=torch.tensor([0.5, 0.5, 0.0]))).marginalize_var("y")
        return Model(-p.log_prob().mean(), optimizer=optim.SGD, optimizer_params={"lr": 0.1}, **options)

    one, two = model(), model(**options)
    x = {"x": torch.ones(4, 1)}
    torch.testing.assert_close(two.train(x), one.train(x))
    torch.testing.assert_close(two.trained_parameters, one.trained_parameters)


@pytest.mark.parametrize("number", [torch.inf, -torch.inf, torch.nan, 2.0, 0.5])
def test_a_bit_is_0_or_1(number):
    p = Bernoulli("p(x)", probs=torch.full((2,), 0.5))
    with pytest.raises(SupportError, match="x must be 0 or 1, but 1 of 2 are not"):
        p.log_likelihood({"x": torch.tensor([[1.0, number]])})
