"""Continuous flows against linear fields, whose solution is an exponential, and against their own Jacobian."""

import builtins
import math
import sys

import pytest
import torch
from planted import planted
from torch import nn

from pixyz.core import KindError, ParameterError, ShapeError
from pixyz.flows import ContinuousFlow, testing

A = torch.tensor([[0.3, -1.1, 0.4], [0.8, -0.2, 0.1], [0.0, 0.5, 0.6]], dtype=torch.float64)
TIME = 1.5


class Linear(nn.Module):
    """dx/dt = A x."""

    def __init__(self, matrix):
        super().__init__()
        self.matrix = nn.Parameter(matrix.clone())

    def forward(self, x, t, context):
        return x @ self.matrix.T


class Growing(nn.Module):
    """dx/dt = c t x, so that x(T) = x(0) exp(c T²/2)."""

    def forward(self, x, t, context):
        return context * t * x


class Wrong(nn.Module):
    def forward(self, x, t, context):
        return x[:, :1]


def linear(**options):
    return ContinuousFlow(3, field=Linear(A), time=TIME, **options)


def data():
    return torch.randn(5, 3, dtype=torch.float64)


SOLVERS = {
    # the error of a scheme of order n with a step of h is a number near 1 times h^n
    "euler": ({"solver": "euler", "steps": 500}, 2e-2),
    "midpoint": ({"solver": "midpoint", "steps": 500}, 2e-5),
    "rk4": ({"solver": "rk4", "steps": 100}, 1e-8),
    "dopri5": ({"solver": "dopri5", "tolerance": 1e-10}, 1e-8),
    "dopri5, adjoint": ({"solver": "dopri5", "tolerance": 1e-10, "adjoint": True}, 1e-8),
    "bosh3": ({"solver": "bosh3", "tolerance": 1e-7}, 1e-5),
}


