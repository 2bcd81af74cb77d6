"""A parameter is registered where it is used, may be replaced under its own name, and is missed in the closure of a function."""

import copy
import warnings
from functools import partial

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.nn.utils import parametrize

from pixyz.core import FormulaError, Loss
from pixyz.distributions import CustomProb, Deterministic, Empirical, Normal, VectorQuantizer
from pixyz.losses import MMD, Commitment, InfoNCE


def parameter(*values):
    return nn.Parameter(torch.tensor(values))


def of_codes():
    return Commitment(VectorQuantizer("q(z|x)", z=nn.Linear(2, 2), num_codes=3, dim=2))


LOSSES = {
    "a constant": lambda: Normal("p(x)", loc=parameter(0.5, 1.0), scale=1.0).log_prob(),
    "two constants": lambda: Normal("p(x)", loc=parameter(0.5, 1.0), scale=parameter(2.0)).log_prob(),
    "a network": lambda: (
        Normal("p(x)", loc=parameter(0.5, 1.0), scale=1.0).log_prob()
        + Normal("p(y|x)", loc=nn.Linear(2, 2), scale=parameter(2.0)).log_prob()
    ),
    "renamed": lambda: Normal("p(w)", loc=parameter(0.5, 1.0), scale=1.0).replace_var(w="x").log_prob(),
    "codes": of_codes,
    "rows": lambda: MMD(Empirical("p(x)", x=parameter([0.0, 1.0], [2.0, 3.0])), Normal("q(x)", loc=parameter(0.5, 1.0), scale=1.0)),
    "a weight": lambda: parameter(2.0, 1.0, 3.0) * Normal("p(x)", loc=parameter(0.5, 1.0), scale=1.0).log_prob(),
}
VALUES = {"x": torch.tensor([[0.0, 1.0], [2.0, 0.5], [1.0, 1.0]]), "y": torch.zeros(3, 2)}


def value(loss):
    torch.manual_seed(0)
    return loss.estimate(VALUES if loss.input_var else {}, **({} if loss.input_var else {"batch_size": 6}))


def other_values(loss):
    """What the parameters are to be, and the loss at them, changed in place."""
    twin = copy.deepcopy(loss)
    with torch.no_grad():
        for w in twin.parameters():
            w.mul_(1.25)
    return {k: v.clone() for k, v in twin.state_dict().items()}, value(twin)


def by_setting(loss, new):
    for path, module in loss.named_modules():
        for name, w in [*module._parameters.items()]:
            if w is not None:
                setattr(module, name, nn.Parameter(new[f"{path}.{name}" if path else name]))


def by_assignment(loss, new):
    loss.load_state_dict(new, assign=True)


def by_emptying(loss, new):
    loss.to_empty(device="cpu").load_state_dict(new)


def by_swapping(loss, new):
    before = torch.__future__.get_swap_module_params_on_conversion()
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        loss.double().float().load_state_dict(new)
    finally:
        torch.__future__.set_swap_module_params_on_conversion(before)


def by_overwriting(loss, new):
    before = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        loss.double().float().load_state_dict(new)
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(before)


class Times(nn.Module):
    def forward(self, w):
        return 1.25 * w


def by_a_parametrisation(loss, new):
    for module in [*loss.modules()]:
        for name, w in [*module._parameters.items()]:
            if w is not None:
                parametrize.register_parametrization(module, name, Times())


REPLACED = [by_setting, by_assignment, by_emptying, by_swapping, by_overwriting, by_a_parametrisation]


@pytest.mark.parametrize("replace", REPLACED, ids=lambda f: f.__name__)
@pytest.mark.parametrize("of", LOSSES)
def test_a_parameter_may_be_replaced_under_its_own_name(of, replace):
    loss = LOSSES[of]()
    new, expected = other_values(loss)
    assert not torch.equal(value(loss), expected)
    replace(loss, new)
    torch.testing.assert_close(value(loss), expected)
    value(loss).sum().backward()
    assert all(w.grad is not None and w.grad.abs().sum() > 0 for w in loss.parameters())


@pytest.mark.parametrize("of", LOSSES)
def test_a_loss_is_called_with_other_parameters(of):
    loss = LOSSES[of]()
    new, expected = other_values(loss)
    torch.manual_seed(0)
    options = {} if loss.input_var else {"batch_size": 6}
    found = torch.func.functional_call(loss, new, (VALUES if loss.input_var else {},), options)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("of", LOSSES)
