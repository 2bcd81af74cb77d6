# ruff: noqa: E501
"""Expressions: each operator against arithmetic on its parts' values, printed, traced and copied; and which draws are shared."""

import copy
import math
import pickle
import re
import sys

import pytest
import torch
from torch import nn

from pixyz.core import BoundVariableError, FormulaError, KindError, PixyzError, ShapeError, seeded
from pixyz.distributions import Bernoulli, Categorical, Deterministic, Normal
from pixyz.losses import (
    CrossEntropy,
    Entropy,
    Expectation,
    KullbackLeibler,
    Loss,
    Parameter,
    Prob,
    log_mean_exp,
    logsumexp,
    maximum,
    minimum,
)

BATCH = 5


class Parts:
    """Two losses with parameters, a number, weights, an exact expectation; and data."""

    def __init__(self):
        torch.set_default_dtype(torch.float64)
        self.p = Normal("p(x)", loc=nn.Parameter(torch.tensor([0.3, -0.2])), scale=1.0)
        self.r = Normal("r(x)", loc=nn.Parameter(torch.tensor([-0.4, 0.6])), scale=nn.Parameter(torch.tensor([0.8, 1.3])))
        self.a, self.b, self.beta = self.p.log_prob(), self.r.log_prob(), Parameter("beta")
        self.w = torch.rand(BATCH)
        self.y = Bernoulli("q(y)", probs=nn.Parameter(torch.tensor(0.3)))
        self.e = Loss.from_function(lambda x, y: (x.sum(-1) - y).square(), "f", var=["x", "y"]).expectation(self.y)
        self.values = {"x": torch.randn(BATCH, 2), "beta": torch.tensor(0.7)}

    def truth(self, values):
        """The values of a, b, beta and e, by torch."""
        x, q = values["x"], self.y.probs
        a = torch.distributions.Normal(self.p.loc, 1.0).log_prob(x).sum(-1)
        b = torch.distributions.Normal(self.r.loc, self.r.scale).log_prob(x).sum(-1)
        e = q * (x.sum(-1) - 1).square() + (1 - q) * x.sum(-1).square()
        return a, b, values["beta"], e


A, B, E = "log p(x)", "log r(x)", "E_q(y)[f(x,y)]"
LA, LB, LE = r"\log p(x)", r"\log r(x)", r"\mathbb{E}_{q(y)}\left[f(x,y)\right]"
log, exp, lse = torch.log, torch.exp, torch.logaddexp