@pytest.mark.parametrize("name", SOLVERS)
def test_a_linear_field_is_an_exponential(name):
    """The map is expm(A·T), the log-determinant tr(A)·T."""
    options, tolerance = SOLVERS[name]
    f, x = linear(**options), data()
    y, log_det = f.forward_and_log_det(x)
    torch.testing.assert_close(y, x @ torch.linalg.matrix_exp(A * TIME).T, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(log_det, (A.trace() * TIME).expand(5), rtol=1e-8, atol=1e-8)
    back, log_det_back = f.inverse_and_log_det(y)
    torch.testing.assert_close(back, x, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(log_det_back, -log_det)


@pytest.mark.parametrize("name", ["rk4", "dopri5", "dopri5, adjoint"])
def test_the_gradient_of_a_linear_field(name):
    """By A, of a sum of the map and of the log-determinant, against that of the exponential."""
    options, tolerance = SOLVERS[name]
    f, x = linear(**options), data().requires_grad_()
    weights = torch.randn(5, 3, dtype=torch.float64)
    y, log_det = f.forward_and_log_det(x)
    found = torch.autograd.grad((weights * y).sum() + log_det.sum(), [x, f.field.matrix])
    matrix = A.clone().requires_grad_()
    truth = (weights * (x @ torch.linalg.matrix_exp(matrix * TIME).T)).sum() + 5 * matrix.trace() * TIME
    for a, b in zip(found, torch.autograd.grad(truth, [x, matrix])):
        torch.testing.assert_close(a, b, rtol=10 * tolerance, atol=10 * tolerance)


@pytest.mark.parametrize("options", [{}, {"solver": "dopri5"}, {"solver": "dopri5", "adjoint": True}], ids=["rk4", "dopri5", "adjoint"])
def test_the_field_sees_time_and_context(options):
    c = torch.tensor([[0.5], [-1.0]], dtype=torch.float64, requires_grad=True)
    f = ContinuousFlow(2, field=Growing(), context=1, time=2.0, tolerance=1e-8, **options)
    y, log_det = f.forward_and_log_det(torch.ones(2, 2, dtype=torch.float64), c)
    torch.testing.assert_close(y, (2 * c).exp().expand(2, 2), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(log_det, 4 * c[:, 0], rtol=1e-6, atol=1e-6)
    (by_context,) = torch.autograd.grad(y.sum(), c)
    torch.testing.assert_close(by_context, 4 * (2 * c).exp(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("noise", ["rademacher", "gaussian"])
@pytest.mark.parametrize("shape", [(3,), (2, 2, 2)], ids=str)
def test_hutchinson_is_unbiased(noise, shape):
    """The average over draws of the noise is the exact log-determinant, to 4 standard errors; the map is the same."""
    options = {"context": 2, "hidden": [8], "steps": 2, "noise": noise}
    exact, estimate = (ContinuousFlow(shape, trace=trace, **options) for trace in ("exact", "hutchinson"))
    testing.moved(exact, by=1.0)
    estimate.double().load_state_dict(exact.state_dict())
    x, c = torch.randn(1, *shape, dtype=torch.float64), torch.randn(1, 2, dtype=torch.float64)
    n = 4000
    with torch.no_grad():
        y, truth = exact.forward_and_log_det(x, c)
        z, found = estimate.forward_and_log_det(x.expand(n, *shape), c.expand(n, 2))
    torch.testing.assert_close(z, y.expand_as(z))
    error = found.std() / math.sqrt(n)
    assert error > 0
    assert (found.mean() - truth).abs() < 4 * error


def test_hutchinson_needs_no_luck_where_the_trace_is_all():
    """±1 squared is 1, so of a diagonal Jacobian the estimate is exact."""
    f = ContinuousFlow(20, field=Linear(torch.diag(torch.linspace(-1, 1, 20, dtype=torch.float64) + 0.1)))
    assert not f.is_exact
    log_det = f.forward_and_log_det(torch.randn(5, 20, dtype=torch.float64))[1]
    torch.testing.assert_close(log_det, torch.full((5,), 2.0, dtype=torch.float64))


def test_noise_is_drawn_anew_and_stays_over_one_solution():
    """Of dx/dt = (x₂, 0) the estimate at each stage is ε₁ε₂, so only with one noise is the integral T or -T."""
    f = ContinuousFlow(2, field=Linear(torch.tensor([[0.0, 1.0], [0.0, 0.0]])), time=TIME, steps=3, trace="hutchinson")
    first, second = (f.forward_and_log_det(torch.ones(50, 2))[1] for _ in range(2))
    for log_det in (first, second):
        torch.testing.assert_close(log_det.abs(), torch.full((50,), TIME))
    assert not torch.equal(first, second)


def test_it_trains_compiled():
    """The steps run as one graph, the backward pass too."""
    f = ContinuousFlow(2, hidden=[4], solver="euler", steps=2).double()
    x = torch.randn(5, 2, dtype=torch.float64)

    def loss(x):
        y, log_det = f.forward_and_log_det(x)
        return (y.square().sum(1) / 2 - log_det).mean()

    expected = torch.autograd.grad(loss(x), list(f.parameters()))
    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    for found, truth in zip(torch.autograd.grad(compiled(x), list(f.parameters())), expected):
        torch.testing.assert_close(found, truth)


def test_an_adaptive_solver_takes_an_empty_batch():
    y, log_det = linear(solver="dopri5").forward_and_log_det(torch.zeros(0, 3, dtype=torch.float64))
    assert y.shape == (0, 3)
    assert log_det.shape == (0,)


MISUSES = {
    "no steps": (lambda: ContinuousFlow(2, steps=0), KindError, "steps must be a positive whole number; got 0"),
    "no time": (lambda: ContinuousFlow(2, time=0.0), KindError, "time and tolerance must be positive; got 0.0"),
    "another solver": (
        lambda: ContinuousFlow(2, solver="rk5"),
        ParameterError,
        "solver must be one of euler, midpoint, rk4, .*dopri5.*got 'rk5'",
    ),
    "another trace": (lambda: ContinuousFlow(2, trace="none"), ParameterError, 'trace must be "exact" or "hutchinson"; got \'none\''),
    "another noise": (lambda: ContinuousFlow(2, noise="t"), ParameterError, 'noise must be "rademacher" or "gaussian"; got \'t\''),
    "two fields": (lambda: ContinuousFlow(2, field=Wrong(), network=nn.Linear), KindError, "a field or what makes its network, not both"),
    "a wrong field": (
        lambda: ContinuousFlow(2, field=Wrong())(torch.ones(5, 2)),
        ShapeError,
        r"the shape of x, \(5, 2\); it gave \(5, 1\)",
    ),
}


@pytest.mark.parametrize("name", MISUSES)
def test_a_misuse_is_told(name):
    misuse, kind, message = MISUSES[name]
    with pytest.raises(kind, match=message):
        misuse()


def test_a_missing_extra_says_the_line_that_installs_it(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "torchdiffeq":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.delitem(sys.modules, "torchdiffeq", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    ContinuousFlow(2)
    with pytest.raises(ImportError, match=r'pip install "pixyz-flows\[ode\]"'):
        ContinuousFlow(2, solver="dopri5")


def half_of_the_trace(monkeypatch):
    for way in ("push", "pull"):
        planted(monkeypatch, ContinuousFlow, way, lambda f: lambda self, x, c: (f(self, x, c)[0], f(self, x, c)[1] / 2))


def inverse_runs_forwards(monkeypatch):
    planted(monkeypatch, ContinuousFlow, "pull", lambda f: ContinuousFlow.push)


FAULTS = {
    "half of the trace": (half_of_the_trace, "^ContinuousFlow: the log-determinant is"),
    "the inverse runs forwards": (inverse_runs_forwards, "the inverse of the forward direction"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_breaks_a_law(monkeypatch, name):
    plant, law = FAULTS[name]

    def make():
        return ContinuousFlow(3, hidden=[6], time=0.5, steps=2)

    testing.check(make, data(), tolerance=1e-6, depth=None, traceable=False, sizes=())
    plant(monkeypatch)
    with pytest.raises(AssertionError, match=law):
        testing.check(make, data(), tolerance=1e-6, depth=None, traceable=False, sizes=())
