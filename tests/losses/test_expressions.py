# ruff: noqa: E501
"""Expressions: each operator against arithmetic on its parts' values, printed, traced and copied; and which draws are shared."""

import copy
import math
import pickle
import sys

import pytest
import torch
from torch import nn

from pixyz.core import seeded
from pixyz.distributions import Bernoulli, Categorical, Normal
from pixyz.losses import CrossEntropy, Expectation, Loss, Parameter, Prob, log_mean_exp, logsumexp, maximum, minimum

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
    torch.compiler.reset()
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
        return torch.autograd.grad(value.estimate(batch_size=1 if k == 1 else 20), learnt, allow_unused=True)

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


LONG = {
    "sum of exps": lambda a, n: sum([a.exp()] * n),
    "product of powers": lambda a, n: math.prod([a.abs() ** 0.001] * n),
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


@pytest.mark.parametrize("batches", [(3, 2), (3, 1), (1, 3)])
@pytest.mark.parametrize("reduce", ["sum", "mean"])
def test_a_term_of_no_data_has_the_batch_of_those_beside_it(reduce, batches):
    """E_q[log q/p], which depends on nothing given, in two sums over batches of different sizes."""
    torch.manual_seed(0)
    q, p, x = (Bernoulli(text, logits=nn.Parameter(torch.randn(1))) for text in ("q(z)", "p(z)", "p(x)"))
    apart = (p.log_prob() - q.log_prob()).expectation(q)
    own, other = x.log_prob() + apart, x.replace_var(x="x_u").log_prob() + apart
    values = {"x": torch.ones(batches[0], 1), "x_u": torch.ones(batches[1], 1)}
    both = (getattr(own, reduce)() + getattr(other, reduce)()).estimate(values)
    each = own.estimate({"x": torch.ones(1, 1)}).squeeze()
    torch.testing.assert_close(both, each * (sum(batches) if reduce == "sum" else 2))