# name: (the loss, its value from those of the parts, text, Unicode, LaTeX)
ROWS = {
    "square": (lambda s: s.a**2, lambda a, b, t, e: a * a, f"({A})^2", f"({A})²", rf"\left({LA}\right)^{{2}}"),
    "of a number": (lambda s: 2**s.a, lambda a, b, t, e: exp(a * math.log(2)), f"2^({A})", f"2^({A})", rf"2^{{{LA}}}"),
    "of a small number": (lambda s: 1e-7**s.a, lambda a, b, t, e: 1e-7**a, f"1e-07^({A})", None, rf"\left(1 \cdot 10^{{-7}}\right)^{{{LA}}}"),
    "root": (lambda s: s.e**0.5, lambda a, b, t, e: e.sqrt(), f"{E}^0.5", None, f"{LE}^{{0.5}}"),
    "negative power": (lambda s: s.a**-2, lambda a, b, t, e: 1 / a**2, f"({A})^(-2)", None, rf"\left({LA}\right)^{{-2}}"),
    "of losses": (lambda s: s.e**s.beta, lambda a, b, t, e: e**t, f"{E}^beta", "𝔼_q(y)[f(x,y)]^β", rf"{LE}^{{\beta}}"),
    "of a power": (lambda s: (s.beta**2) ** 3 * s.a, lambda a, b, t, e: t**6 * a, f"(beta^2)^3 * {A}", f"(β²)³ · {A}", r"\left(\beta^{2}\right)^{3} \cdot " + LA),
    "of a ratio": (lambda s: (s.beta / s.e) ** 2, lambda a, b, t, e: (t / e) ** 2, f"(beta/{E})^2", None, rf"\left(\frac{{\beta}}{{{LE}}}\right)^{{2}}"),
    "square of an expectation": (lambda s: s.e**2, lambda a, b, t, e: e * e, f"{E}^2", "𝔼_q(y)[f(x,y)]²", f"{LE}^{{2}}"),
    "abs": (lambda s: (s.a - s.b).abs(), lambda a, b, t, e: (a - b).abs(), f"abs({A} - {B})", f"abs({A} − {B})", rf"\left|{LA} - {LB}\right|"),
    "abs, Python's": (lambda s: abs(s.a), lambda a, b, t, e: a.abs(), f"abs({A})", None, None),
    "exp": (lambda s: (s.a - s.b).exp(), lambda a, b, t, e: exp(a - b), f"exp({A} - {B})", None, rf"\exp\left({LA} - {LB}\right)"),
    "exp of a log": (lambda s: s.a.exp() * 2, lambda a, b, t, e: 2 * exp(a), "p(x) * 2", "p(x) · 2", r"p(x) \cdot 2"),
    "Prob": (lambda s: 1 - Prob(s.r), lambda a, b, t, e: 1 - exp(b), "1 - r(x)", "1 − r(x)", "1 - r(x)"),
    "log": (lambda s: s.e.log(), lambda a, b, t, e: log(e), f"log {E}", None, rf"\log {LE}"),
    "log of a log": (lambda s: (-s.a).log(), lambda a, b, t, e: log(-a), f"log (-{A})", None, rf"\log \left(-{LA}\right)"),
    "log of a power": (lambda s: (s.a**2).log(), lambda a, b, t, e: log(a**2), f"log (({A})^2)", None, None),
    "detach": (lambda s: s.a.detach() * s.b, lambda a, b, t, e: a.detach() * b, f"stop({A}) * {B}", None, rf"\mathrm{{sg}}\left[{LA}\right] \cdot {LB}"),
    "clamp below": (lambda s: s.a.clamp(min=-2.0), lambda a, b, t, e: a.clamp(min=-2), f"max({A}, -2)", f"max({A}, -2)", rf"\max\left({LA}, -2\right)"),
    "clamp above": (lambda s: s.a.clamp(max=-2), lambda a, b, t, e: a.clamp(max=-2), f"min({A}, -2)", None, rf"\min\left({LA}, -2\right)"),
    "clamp": (lambda s: s.a.clamp(-3, -2.5), lambda a, b, t, e: a.clamp(-3, -2.5), f"min(max({A}, -3), -2.5)", None, None),
    "clamp by losses": (lambda s: s.e.clamp(min=s.beta, max=s.beta + 1), lambda a, b, t, e: e.clamp(t, t + 1), f"min(max({E}, beta), beta + 1)", None, None),
    "minimum": (lambda s: minimum(s.a, s.b, -2.0), lambda a, b, t, e: a.minimum(b).clamp(max=-2), f"min({A}, {B}, -2)", None, rf"\min\left({LA}, {LB}, -2\right)"),
    "maximum": (lambda s: maximum(s.a, s.w, s.beta), lambda a, b, t, e: torch.maximum(a, t), f"max({A}, tensor, beta)", None, rf"\max\left({LA}, \mathrm{{tensor}}, \beta\right)"),
    "logsumexp": (lambda s: logsumexp(s.a, s.b, 0), lambda a, b, t, e: lse(lse(a, b), 0 * a), f"logsumexp({A}, {B}, 0)", None, rf"\mathrm{{logsumexp}}\left({LA}, {LB}, 0\right)"),
    "log_mean_exp": (lambda s: log_mean_exp(s.a, s.b), lambda a, b, t, e: lse(a, b) - math.log(2), f"logmeanexp({A}, {B})", None, rf"\mathrm{{logmeanexp}}\left({LA}, {LB}\right)"),
    "of one": (lambda s: log_mean_exp(s.a), lambda a, b, t, e: a, f"logmeanexp({A})", None, None),
    "of a mean": (lambda s: s.a.mean().exp() + s.b, lambda a, b, t, e: exp(a.mean()) + b, f"exp(mean({A})) + {B}", None, None),
    "mean of what": (lambda s: (s.a.exp() / s.b.abs()).mean(), lambda a, b, t, e: (exp(a) / b.abs()).mean(), f"mean(p(x)/abs({B}))", None, None),
    "weights": (lambda s: s.w * s.a.exp(), lambda a, b, t, e: None, "tensor * p(x)", None, None),
    "constant": (lambda s: (s.a * s.beta).constant_var({"beta": 0.25}), lambda a, b, t, e: 0.25 * a, f"[{A} * beta]_{{beta=0.25}}", f"[{A} · β]_{{β=0.25}}", rf"\left.{LA} \cdot \beta\right|_{{\beta=0.25}}"),
    "constant exponent": (lambda s: s.e ** s.beta.constant_var({"beta": 2}), lambda a, b, t, e: e**2, f"{E}^[beta]_{{beta=2}}", None, None),
    "cross entropy": (lambda s: CrossEntropy(s.y, Bernoulli("s(y)", probs=0.2)) + s.a, lambda a, b, t, e: None, f"-E_q(y)[log s(y)] + {A}", None, None),
}  # fmt: skip

EXTRA = {
    "weights": lambda s, a, b, t, e: s.w * exp(a),
    "maximum": lambda s, a, b, t, e: torch.maximum(torch.maximum(a, s.w), t),
    "cross entropy": lambda s, a, b, t, e: a - s.y.probs * math.log(0.2) - (1 - s.y.probs) * math.log(0.8),
}
assert set(EXTRA) <= set(ROWS)


def row(name):
    """The parts, the loss, and its true value for given data."""
    s = Parts()
    make, f, *_ = ROWS[name]

    def truth(values):
        parts = s.truth(values)
        return EXTRA[name](s, *parts) if name in EXTRA else f(*parts)

    return s, make(s), truth


