"""One evaluation has one dtype: terms of two are rejected, and numbers take the dtype of what they meet."""

import pytest
import torch
from torch import nn

from pixyz.core import KindError, Loss, Parameter, maximum
from pixyz.distributions import Normal

SINGLE = Normal("p(x)", loc=torch.zeros(2), scale=torch.ones(2))
DOUBLE = Normal("p(y)", loc=torch.zeros(2, dtype=torch.float64), scale=torch.ones(2, dtype=torch.float64))
A, B = SINGLE.log_prob(), DOUBLE.log_prob()
X, Y = torch.zeros(3, 2), torch.zeros(3, 2, dtype=torch.float64)

MIXED = {
    "a product of distributions": lambda: (SINGLE * DOUBLE).log_prob(),
    "a sum": lambda: A + B,
    "a difference": lambda: A - B,
    "a product": lambda: A * B,
    "a quotient": lambda: A / B,
    "a greatest": lambda: maximum(A, B),
    "a sum of means": lambda: A.mean() - 2 * B.mean(),
    "a product of sums": lambda: A.sum() * B.sum(),
    "a weight for each datum": lambda: torch.ones(3, dtype=torch.float64) * A,
    "a function": lambda: Loss.from_function(lambda y: y.sum(-1), "f", var=["y"]) + A,
}


@pytest.mark.parametrize("name", MIXED)
def test_terms_of_two_dtypes_are_rejected(name):
    loss = MIXED[name]()
    values = {v: {"x": X, "y": Y}[v] for v in loss.input_var}
    with pytest.raises(
        KindError, match=r"one of its terms is torch.float\d\d, another torch.float\d\d. One evaluation has one dtype: convert"
    ):
        loss.estimate(values)


NUMBERS = {
    "a Python number": lambda a: 2 * a + 1,
    "a parameter of float64": lambda a: Parameter("b") * a + Parameter("b"),
    "a tensor of float64": lambda a: torch.tensor(2.0, dtype=torch.float64) * a + torch.tensor(1.0, dtype=torch.float64),
    "a trained number of float64": lambda a: nn.Parameter(torch.tensor(2.0, dtype=torch.float64)) * a,
}


@pytest.mark.parametrize("reduce", [lambda a: a, lambda a: a.mean()], ids=["for each datum", "a mean"])
@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_takes_the_dtype_of_what_it_meets(name, reduce):
    values = {"x": X, "b": torch.tensor(0.5, dtype=torch.float64)}
    loss = NUMBERS[name](reduce(A))
    assert loss.estimate({v: values[v] for v in loss.input_var}).dtype == torch.float32
    assert (Parameter("b") * reduce(B)).estimate({"y": Y, "b": torch.tensor(0.5)}).dtype == torch.float64


def test_under_autocast_terms_may_differ():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (A + B).estimate({"x": X, "y": Y}).isfinite().all()