def test_a_loss_is_sharded(of, tmp_path):
    loss = LOSSES[of]()
    expected = value(loss)
    dist.init_process_group("gloo", store=dist.FileStore(str(tmp_path / "store"), 1), rank=0, world_size=1)
    try:
        fully_shard(loss, mesh=torch.distributed.init_device_mesh("cpu", (1,)))
        found = loss(VALUES if loss.input_var else {}, **({} if loss.input_var else {"batch_size": 6})) if of != "rows" else value(loss)
        torch.testing.assert_close(found.detach(), expected.detach())
        found.sum().backward()
        assert all(w.grad is not None for w in loss.parameters())
    finally:
        dist.destroy_process_group()


def test_a_constant_becomes_trained_under_its_own_name():
    p = Normal("p(x)", loc=0.5, scale=1.0)
    loss = p.log_prob()
    p.loc = nn.Parameter(torch.tensor(2.0))
    assert [name for name, _ in loss.named_parameters()] == ["p(x).loc"]
    assert loss.estimate({"x": torch.tensor([2.0])}) > -0.92


def test_a_network_in_the_place_of_a_constant_is_rejected():
    p = Normal("p(x)", loc=nn.Parameter(torch.zeros(1)), scale=1.0)
    with pytest.raises(FormulaError, match="loc is given as a constant already; call the network something else"):
        p.loc = nn.Linear(1, 1)
    with pytest.raises(FormulaError, match="'factors' is a word of the library's own"):
        p.factors = nn.Parameter(torch.zeros(1))


class Head:
    """An object that computes with a network."""

    def __init__(self):
        self.net = nn.Linear(2, 2)

    def compute(self, x):
        return self.net(x)

    __call__ = compute


def in_a_lambda():
    net = nn.Linear(2, 2)
    return lambda x: net(x)


def in_a_list():
    nets = {"first": [nn.Linear(2, 2)]}
    return lambda x: nets["first"][0](x)


def in_a_default(net=None):
    net = nn.Linear(2, 2)

    def f(x, net=net):
        return net(x)

    return f


def in_a_keyword_default():
    def f(x, *, net=nn.Linear(2, 2)):  # noqa: B008
        return net(x)

    return f


def in_a_function_in_a_function():
    inner = in_a_lambda()
    return lambda x: inner(x)


HIDDEN = {
    "a lambda": in_a_lambda,
    "a list": in_a_list,
    "a default": in_a_default,
    "a keyword default": in_a_keyword_default,
    "a function in a function": in_a_function_in_a_function,
    "a partial": lambda: partial(lambda net, x: net(x), nn.Linear(2, 2)),
    "a keyword of a partial": lambda: partial(lambda x, net: net(x), net=nn.Linear(2, 2)),
    "a method of a module": lambda: nn.Linear(2, 2).forward,
    "a method of an object": lambda: partial(Head().__call__),
    "an object": Head,
}


def number(f):
    return lambda x: f(x).sum(-1)


TAKEN = {
    "from_function": lambda f: Loss.from_function(f, "f", var=["x"]),
    "a parameter": lambda f: Normal("p(z|x)", loc=f, scale=1.0),
    "a network": lambda f: Normal("p(z|x)", f),
    "Deterministic": lambda f: Deterministic("d(z|x)", z=f),
    "CustomProb": lambda f: CustomProb("p(x)", f),
    "a critic": lambda f: InfoNCE(Normal("q(z|x)", loc="x", scale=1.0), lambda x, z: f(x)),
    "a kernel": lambda f: MMD(Normal("p(x)", loc=0.0, scale=1.0), Normal("q(x)", loc=0.0, scale=1.0), lambda x, y: f(x)),
}
MESSAGE = "uses a Linear whose parameters it cannot register: here they would not be trained, saved or moved. Give the network itself"


@pytest.mark.parametrize("where", HIDDEN)
def test_a_network_that_a_function_hides_gives_a_warning(where):
    f = HIDDEN[where]()
    with pytest.warns(UserWarning, match=MESSAGE) as caught:
        Loss.from_function(f, "f", var=["x"])
    assert caught[0].filename == __file__


@pytest.mark.parametrize("given", TAKEN)
def test_whoever_takes_a_function_looks_for_networks(given):
    with pytest.warns(UserWarning, match=MESSAGE):
        TAKEN[given](in_a_lambda())


def test_no_warning_without_cause():
    net, shift, frozen = nn.Linear(2, 2), torch.ones(2), nn.ReLU()

    def later(x):
        return undefined(x)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Normal("p(z|x)", loc=net, scale=lambda x: net(x).exp())  # registered beside
        Normal("p(z|x)", loc=lambda x: frozen(x) + shift, scale=partial(torch.full_like, fill_value=1.0))
        Loss.from_function(later, "f", var=["x"])
        Loss.from_function(net, "f", var=["x"])
        Loss.from_function(torch.sum, "f", var=["x"])
    undefined = net  # a name of the closure that has no value before