def gradients(value, loss):
    found = torch.autograd.grad(value.sum(), [*loss.parameters()], allow_unused=True)
    return [torch.zeros_like(w) if g is None else g for w, g in zip(loss.parameters(), found)]


@pytest.mark.parametrize("name", ROWS)
def test_an_expression_is_arithmetic_on_its_parts(name):
    s, loss, truth = row(name)
    value, expected = loss.estimate(s.values), truth(s.values)
    torch.testing.assert_close(value, expected)
    for a, b in zip(gradients(value, loss), gradients(expected, loss)):
        torch.testing.assert_close(a, b)


def test_expressions_are_one_graph_on_the_first_call():
    """All of them in one sum, each with a weight of its own, so that a single trace serves."""
    s = Parts()
    rows = [(1 + 0.1 * i, name, make(s), f) for i, (name, (make, f, *_)) in enumerate(ROWS.items())]
    loss, parts = sum(weight * row for weight, _, row, _ in rows), s.truth(s.values)
    torch._dynamo.reset()
    loss.compile(fullgraph=True, backend="eager")
    value = loss.estimate(s.values)
    expected = sum(weight * (EXTRA[name](s, *parts) if name in EXTRA else f(*parts)) for weight, name, _, f in rows)
    torch.testing.assert_close(value, expected)
    for a, b in zip(gradients(value, loss), gradients(expected, loss)):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("name", ROWS)
def test_an_expression_keeps_open_dims(name):
    s, loss, truth = row(name)
    x = torch.randn(3, BATCH, 2)
    value = loss.estimate({**s.values, "x": x}, sample_dims={"x": 1})
    torch.testing.assert_close(value, torch.stack([truth({**s.values, "x": each}) for each in x]))


@pytest.mark.parametrize("name", ROWS)
def test_an_expression_prints_as_mathematics(name):
    _, loss, _ = row(name)
    *_, text, unicode, latex = ROWS[name]
    assert str(loss) == repr(loss) == text
    assert unicode is None or loss.unicode() == unicode
    assert latex is None or loss.latex() == latex
    assert loss.latex().count("{") == loss.latex().count("}")
    assert loss.latex().count(r"\left") == loss.latex().count(r"\right")


