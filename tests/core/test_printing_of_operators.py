"""The text of composed losses: which brackets are written, and that the text, read as arithmetic, has the value of the loss."""

import pytest
import torch

from pixyz.losses import Parameter, logsumexp, maximum

A, B, C = Parameter("a"), Parameter("b"), Parameter("c")
VALUES = {"a": 1.75, "b": 0.625, "c": -2.5}

ARITHMETIC = {
    # sums, which begin with no 0
    "a + b": sum([A, B]),
    "a": sum([A]),
    "1 + a + b": sum([A, B], start=1),
    "a - b + c": sum([A, -B, C]),
    "-a - b": sum([-A, -B]),
    "a - b - c": A - B - C,
    "a - (b - c)": A - (B - C),
    "a - (b + c) - 1": A - (B + C) - 1,
    "a - (-b)": A - (-B),
    "a - b": A + (-B),
    "-(a - b)": -(A - B),
    "-(-(a - b))": -(-(A - B)),
    "1 - (2 - a)": 1 - (2 - A),
    "a + (-0.5)": A + (-0.5),
    "a - 2 * b": A - 2 * B,
    "a + 2 * (b + c)": A + 2 * (B + C),
    # products
    "-a * b": -(A * B),
    "(-a) * b": (-A) * B,
    "a * (-b)": A * (-B),
    "(-1) * a": -1 * A,
    "(a + b) * (a - b)": (A + B) * (A - B),
    # fractions
    "a/b": A / B,
    "(a/b)/c": A / B / C,
    "a/(b/c)": A / (B / C),
    "a/b * c": (A / B) * C,
    "a * b/c": A * (B / C),
    "a/(b * c)": A / (B * C),
    "(a + b)/c": (A + B) / C,
    "a/(b + c)": A / (B + C),
    "a/(-b)": A / (-B),
    "-a/b": -(A / B),
    "(-a)/b": (-A) / B,
    "1/a": 1 / A,
    # powers
    "(-a)^2": (-A) ** 2,
    "-a^2": -(A**2),
    "(a + b)^2": (A + B) ** 2,
    "(a * b)^2": (A * B) ** 2,
    "(a/b)^2": (A / B) ** 2,
    "(a^2)/b": A**2 / B,
    "a^(b + c)": A ** (B + C),
    "a^(-b)": A**-B,
    "a^(-1)": A**-1,
    "(a^b)^c": (A**B) ** C,
    "a^(b^c)": A ** (B**C),
    "2^a": 2**A,
}
FUNCTIONS = {
    "exp(a)^2": A.exp() ** 2,
    "exp(-a)": (-A).exp(),
    "log (a + b)": (A + B).log(),
    "(log a)^2": A.log() ** 2,
    "-log a": -A.log(),
    "max(a, b + c)": maximum(A, B + C),
    "max(a, b)^2": maximum(A, B) ** 2,
    "logsumexp(a, -b)": logsumexp(A, -B),
    "stop(a + b)": (A + B).detach(),
}


@pytest.mark.parametrize("text", [*ARITHMETIC, *FUNCTIONS])
def test_brackets_stand_where_they_are_needed(text):
    assert str({**ARITHMETIC, **FUNCTIONS}[text]) == text


@pytest.mark.parametrize("text", ARITHMETIC)
def test_a_text_read_as_arithmetic_has_the_value_of_the_loss(text):
    values = {name: torch.tensor(x, dtype=torch.float64) for name, x in VALUES.items()}
    expected = torch.as_tensor(eval(text.replace("^", "**"), {}, VALUES), dtype=torch.float64)
    torch.testing.assert_close(ARITHMETIC[text].estimate(values).squeeze(), expected, equal_nan=False)
