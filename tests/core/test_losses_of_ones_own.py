"""A loss of one's own takes over the variables, facts and parameters of the losses that are set as its attributes."""

import pytest
import torch

from pixyz.core import Loss
from pixyz.distributions import Normal
from pixyz.losses import NLL


class Sum(Loss):
    """The sum of the losses that are its attributes, `first` and, once it is set, `second`."""

    def __init__(self, first, **options):
        super().__init__(**options)
        self.first = first

    def evaluate(self, scope):
        return scope.evaluate(self.first + self.second if hasattr(self, "second") else self.first)


def nll(var):
    return NLL(Normal(f"p({var})", loc=torch.nn.Parameter(torch.zeros(2)), scale=1.0))


def test_its_variables_and_parameters_are_those_of_its_attributes():
    x, y = nll("x"), nll("y")
    loss = Sum(x)
    assert loss.input_var == ("x",)
    assert [*loss.parameters()] == [*x.parameters()]
    loss.second = y
    assert loss.input_var == ("x", "y")
    assert [*loss.parameters()] == [*x.parameters(), *y.parameters()]
    values = {"x": torch.randn(3, 2), "y": torch.randn(3, 2)}
    torch.testing.assert_close(loss.estimate(values), x.estimate(values) + y.estimate(values))


@pytest.mark.parametrize("options", [{"input_var": ["x", "y"]}, {"per_datum": False}], ids=["input_var", "per_datum"])
def test_what_it_says_of_itself_stays(options):
    loss = Sum(nll("x"), **options)
    assert loss.input_var == tuple(options.get("input_var", ()))
    assert loss.per_datum is options.get("per_datum", True)
    assert len([*loss.parameters()]) == 1