@pytest.mark.parametrize("name", ROWS)
def test_an_expression_copies_pickles_and_moves(name):
    s, loss, truth = row(name)
    if "f(x,y)" in str(loss):
        s.e.parts[1].function = _square_of_the_gap  # a lambda is no pickle's
    for other in (copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
        assert str(other) == str(loss)
        assert [*other.state_dict()] == [*loss.state_dict()]
        torch.testing.assert_close(other.estimate(s.values), truth(s.values))
    single = {k: v.float() for k, v in s.values.items()}
    assert copy.deepcopy(loss).float().estimate(single).dtype == torch.float32


def _square_of_the_gap(x, y):
    return (x.sum(-1) - y).square()


@pytest.mark.parametrize("name", ["minimum", "maximum", "logsumexp", "log_mean_exp"])
def test_several_share_the_gradient_where_they_are_equal(name):
    s = Parts()
    value = {"minimum": minimum, "maximum": maximum, "logsumexp": logsumexp, "log_mean_exp": log_mean_exp}[name](s.a, s.a, s.a).mean()
    for a, b in zip(gradients(value.estimate(s.values), value), gradients(s.a.mean().estimate(s.values), s.a)):
        torch.testing.assert_close(a, b)


def test_nothing_overflows_and_nothing_is_lost_between_infinities():
    torch.set_default_dtype(torch.float64)
    a, b = Parameter("a"), Parameter("b")
    for x, y in ((1e4, 1e4 + 1), (-1e4, -1e4), (0.0, -torch.inf), (-torch.inf, -torch.inf)):
        t = torch.tensor([x, y])
        values = {"a": x, "b": y}
        assert logsumexp(a, b).estimate(values) == t.logsumexp(0)
        assert log_mean_exp(a, b).estimate(values) == t.logsumexp(0) - math.log(2)


def test_numbers_keep_the_precision_and_the_dtype_of_what_they_meet():
    a = Normal("p(x)", loc=0.0, scale=1.0).log_prob()
    for dtype in (torch.float32, torch.float64):
        x = torch.zeros(2, dtype=dtype)
        for loss in (maximum(a, 0.1), a.clamp(min=0.1), minimum(-a, 0.1)):
            value = loss.to(dtype).estimate({"x": x})
            assert value.dtype == dtype
            assert value[0] == torch.tensor(0.1, dtype=dtype)


# --- what is shared, and what is drawn anew


def linear(scale=2.0):
    """E_q[f] = 1, where q = N(1, scale²) and f(z) = z."""
    torch.set_default_dtype(torch.float64)
    q = Normal("q(z)", loc=1.0, scale=scale)
    return q, Loss.from_function(lambda z: z, "f", var=["z"]).expectation(q)


ZERO = {
    "difference": lambda e: e - e,
    "abs of a difference": lambda e: (e - e).abs(),
    "difference of exps": lambda e: e.exp() - e.exp(),
    "difference of logs": lambda e: (e.exp() + 1).log() - (1 + e.exp()).log(),
    "max of one": lambda e: maximum(e, e) - e,
    "min and max": lambda e: minimum(e, 1.0) + maximum(e, 1.0) - e - 1,
    "logsumexp": lambda e: logsumexp(e, e) - e - math.log(2),
    "detach": lambda e: e - e.detach(),
    "clamp": lambda e: e.clamp(min=0.0) - e.clamp(max=0.0) - e.abs(),
    "constant": lambda e: e + Parameter("t").constant_var({"t": 1.0}) - e - 1,
}


@pytest.mark.parametrize("name", ZERO)
def test_expectations_that_meet_under_sums_and_functions_share_their_draws(name):
    _, e = linear()
    value = ZERO[name](e).estimate(batch_size=100)
    torch.testing.assert_close(value, torch.zeros(100), rtol=0, atol=1e-12)
    assert e.estimate(batch_size=100).std() > 1


def test_a_difference_under_an_expectation_is_shared_between_two_functions():
    """E_q[f] - E_q[g] has the variance of f - g: with g = f + 1 none, with g = -f that of 2f."""
    q, e = linear()
    g = Loss.from_function(lambda z: z + 1, "g", var=["z"]).expectation(q)
    torch.testing.assert_close((e - g).estimate(batch_size=50), torch.full((50,), -1.0))
    apart = Expectation(q, Loss.from_function(lambda z: z, "f", var=["z"]), share=False)
    assert (e - apart).estimate(batch_size=2000).std().item() == pytest.approx(math.sqrt(8), rel=0.1)
    assert (apart - apart).estimate(batch_size=2000).std().item() == pytest.approx(math.sqrt(8), rel=0.1)


N = 200_000
# name: (a loss made of E[z], z ~ N(1, 2²), its mean)
FRESH = {
    "E * E": (lambda e: e * e, 1.0),
    "E ** 2": (lambda e: e**2, 1.0),
    "E ** 2.0": (lambda e: e**2.0, 1.0),
    "E ** 3": (lambda e: e**3, 1.0),
    "(E - 3) ** 2": (lambda e: (e - 3) ** 2, 4.0),
    "E ** 2 * E": (lambda e: e**2 * e, 1.0),
    "E ** 2 - E * E": (lambda e: e**2 - e * e, 0.0),
    "E * (E * E)": (lambda e: e * (e * e), 1.0),
    # these have one draw each: the mean of the function, not the function of the mean
    "exp(E / 2)": (lambda e: (e / 2).exp(), math.exp(0.5 + 0.5)),
    "|E|": (lambda e: e.abs(), 2 * math.sqrt(2 / math.pi) * math.exp(-1 / 8) + math.erf(1 / math.sqrt(8))),
    "max(E, 1)": (lambda e: maximum(e, 1.0), 1 + 2 / math.sqrt(2 * math.pi)),
}


@pytest.mark.parametrize("name", FRESH)
def test_products_and_whole_powers_draw_anew_and_are_unbiased(name):
    make, truth = FRESH[name]
    _, e = linear()
    value = make(e).estimate(batch_size=N)
    error = value.std().item() / math.sqrt(N)
    assert abs(value.mean().item() - truth) < 4.5 * error
    assert error < 0.05


def test_the_square_of_an_expectation_against_quadrature():
    torch.set_default_dtype(torch.float64)
    q = Normal("q(z)", loc=0.3, scale=0.8)
    f = Loss.from_function(lambda z: (2 * z).sin().exp(), "f", var=["z"])
    nodes = torch.linspace(-8, 8, 20_001)
    density = torch.distributions.Normal(0.3, 0.8).log_prob(nodes).exp()
    mean = torch.trapezoid(density * (2 * nodes).sin().exp(), nodes).item()
    for square in (Expectation(q, f, num_samples=2) ** 2, Expectation(q, f) * Expectation(q, f)):
        value = square.estimate(batch_size=N)
        assert abs(value.mean().item() - mean**2) < 4.5 * value.std().item() / math.sqrt(N)


def test_inside_an_expectation_the_inner_one_draws_for_each_outer_draw():
    """Var of the mean over K of E_r(w|z)[w] with w ~ N(z, 1), z ~ N(0, 1) is 2/K; with one inner draw for all it would be 1/K + 1."""
    torch.set_default_dtype(torch.float64)
    q, r = Normal("q(z)", loc=0.0, scale=1.0), Normal("r(w|z)", loc="z", scale=1.0)
    inner = Loss.from_function(lambda w: w, "f", var=["w"]).expectation(r)
    nested = inner.expectation(q, num_samples=16)
    assert nested.estimate(batch_size=20_000).var().item() == pytest.approx(2 / 16, rel=0.05)
    # log E[exp] inside: every inner draw on its own, so E[exp(w)] with w ~ N(0, 2)
    through = inner.exp().expectation(q, num_samples=16).estimate(batch_size=50_000)
    assert abs(through.mean().item() - math.e) < 4.5 * through.std().item() / math.sqrt(50_000)


BIASED = {
    "sum": (lambda e, a: 2 * e - a, False),
    "product": (lambda e, a: e * e * a, False),
    "whole power": (lambda e, a: e**3, False),
    "mean": (lambda e, a: (e - a).mean(), False),
    "stop": (lambda e, a: e.detach(), False),
    "function of what is not drawn": (lambda e, a: e / a.exp(), False),
    "quotient": (lambda e, a: a / e, True),
    "log": (lambda e, a: e.log(), True),
    "exp of a mean": (lambda e, a: e.mean().exp(), True),
    "root": (lambda e, a: e**0.5, True),
    "maximum": (lambda e, a: maximum(a, e), True),
    "in a sum": (lambda e, a: a - e.abs() * 2, True),
    "held constant": (lambda e, a: (e.abs() + a).constant_var({"x": torch.zeros(3)}), True),
    "inside an expectation": (lambda e, a: e.log().expectation(Normal("s(x)", loc=0.0, scale=1.0)), True),
}


@pytest.mark.filterwarnings("ignore:.*does not use")
@pytest.mark.parametrize(("make", "biased"), BIASED.values(), ids=BIASED)
def test_a_loss_knows_whether_it_is_biased(make, biased):
    _, e = linear()
    assert make(e, Normal("p(x)", loc=0.0, scale=1.0).log_prob()).is_biased is biased


# --- the score function through nonlinear functions


def categories():
    """E_q[f], y of three categories, f = (1, 3, 2) plus a learnt shift: by each estimator, with everything that is learnt."""
    torch.set_default_dtype(torch.float64)
    q = Categorical("q(y)", logits=nn.Parameter(torch.tensor([0.2, -0.5, 0.4])))
    shift = nn.Linear(1, 1)
    table = torch.tensor([1.0, 3.0, 2.0])
    f = Loss.from_function(Shifted(shift, table), "f", var=["y"])
    return q, shift, f


class Shifted(nn.Module):
    def __init__(self, net, table):
        super().__init__()
        self.net, self.table = net, table

    def forward(self, y):
        return y @ self.table + self.net.bias.square()


THROUGH = {
    "log": lambda e: e.log(),
    "exp": lambda e: (e / 3).exp(),
    "abs": lambda e: (e - 5).abs(),
    "square": lambda e: e**2,
    "root": lambda e: e**0.5,
    "quotient": lambda e: 1 / e,
    "maximum": lambda e: maximum(e, 1.0),
    "logsumexp": lambda e: logsumexp(e, 1.5),
    "log of a square": lambda e: (e**2).log(),
    "clamped away": lambda e: e.clamp(max=0.5),
}


@pytest.mark.parametrize("name", THROUGH)
def test_the_score_function_goes_through_a_function_by_the_chain_rule(name):
    q, shift, f = categories()
    learnt = [q.logits, shift.bias]

    def by(estimator, k):
        value = THROUGH[name](f.expectation(q, estimator=estimator, num_samples=k)).mean()
        return torch.autograd.grad(value.estimate(batch_size=1 if k == 1 else 50), learnt, allow_unused=True)

    exact = [torch.zeros_like(w) if g is None else g for w, g in zip(learnt, by("enumerate", 1))]
    draws = [[torch.zeros_like(w) if g is None else g for w, g in zip(learnt, by("score", 2000))] for _ in range(20)]
    for i, truth in enumerate(exact):
        seen = torch.stack([g[i] for g in draws])
        error = seen.std(0) / math.sqrt(len(draws))
        # what is biased is so by about f''(E) Var/K, of the order of 1/2000
        assert ((seen.mean(0) - truth).abs() < 4.5 * error + 2e-3).all()
        assert (error < 0.01).all()


def test_the_gradient_of_a_function_is_its_derivative_times_that_of_the_estimate():
    q, _, f = categories()
    e = f.expectation(q, estimator="score", num_samples=4)
    with seeded(3):
        plain = e.estimate(batch_size=1)
    with seeded(3):
        logged = e.log().estimate(batch_size=1)
    (g,), (h,) = torch.autograd.grad(plain, q.logits), torch.autograd.grad(logged, q.logits)
    assert g.abs().min() > 0
    torch.testing.assert_close(logged, plain.log())
    torch.testing.assert_close(h, g / plain.detach())


@pytest.mark.parametrize("scored", ["inner", "outer"])
def test_the_score_function_inside_and_outside_of_a_function_in_an_expectation(scored):
    """E_q(y)[exp(E_r(b|y)[g])], with one of the two scored, against both enumerated."""
    q, _, _ = categories()
    logits = nn.Parameter(torch.tensor([0.5, -0.3, 0.1]))
    r = Bernoulli("r(b|y)", logits=Rows(logits))
    g = Loss.from_function(lambda y, b: (0.5 + b[:, 0]) * (y @ torch.tensor([0.5, 1.0, -1.0])), "g", var=["y", "b"])

    def by(inner, outer, k):
        loss = g.expectation(r, estimator=inner, num_samples=k[0]).exp().expectation(q, estimator=outer, num_samples=k[1]).mean()
        return torch.autograd.grad(loss.estimate(batch_size=20), [q.logits, logits])

    exact = by("enumerate", "enumerate", (1, 1))
    how = ("score", "enumerate", (2000, 1)) if scored == "inner" else ("enumerate", "score", (1, 2000))
    draws = [by(*how) for _ in range(20)]
    for i, truth in enumerate(exact):
        seen = torch.stack([x[i] for x in draws])
        error = seen.std(0) / math.sqrt(len(draws))
        assert ((seen.mean(0) - truth).abs() < 4.5 * error + 1e-3).all()
        assert (error < 0.01).all()


class Rows(nn.Module):
    def __init__(self, logits):
        super().__init__()
        self.logits = logits

    def forward(self, y):
        return (y @ self.logits).unsqueeze(-1)


# --- constant variables


def test_a_constant_variable_need_not_be_given():
    torch.set_default_dtype(torch.float64)
    x = torch.randn(4, 2)
    p, q = Normal("p(x|z)", loc="z", scale=1.0), Normal("q(z|x)", loc=nn.Linear(2, 2), scale=0.5)
    elbo = p.log_prob().expectation(q, num_samples=3) - KullbackLeibler(q, Normal("p(z)", loc=0.0, scale=1.0, dim=2))
    held = elbo.constant_var({"x": x})
    assert held.input_var == ()
    assert str(held) == "[E_q(z|x)[log p(x|z)] - KL[q(z|x)||p(z)]]_{x=tensor[4,2]}"
    with seeded(0):
        value = held.estimate()
    with seeded(0):
        torch.testing.assert_close(value, elbo.estimate({"x": x}))
    with seeded(0):
        torch.testing.assert_close(held.sum().estimate({"x": torch.zeros(9, 2)}), value.sum())
    assert torch.equal((held - held).estimate(), torch.zeros(4))
    # what is drawn inside hides nothing outside, and moves with the loss
    assert [k for k in held.state_dict() if "constant" in k] == ["constant_0.value"]
    held.compile(fullgraph=True, backend="eager")
    with seeded(0):
        torch.testing.assert_close(held.estimate(), value)


def test_a_constant_variable_is_copied_and_a_parameter_is_trained():
    a = Normal("p(x)", loc=0.0, scale=1.0).log_prob()
    x = torch.zeros(3)
    held = a.constant_var({"x": x})
    x += 7
    torch.testing.assert_close(held.estimate(), a.estimate({"x": torch.zeros(3)}))
    w = nn.Parameter(torch.ones(3))
    learnt = a.constant_var({"x": w})
    (g,) = torch.autograd.grad(learnt.estimate().sum(), w)
    assert torch.equal(g, -torch.ones(3))
    assert next(learnt.parameters()) is w


def test_constants_one_after_another():
    p = Normal("p(x|z)", loc="z", scale=1.0)
    once = p.log_prob().constant_var({"x": torch.ones(2), "z": torch.zeros(2)})
    twice = p.log_prob().constant_var({"x": torch.ones(2)}).constant_var({"z": torch.zeros(2)})
    assert str(once) == "[log p(x|z)]_{x=[1,1],z=[0,0]}"
    assert str(twice) == "[[log p(x|z)]_{x=[1,1]}]_{z=[0,0]}"
    torch.testing.assert_close(once.estimate(), twice.estimate())


# --- losses from functions


def test_a_function_sees_one_batch_and_is_run_once_for_each_input():
    torch.set_default_dtype(torch.float64)
    seen = []

    class Gap(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(2, 1)

        def forward(self, x, z, t):
            seen.append((x.shape, z.shape, t.shape))
            return (self.fc(x) - z.sum(-1, keepdim=True)).squeeze(-1) * t

    net = Gap()
    gap = Loss.from_function(net, "gap", var=["x", "z", "t"])
    q = Normal("q(z)", loc=0.0, scale=1.0, dim=3)
    loss = gap.expectation(q, num_samples=4) + gap.expectation(q, num_samples=4) ** 2
    values = {"x": torch.randn(5, 2), "t": 0.5}
    assert str(loss) == "E_q(z)[gap(x,z,t)] + E_q(z)[gap(x,z,t)]^2"
    assert sorted(loss.state_dict())[:2] == ["gap(x,z,t).function.fc.bias", "gap(x,z,t).function.fc.weight"]
    with seeded(0):
        value = loss.estimate(values)
    assert seen == [((20, 2), (20, 3), (20,))] * 2  # the square's second factor has draws of its own
    with seeded(0):
        z = [q.sample(batch_size=5, sample_shape=[4])["z"] for _ in range(2)]
    each = [((net.fc(values["x"]) - w.sum(-1, keepdim=True)).squeeze(-1) * 0.5).mean(0) for w in z]
    torch.testing.assert_close(value, each[0] + each[0] * each[1])
    value.sum().backward()
    assert all(w.grad is not None for w in net.parameters())
    loss.compile(fullgraph=True, backend="eager")
    with seeded(0):
        torch.testing.assert_close(loss.estimate(values), value)


def test_a_function_that_is_no_module_registers_nothing():
    loss = Loss.from_function(torch.sum, "total", var=["input"])
    assert [*loss.state_dict()] == [*loss.children()] == []
    assert isinstance(loss, Loss)


# --- likelihoods


def test_prob_is_the_density():
    torch.set_default_dtype(torch.float64)
    p = Normal("p(x)", loc=0.2, scale=1.5)
    x = torch.linspace(-15, 15, 4001)
    assert torch.trapezoid(Prob(p).estimate({"x": x}), x).item() == pytest.approx(1, abs=1e-9)


def test_entropies():
    torch.set_default_dtype(torch.float64)
    probs = torch.tensor([0.2, 0.7, 0.1])
    scale = nn.Parameter(torch.tensor([0.5, 2.0]))
    p = Normal("p(x)", loc=0.0, scale=scale)
    exact = Entropy(p)
    assert exact.is_analytic
    assert (str(exact), exact.latex(), exact.unicode()) == ("H[p(x)]", r"\mathrm{H}\left[p(x)\right]", "H[p(x)]")
    truth = torch.distributions.Normal(0.0, scale).entropy().sum()
    torch.testing.assert_close(exact.estimate(), truth.reshape(1))
    torch.testing.assert_close(torch.autograd.grad(exact.mean().estimate(), scale)[0], 1 / scale.detach())
    drawn = Entropy(p, analytic=False, num_samples=1000)
    assert not drawn.is_analytic
    assert str(drawn) == "-E_p(x)[log p(x)]"
    seen = drawn.estimate(batch_size=200)
    assert abs(seen.mean().item() - truth.item()) < 4.5 * seen.std().item() / math.sqrt(200)
    y = Categorical("p(y)", probs=probs)
    torch.testing.assert_close(Entropy(y).estimate(), -(probs * probs.log()).sum().reshape(1))
    torch.testing.assert_close(Entropy(y, analytic=False).estimate(), Entropy(y).estimate())


def test_the_entropy_of_a_joint_a_conditional_and_a_marginal():
    torch.set_default_dtype(torch.float64)
    y = Categorical("p(y)", probs=torch.tensor([0.3, 0.7]))
    x = Bernoulli("p(x|y)", logits=Rows(torch.tensor([0.5, -1.0])))
    rho = torch.tensor([0.5, -1.0]).sigmoid()
    table = torch.tensor([0.3, 0.7])[:, None] * torch.stack([1 - rho, rho], -1)
    joint, marginal = Entropy(x * y), Entropy((x * y).marginalize_var("y"))
    assert str(joint) == "-E_p(x,y)[log p(x,y)]"
    assert str(marginal) == "-E_p(x)[log p(x)]"
    torch.testing.assert_close(joint.estimate(), -(table * table.log()).sum().reshape(1))
    truth = -(table.sum(0) * table.sum(0).log()).sum()
    draws = Entropy((x * y).marginalize_var("y"), num_samples=500).estimate(batch_size=200)
    assert abs(draws.mean().item() - truth.item()) <= 4.5 * draws.std().item() / math.sqrt(200) + 1e-12
    conditional = Entropy(x)
    assert conditional.is_analytic
    value = conditional.estimate({"y": torch.eye(2)})
    torch.testing.assert_close(value, torch.distributions.Bernoulli(rho).entropy())
    torch.testing.assert_close(Entropy(x.condition(y=torch.tensor([0.0, 1.0]))).estimate(), value[1:])


def test_cross_entropies():
    """-E_q[log p] = H[q] + KL[q||p]."""
    torch.set_default_dtype(torch.float64)
    q, p = Categorical("q(y)", probs=torch.tensor([0.2, 0.7, 0.1])), Categorical("p(y)", probs=torch.tensor([0.3, 0.3, 0.4]))
    torch.testing.assert_close(CrossEntropy(q, p).estimate(), (Entropy(q) + KullbackLeibler(q, p)).estimate())
    q, p = Normal("q(x)", loc=0.0, scale=1.0), Normal("p(x)", loc=1.0, scale=1.5)
    loss = CrossEntropy(q, p, num_samples=1000)
    assert str(loss) == "-E_q(x)[log p(x)]"
    seen, truth = loss.estimate(batch_size=200), (Entropy(q) + KullbackLeibler(q, p)).estimate().item()
    assert abs(seen.mean().item() - truth) < 4.5 * seen.std().item() / math.sqrt(200)


# --- formulas without data, and long ones

Q = Normal("q(z)", loc=0.5, scale=1.0)
F = Normal("p(z)", loc=0.0, scale=2.0).log_prob()
WITHOUT_DATA = {
    "power": Expectation(Q, F) ** 2,
    "elementwise": (Expectation(Q, F).exp() + 1).log().abs().clamp(max=3.0),
    "several": logsumexp(Expectation(Q, F), maximum(KullbackLeibler(Q, Q), 0.1), minimum(Expectation(Q, F.abs()), 1)),
    "detach": Expectation(Q, F.detach()) - Expectation(Q, F).detach(),
    "entropy": Entropy(Q) + Entropy(Q, analytic=False) - CrossEntropy(Q, Q),
    "constant": (F * Parameter("t")).constant_var({"t": 0.3}).expectation(Q) * Entropy(Q),
    "function": Loss.from_function(torch.sin, "sin", var=["input"]).expectation(Normal("q(input)", loc=0.0, scale=1.0)),
}


@pytest.mark.parametrize("name", WITHOUT_DATA)
def test_a_formula_without_data_has_the_batch_that_is_asked_for(name):
    loss = WITHOUT_DATA[name]
    assert loss.estimate().shape == (1,)
    assert loss.estimate(batch_size=7).shape == (7,)
    assert loss.estimate(batch_size=0).shape == (0,)
    assert loss.mean().estimate(batch_size=7).shape == ()
    with seeded(1):
        total = loss.sum().estimate(batch_size=7)
    with seeded(1):
        torch.testing.assert_close(total, loss.estimate(batch_size=7).sum())


def test_formulas_without_data_are_one_graph():
    loss = sum((1 + 0.1 * i) * each for i, each in enumerate(WITHOUT_DATA.values()))
    with seeded(1):
        value = loss.estimate(batch_size=7)
    loss.compile(fullgraph=True, backend="eager")
    with seeded(1):
        torch.testing.assert_close(loss.estimate(batch_size=7), value)


LONG = {
    "sum of exps": lambda a, n: sum(a.exp() for _ in range(n)),
    "product of powers": lambda a, n: math.prod([a.abs() ** 0.001 for _ in range(n)]),
    "logsumexp": lambda a, n: logsumexp(*[a for _ in range(n)]),
    "maximum": lambda a, n: maximum(*[a * i for i in range(n)]),
}


@pytest.mark.parametrize("name", LONG)
def test_more_terms_than_python_recurses_are_one_flat_node(name):
    s = Parts()
    n = sys.getrecursionlimit() + 200
    loss = LONG[name](s.a, n)
    v = s.a.estimate(s.values)
    truth = {
        "sum of exps": n * v.exp(),
        "product of powers": v.abs() ** (0.001 * n),
        "logsumexp": v + math.log(n),
        "maximum": torch.maximum(0 * v, (n - 1) * v),
    }[name]
    torch.testing.assert_close(loss.estimate(s.values), truth)
    assert len(str(loss)) > n
    for other in (copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
        torch.testing.assert_close(other.estimate(s.values), truth)


# --- bad input


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


class Scaled(nn.Module):
    """v z²"""

    def __init__(self, v):
        super().__init__()
        self.v = v

    def forward(self, z):
        return self.v * z.square()


STOPPED = {
    "pathwise": (lambda w: Normal("s(z)", loc=w, scale=1.0), "pathwise", 0.0),
    "score": (lambda w: Normal("s(z)", loc=w, scale=1.0), "score", 2 * 0.7),  # d/dw E[z²] = 2w
    "enumerate": (lambda w: Bernoulli("s(z)", probs=w), "enumerate", 1.0),  # d/dw E[z²] = 1
}


@pytest.mark.parametrize(("make", "estimator", "truth"), STOPPED.values(), ids=STOPPED)
def test_a_stopped_body_leaves_the_gradient_of_what_is_drawn(make, estimator, truth):
    """E_q[stop(f)] has the score function's gradient, and that of a finite sum, but no pathwise one; stop(E_q[f]) has none."""
    torch.set_default_dtype(torch.float64)
    w, v = nn.Parameter(torch.tensor(0.7)), nn.Parameter(torch.tensor(1.0))
    body = Loss.from_function(Scaled(v), "f", var=["z"])
    e = body.detach().expectation(make(w), estimator=estimator, num_samples=4)
    draws = 20_000
    (w_grad, v_grad) = torch.autograd.grad(e.mean().estimate(batch_size=draws) + 0 * w + 0 * v, [w, v])
    # the variance of one leave-one-out estimate is below 10
    assert abs(w_grad.item() - truth) <= (4.5 * math.sqrt(10 / draws) if estimator == "score" else 1e-12)
    assert v_grad.item() == 0
    assert not body.expectation(make(w), estimator=estimator, num_samples=4).detach().estimate(batch_size=3).requires_grad
