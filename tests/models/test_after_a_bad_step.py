"""After an error that comes a step late, a model trains as if the bad step, and those left out after it, had never been."""

import copy

import pytest
import torch
from torch import nn, optim

from pixyz.core import NonFiniteLossError, SupportError
from pixyz.distributions import Bernoulli, Categorical, Deterministic, Normal
from pixyz.gan import AdversarialNonSaturating
from pixyz.models import ML, Model, Optimizer

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
    calls = [GOOD[0], GOOD[1], GOOD[2]]
    calls[place] = BAD
    assert with_errors(model, calls) == 1
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


def game(**options):
    torch.manual_seed(0)
    p = (Deterministic("p(x|z)", x=nn.Linear(2, 6)) * Normal("p(z)", loc=torch.zeros(2), scale=torch.ones(2))).marginalize_var("z")
    d = Deterministic("d(t|x)", t=nn.Linear(6, 1))
    optimizers = [Optimizer([side], optim.SGD, {"lr": 0.1}) for side in (p, d)]
    return Model(AdversarialNonSaturating(p, d), optimizers=optimizers, validate="deferred", **options), p, d


@pytest.mark.parametrize("at_once", [True, False])
def test_what_is_bad_for_the_discriminator_leaves_out_the_generator(at_once):
    model, p, d = game(at_once=at_once)
    model.train({"x": GOOD[0]})
    before = [w.detach().clone() for w in (*p.parameters(), *d.parameters())]
    model.train({"x": GOOD[0] * torch.nan})
    with pytest.raises(NonFiniteLossError, match=r"d\(x_data\)|E_p_data"):
        model.check()
    assert all(map(torch.equal, before, (*p.parameters(), *d.parameters())))
    model.train({"x": GOOD[1]})
    model.check()
    assert not any(map(torch.equal, before, (*p.parameters(), *d.parameters())))


def test_at_once_what_is_bad_for_the_generator_leaves_out_the_discriminator():
    model, p, d = game(at_once=True)
    model.train({"x": GOOD[0]})
    before = [w.detach().clone() for w in d.parameters()]
    with torch.no_grad():
        list(p.parameters())[0].fill_(torch.nan)
    model.train({"x": GOOD[0]})
    assert all(map(torch.equal, before, d.parameters()))


@pytest.mark.parametrize(
    "change", [lambda m: setattr(m, "validate", True), lambda m: setattr(m, "validate", False)], ids=["to True", "to False"]
)
def test_an_error_on_its_way_is_not_lost_with_its_flags(change):
    model = plain(validate="deferred")
    model.train({"x": GOOD[0]})
    model.train({"x": BAD})
    with pytest.raises(SupportError, match="x must be 0 or 1"):
        change(model)
    assert model.validate == "deferred"
    change(model)
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
