"""What a loss prints is what it is: a reader who knows the rules of the notation finds its value in the text."""

import math
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pixyz.losses import Parameter

VALUES = {"a": 0.7, "b": 1.3, "c": 2.1}
CALLS = {"exp": math.exp, "abs": abs, "sqrt": math.sqrt, "mean": lambda x: x, "max": max, "min": min}
TOKEN = re.compile(r"\s*(\d+(?:\.\d+)?(?:e[-+]?\d+)?|[a-z]+|[-+*/^(),])")


class Reader:
    """Reads a text: sums of products of ratios of powers; `log` takes the ratio behind it, and `-` at the front a whole product."""

    def __init__(self, text):
        self.tokens = TOKEN.findall(text)
        assert "".join(self.tokens) == text.replace(" ", ""), text

    def taken(self, *tokens):
        return self.tokens.pop(0) if self.tokens and self.tokens[0] in tokens else None

    def sum(self):
        value = -self.product() if self.taken("-") else self.product()
        while sign := self.taken("+", "-"):
            value = value + self.product() if sign == "+" else value - self.product()
        return value

    def product(self):
        value = self.ratio()
        while self.taken("*"):
            value *= self.ratio()
        return value

    def ratio(self):
        if self.taken("log"):
            return math.log(self.ratio())
        top = self.power()
        return top / self.power() if self.taken("/") else top

    def power(self):
        base = self.atom()
        return base ** self.atom() if self.taken("^") else base

    def atom(self):
        if self.taken("("):
            value = self.sum()
            assert self.taken(")")
            return value
        token = self.tokens.pop(0)
        if token in CALLS:
            assert self.taken("(")
            values = [self.sum()]
            while self.taken(","):
                values.append(self.sum())
            assert self.taken(")")
            return CALLS[token](*values)
        return VALUES[token] if token in VALUES else float(token)


def read(text):
    reader = Reader(text)
    value = reader.sum()
    assert not reader.tokens, f"{text}: {reader.tokens} are left"
    return value


SUPERSCRIPTS = {ord(a): f"^{n}" for n, a in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")}


def of_unicode(text):
    return text.replace("·", "*").replace("−", "-").translate(SUPERSCRIPTS)


def of_latex(text):
    """As plain text: a fraction, an exponent and strokes have brackets of their own."""
    text = re.sub(r"\\(exp|max|min)\\left\(", r"\1(", re.sub(r"\\mathrm\{(\w+)\}\\left\(", r"\1(", text))
    text = re.sub(r"([\d.]+) \\cdot 10\^\{(-?\d+)\}", r"(\1e\2)", text)
    text = text.replace(r"\left|", "abs(").replace(r"\right|", ")").replace(r"\left(", "(").replace(r"\right)", ")")
    text = text.replace(r"\cdot", "*").replace(r"\log", "log")
    while r"\frac" in text:
        text = re.sub(r"\\frac\{([^{}]*)\}\{([^{}]*)\}", r"((\1)/(\2))", re.sub(r"\^\{([^{}]*)\}", r"^(\1)", text))
    return re.sub(r"\^\{([^{}]*)\}", r"^(\1)", text)


def holds(loss):
    """That each notation has the value of the loss, where that is a number of a moderate size."""
    value = loss.estimate({v: torch.tensor(x, dtype=torch.float64) for v, x in VALUES.items()}).item()
    if not math.isfinite(value) or abs(value) > 1e12:
        return
    for text in (str(loss), of_unicode(loss.unicode()), of_latex(loss.latex())):
        try:
            found = read(text)
        except (OverflowError, ZeroDivisionError):
            continue
        assert found == pytest.approx(value, rel=1e-9, abs=1e-12), f"{loss}, {loss.latex()}"


OPERANDS = st.one_of(st.sampled_from([*VALUES]).map(Parameter), st.sampled_from([2, 0.5, -1.5, 3, 1e-7]))
LOSSES = st.recursive(
    st.sampled_from([*VALUES]).map(Parameter),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from("+-*/"), inner | OPERANDS).map(lambda t: combined(*t)),
        st.tuples(OPERANDS, st.sampled_from("+-*/"), inner).map(lambda t: combined(*t)),
        inner.map(lambda x: -x),
        st.tuples(inner, st.sampled_from([2, 3])).map(lambda t: t[0] ** t[1]),
        inner.map(lambda x: (x.abs() + 0.1) ** 0.5),
        inner.map(lambda x: (x.abs() + 0.1).log()),
        inner.map(lambda x: (x.abs() + 1).log() - x.exp()),
    ),
    max_leaves=6,
)


def combined(x, operator, y):
    match operator:
        case "+":
            return x + y
        case "-":
            return x - y
        case "*":
            return x * y
    return x / y


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(LOSSES)
def test_a_text_is_read_as_the_value(loss):
    if hasattr(loss, "estimate"):
        holds(loss)


A, B, C = (Parameter(v) for v in VALUES)
WITH_BRACKETS = {
    "a power of a sum": (A + B) ** 2,
    "a power of a product": (A * B) ** 2,
    "a power of a ratio": (A / B) ** 2,
    "a power of a power": (A**2) ** 3,
    "a power of a negative": (-A) ** 2,
    "a negative of a power": -(A**2),
    "a power of a small number": (1e-7 * A) ** 2,
    "a ratio of ratios": (A / B) / (B / C),
    "a ratio of products": (A * B) / (B * C),
    "a ratio of a power": A**2 / B**2,
    "a log of a ratio": (A / B).log(),
    "a ratio of a log": A.log() / B,
    "a log of a power": (A**2).log(),
    "a power of a log": A.log() ** 2,
    "a log of a product": (A * B).log(),
    "a log of a log": (A + 5).log().log(),
    "a product of logs": A.log() * B.log(),
    "a product of a difference": A * (B - C) * -2,
    "a difference of differences": A - (B - (C - A)),
    "a negative number taken away": A - (-2 * B) - (-3),
}


@pytest.mark.parametrize("name", WITH_BRACKETS)
def test_brackets_stand_where_they_are_needed(name):
    holds(WITH_BRACKETS[name])


def test_a_sum_of_losses_has_no_zero_in_front():
    """`sum` begins with 0."""
    assert str(sum([A, B])) == "a + b"
    assert str(sum([A])) == "a"
    assert str(sum([-A, B])) == "-a + b"


@pytest.mark.parametrize(
    ("text", "value"), [("-a^2", -0.49), ("log a/b", math.log(0.7 / 1.3)), ("a - b - c", -2.7), ("(a - b) * 2/c", -0.6 * 2 / 2.1)]
)
def test_the_reader_knows_the_rules(text, value):
    assert read(text) == pytest.approx(value)
