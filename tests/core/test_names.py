"""Names as papers have them are names everywhere: in texts, values, products, networks and state dicts."""

import re

import pytest
import torch
from torch import nn

from pixyz.core import FormulaError, parse_density
from pixyz.distributions import Deterministic, Normal

NAMES = ["z_{t+1}", "h_prev", "x_u", "theta", "z_{1,2}", "x'", "z_{t+1}'", "x_{<t}", "x_{1:T}", "z_a_{t-1}", "x1", "x_{+}", "θ_{k}"]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_one_everywhere(name):
    torch.manual_seed(0)
    p = Normal(f"p({name}|y)", loc=nn.Linear(2, 3), scale=1.0).double()
    prior = Normal("p(y)", loc=torch.zeros(2), scale=1.0).double()
    joint = p * prior
    assert (p.var, joint.prob_text) == ((name,), f"p({name},y)")
    values = joint.sample(batch_size=4)
    assert values[name].shape == (4, 3)
    expected = -0.5 * ((values[name] - p.mean({"y": values["y"]})) ** 2 + torch.log(torch.tensor(2 * torch.pi, dtype=torch.double))).sum(-1)
    torch.testing.assert_close(p.log_likelihood(values), expected)
    plain = Normal("p(x|y)", loc=p.given_networks.loc, scale=1.0).double()
    renamed = plain.replace_var(x=name)
    torch.testing.assert_close(renamed.log_likelihood(values), expected)
    torch.testing.assert_close(
        joint.replace_var(**{name: "w"}).log_likelihood({"w": values[name], "y": values["y"]}), joint.log_likelihood(values)
    )
    assert joint.marginalize_var([name]).var == ("y",)
    again = Normal(f"p({name}|y)", loc=nn.Linear(2, 3), scale=1.0).double() * Normal("p(y)", loc=torch.ones(2), scale=1.0).double()
    again.load_state_dict(joint.state_dict())
    torch.testing.assert_close(again.log_likelihood(values), joint.log_likelihood(values))


@pytest.mark.parametrize("name", ["z_{t+1}", "x_{<t}", "x'"])
def test_a_network_takes_what_python_could_not_name(name):
    """By position where it is given, by keyword where a subclass takes them all; and in one graph."""
    net = nn.Linear(2, 3)

    class Given(Normal):
        def __init__(self):
            super().__init__(var=["y"], cond_var=[name])
            self.net = net

        def forward(self, **given):
            return {"loc": self.net(given[name]), "scale": 1.0}

    x = torch.randn(4, 2)
    for p in (Normal(f"p(y|{name})", loc=net, scale=1.0), Normal(f"p(y|{name})", lambda v: {"loc": net(v), "scale": 1.0}), Given()):
        torch.testing.assert_close(p.mean({name: x}), net(x))
        loss = -p.log_prob().mean()
        values = {name: x, "y": torch.randn(4, 3)}
        eager = loss.estimate(values)
        loss.compile(backend="eager", fullgraph=True)
        torch.testing.assert_close(loss.estimate(values), eager)


def test_two_networks_are_called_in_the_order_written():
    p = Normal("p(z_{t+1}|z_t,u_{t+1})", loc=lambda a, b: a - b, scale=1.0)
    z, u = torch.randn(2, 4, 3)
    torch.testing.assert_close(p.mean({"z_t": z, "u_{t+1}": u}), z - u)


def test_a_variable_with_braces_is_a_parameter_or_a_value():
    walk = Normal("p(z_{t+1}|z_{t})", loc="z_{t}", scale=1.0)
    z = torch.randn(4, 3)
    torch.testing.assert_close(walk.mean({"z_{t}": z}), z)
    constant = Deterministic("f(z_{0})", **{"z_{0}": torch.ones(3)})
    assert constant.sample(batch_size=2)["z_{0}"].tolist() == [[1.0] * 3] * 2
    assert list(constant.state_dict()) == ["z_{0}"]


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("p(z_{t+1}|z_t)", ("p", ("z_{t+1}",), ("z_t",))),
        ("q(z_{1,2},z_{1,3}|x)", ("q", ("z_{1,2}", "z_{1,3}"), ("x",))),
        ("p_{a,b}( x' , y | z_{1,2} )", ("p_{a,b}", ("x'", "y"), ("z_{1,2}",))),
        ("p(x_{1:T})", ("p", ("x_{1:T}",), ())),
    ],
)
def test_commas_in_braces_do_not_split(text, read):
    assert parse_density(text) == read


@pytest.mark.parametrize(
    "name", ["z{1}", "z_{", "z_{}", "z_{a.b}", "z}", "z_{a}{b}", "z_{a}_b", "1x", "z_{t + 1}", "z_{a|b}", "z_{f(x)}", ""]
)
def test_what_is_no_name(name):
    with pytest.raises(
        FormulaError,
        match=re.escape(f"{name!r} in var is no name of a variable: use letters, digits, _ and ', and indices like z_{{t+1}}."),
    ):
        Normal(var=[name], loc=0.0, scale=1.0)
