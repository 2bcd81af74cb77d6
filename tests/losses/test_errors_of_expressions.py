# ruff: noqa: E501
"""Formulas that make no sense, and what their errors say."""

import re

import pytest
import torch
from torch import nn

from pixyz.core import BoundVariableError, FormulaError, KindError, PixyzError, ShapeError
from pixyz.distributions import Deterministic, Normal
from pixyz.losses import CrossEntropy, Entropy, Expectation, Loss, logsumexp, maximum

Q = Normal("q(z)", loc=0.5, scale=1.0)
F = Normal("p(z)", loc=0.0, scale=2.0).log_prob()


def plain():
    return Normal("p(x)", loc=0.0, scale=1.0).log_prob()


def returning(value):
    return lambda: Loss.from_function(lambda x: value, "f", var=["x"]).estimate({"x": torch.zeros(3, 2)})


X = torch.zeros(3)
BAD = {
    "a list": (lambda: maximum([plain(), plain()]), KindError, "A loss combines with losses, numbers and tensors; got a list"),
    "nothing": (lambda: logsumexp(), KindError, "logsumexp takes losses, like logsumexp(a, b); got none."),
    "clamp by nothing": (lambda: plain().clamp(), KindError, "(log p(x)).clamp() takes min=, max= or both; got neither."),
    "clamp by a word": (lambda: plain().clamp(min="0"), KindError, "got a str: '0'"),
    "power of a word": (lambda: plain() ** "2", KindError, "got a str: '2'"),
    "features": (lambda: maximum(plain(), torch.zeros(3, 2)), ShapeError, "A tensor in a formula is () or (batch,); this one has shape (3, 2)"),
    "batches": (
        lambda: maximum(0.5, plain(), torch.zeros(4)).estimate({"x": X}),
        ShapeError,
        "max(0.5, log p(x), tensor): its terms have batches 3 and 4.",
    ),
    "a batch of one": (lambda: (plain() ** torch.ones(1)).estimate({"x": X}), ShapeError, "its terms have batches 3 and 1."),
    "batches further on": (
        lambda: logsumexp(1, torch.zeros(2), torch.zeros(4), 2).estimate(),
        ShapeError,
        "logsumexp(1, tensor, tensor, 2): its terms have batches 2 and 4.",
    ),
    "no variable": (lambda: plain().constant_var({"X": X}), FormulaError, "log p(x) has no variable X to hold constant. Did you mean 'x'?"),
    "drawn": (lambda: Expectation(Q, F).constant_var({"z": X}), BoundVariableError, "E_q(z)[log p(z)] draws z itself, so z cannot be constant"),
    "no constant": (lambda: plain().constant_var({}), KindError, "takes a mapping from variables to values, like {\"x\": x}; got an empty one."),
    "not a mapping": (lambda: plain().constant_var(X), KindError, "like {\"x\": x}; got a Tensor."),
    "a constant word": (lambda: plain().constant_var({"x": "3"}), KindError, "value must be a number, a tensor or an nn.Parameter; got a str."),
    "constants of two batches": (
        lambda: Normal("p(x|z)", loc="z", scale=1.0).log_prob().constant_var({"x": X, "z": torch.zeros(2)}),
        ShapeError,
        "(log p(x|z)).constant_var: x has batch 3 and z has batch 2; one loss has one batch.",
    ),
    "a constant of another batch": (
        lambda: Normal("p(x|z)", loc="z", scale=1.0).log_prob().constant_var({"z": torch.zeros(2)}).estimate({"x": X}),
        ShapeError,
        "p(x|z): x has batch 3, but z has batch 2",
    ),
    "no function": (lambda: Loss.from_function(3, "f", var=["x"]), KindError, "f: a loss is made from a function or a module"),
    "a loss for a function": (lambda: Loss.from_function(plain(), "f", var=["x"]), KindError, "got a LogProb."),
    "no variables": (lambda: Loss.from_function(torch.sin, "f", var=[]), FormulaError, "f: var is empty; name the variables"),
    "one string": (lambda: Loss.from_function(torch.sin, "f", var="x"), KindError, "var takes a list of names; got the string 'x'."),
    "no name": (lambda: Loss.from_function(torch.sin, "f(x)", var=["x"]), FormulaError, "'f(x)' in name is no name"),
    "no tensor": (returning(1.0), KindError, "f(x): the function must return a tensor of real numbers, (3,); it returned a float."),
    "truth values": (returning(torch.ones(3) > 0), KindError, "it returned a tensor of torch.bool."),
    "a matrix": (returning(torch.ones(3, 2)), ShapeError, "f(x): for 3 inputs the function must return one value for each, (3,); it returned (3, 2)."),
    "a mean": (returning(torch.tensor(1.0)), ShapeError, "it returned ()."),
    "one for all": (returning(torch.ones(1)), ShapeError, "it returned (1,)."),
    "a missing variable": (
        lambda: Loss.from_function(torch.sin, "f", var=["x"]).estimate({"y": X}),
        PixyzError,
        "f(x) needs x; got {'y'}.",
    ),
    "inputs of two batches": (
        lambda: Loss.from_function(torch.add, "f", var=["input", "other"]).estimate({"input": X, "other": torch.zeros(2)}),
        ShapeError,
        "f(input,other): input has batch 3, other has batch 2; one evaluation of it needs one batch.",
    ),
    "two functions with one text": (
        lambda: Loss.from_function(nn.Sigmoid(), "f", var=["input"]) + Loss.from_function(nn.Tanh(), "f", var=["input"]),
        FormulaError,
        "both written f(input): a FromFunction and a FromFunction.",
    ),
    "entropy of what is computed": (
        lambda: Entropy(Deterministic("f(h|z)", h=nn.Tanh()) * Q),
        FormulaError,
        "H[q(h,z)]: h is computed, so it has no density, and the value is not finite.",
    ),
    "cross-entropy over others": (lambda: CrossEntropy(Q, Normal("p(x)", loc=0.0, scale=1.0)), FormulaError, "the left side is over z, the right side over x."),
    "cross-entropy of a computed variable": (
        lambda: CrossEntropy(Normal("q(h|z)", loc="z", scale=1.0), Deterministic("f(h|z)", h=nn.Tanh())),
        FormulaError,
        "CrossEntropy(q(h|z), f(h|z)): h is computed, so it has no density",
    ),
    "a loss for a distribution": (lambda: Entropy(plain()), KindError, "Entropy takes a distribution; got the loss log p(x)."),
}  # fmt: skip


@pytest.mark.parametrize(("misuse", "error", "words"), BAD.values(), ids=BAD)
def test_bad_input_has_one_clear_error(misuse, error, words):
    with pytest.raises(error, match=re.escape(words)) as caught:
        misuse()
    assert isinstance(caught.value, PixyzError)
