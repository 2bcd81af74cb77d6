"""Maps keep their digits where parameters are large, and the law that says so fails where they lose them."""

import math

import mpmath
import pytest
import torch
import torch.nn.functional as F
from planted import planted

from pixyz.flows import AffineMap, Coupling, Logit, Planar, Radial, Sigmoid, SplineMap, testing

EPS = torch.finfo(torch.float32).eps
BOUND = 5.0


def signs(*shape):
    return torch.randn(*shape).sign()


@pytest.mark.parametrize("draw", [torch.randn, signs], ids=["normal", "of one size"])
@pytest.mark.parametrize("size", [1, 5, 50])
def test_a_spline_keeps_to_its_interval_and_to_its_graph(size, draw):
    """push(pull(y)) misses y by at most 10 eps of the interval, times the slope, where x is rounded."""
    narrow, wide = SplineMap(8, BOUND), SplineMap(8, BOUND).double()
    params = size * draw(5_000, narrow.size)
    x = 2 * BOUND * torch.rand(5_000) - BOUND
    for y in (x, narrow.push(x, params)[0], torch.full((5_000,), BOUND), torch.full((5_000,), -BOUND)):
        found, log_slope = narrow.pull(y, params)
        assert found.isfinite().all()
        assert log_slope.isfinite().all()
        assert found.abs().max() <= BOUND
        again, push_log_slope = wide.push(found.double(), params.double())
        stretch = push_log_slope.exp().clamp_min(1)
        assert ((again - y).abs() <= 10 * EPS * 2 * BOUND * stretch).all()
        forth, push_log_slope = narrow.push(y, params)
        assert push_log_slope.isfinite().all()
        exact, push_log_slope = wide.push(y.double(), params.double())
        assert forth.abs().max() <= BOUND
        assert ((forth - exact).abs() <= 10 * EPS * 2 * BOUND * push_log_slope.exp().clamp_min(1)).all()


def knots(params, bins):
    """x, y and slopes of the knots, with 50 digits."""
    rate = -1 / mpmath.log(mpmath.mpf("1e-3"))
    a = [mpmath.mpf(p) for p in params.tolist()]
    a = [p / (1 + abs(p) * rate * (2 if i < 2 * bins else 1)) for i, p in enumerate(a)]
    ends = []
    for part in (a[:bins], a[bins : 2 * bins]):
        sizes = [mpmath.exp(p) for p in part]
        total, reached = mpmath.fsum(sizes), [mpmath.mpf(0)]
        for size in sizes:
            reached.append(reached[-1] + size / total)
        ends.append([BOUND * (2 * r - 1) for r in reached])
    return *ends, [mpmath.mpf(1), *[mpmath.exp(p) for p in a[2 * bins :]], mpmath.mpf(1)]


def spline(x, at):
    """y and the logarithm of the slope: Durkan et al. (2019), eq. 4 and 5."""
    xs, ys, ds = at
    k = max(i for i in range(len(xs) - 1) if xs[i] <= x)
    w, h = xs[k + 1] - xs[k], ys[k + 1] - ys[k]
    s, xi = h / w, (x - xs[k]) / w
    both = xi * (1 - xi)
    below = s + (ds[k + 1] + ds[k] - 2 * s) * both
    slope = s**2 * (ds[k + 1] * xi**2 + 2 * s * both + ds[k] * (1 - xi) ** 2) / below**2
    return ys[k] + h * (s * xi**2 + ds[k] * both) / below, mpmath.log(slope)


@pytest.mark.parametrize("size", [1, 5, 50])
def test_a_spline_is_that_of_the_paper(size):
    """Against 50 digits: y of x; and the x to which float64 maps y back is mapped to y, with this slope."""
    torch.set_default_dtype(torch.float64)
    map, n = SplineMap(4, BOUND), 12
    params = size * torch.randn(n, map.size, dtype=torch.float64)
    t = 2 * BOUND * torch.rand(n, dtype=torch.float64) - BOUND
    (y, log_slope), (x, log_slope_back) = map.push(t, params), map.pull(t, params)
    with mpmath.workdps(50):
        for i in range(n):
            at = knots(params[i], 4)
            true, true_log_slope = spline(mpmath.mpf(t[i].item()), at)
            stretch = max(1.0, float(mpmath.exp(true_log_slope)))
            assert abs(y[i].item() - float(true)) <= 1e-14 * stretch
            assert log_slope[i].item() == pytest.approx(float(true_log_slope), abs=1e-7)
            true, true_log_slope = spline(mpmath.mpf(x[i].item()), at)
            stretch = max(1.0, float(mpmath.exp(true_log_slope)))
            assert abs(t[i].item() - float(true)) <= 1e-14 * stretch
            assert -log_slope_back[i].item() == pytest.approx(float(true_log_slope), abs=1e-4)


@pytest.mark.parametrize("y", [-700.0, -40.0, -20.5, -1.0, 0.0, 20.5, 35.0])
def test_a_sigmoids_log_determinant_has_all_digits(y):
    """It is -|y| - 2 log(1 + e^-|y|); a softplus that is linear above 20 loses the second term."""
    x, log_det = Sigmoid().forward_and_log_det(torch.tensor([[y]], dtype=torch.float64))
    with mpmath.workdps(50):
        p = 1 / (1 + mpmath.exp(-mpmath.mpf(y)))
        assert x.item() == pytest.approx(float(p), rel=1e-14)
        assert log_det.item() == pytest.approx(float(mpmath.log(p) + mpmath.log(1 - p)), rel=1e-15)


@pytest.mark.parametrize("steep", [-30.0, -5.0, 0.0, 30.0])
def test_a_planar_step_that_nearly_folds_keeps_its_log_determinant(steep):
    """log(tanh² + (1 - tanh²) least), which log1p((1 - tanh²)(least - 1)) rounds away where the least is 1e-3."""
    f = Planar(1)
    with torch.no_grad():
        f.params.copy_(torch.tensor([steep, 1.0, 0.0]))  # u, w, b
    x = torch.tensor([[1e-4], [0.5], [8.0]])
    found = f.forward_and_log_det(x)[1]
    with mpmath.workdps(50):
        least = mpmath.mpf("1e-3") + mpmath.mpf("0.999") * mpmath.log1p(mpmath.exp(steep) * (mpmath.e - 1))
        for t, log_det in zip(x.flatten().tolist(), found.tolist()):
            place = mpmath.tanh(mpmath.mpf(t)) ** 2
            assert log_det == pytest.approx(float(mpmath.log(place + (1 - place) * least)), rel=4e-6, abs=4e-7)


@pytest.mark.parametrize("b", [-30.0, -8.0, 0.0, 8.0])
def test_a_radial_step_that_nearly_folds_keeps_its_log_determinant(b):
    """With β near -α all is made of α + β, of which the sum has lost the digits."""
    f = Radial(2)
    with torch.no_grad():
        f.params.copy_(torch.tensor([0.0, 0.0, 1.0, b]))  # the centre, α, β
    x = torch.tensor([[1e-5, 0.0], [1e-2, 0.0], [3.0, 0.0]])
    y, found = f.forward_and_log_det(x)
    back, log_det_back = f.inverse_and_log_det(y)
    torch.testing.assert_close(back, x, rtol=1e-5, atol=1e-6)
    with mpmath.workdps(50):
        start = mpmath.log(mpmath.e - 1)
        alpha = mpmath.log1p(mpmath.exp(1 + start))
        gamma = alpha * (mpmath.mpf("1e-3") + mpmath.mpf("0.999") * mpmath.log1p(mpmath.exp(b + start)))
        for i, t in enumerate(x[:, 0].tolist()):
            r = mpmath.mpf(t)
            along = (r * r + 2 * alpha * r + alpha * gamma) / (alpha + r) ** 2
            true = float(mpmath.log((gamma + r) / (alpha + r)) + mpmath.log(along))
            assert found[i].item() == pytest.approx(true, rel=4e-6, abs=4e-7)
            assert log_det_back[i].item() == pytest.approx(-true, rel=4e-4, abs=4e-6)


def bin_of_height(map, v, params):
    """The knots of the bin of a height in [0, 1], the slopes there, and the bin's: Durkan et al. (2019), section 3.1."""
    k, rate = map.bins, -1 / math.log(1e-3)
    a = params / (1 + params.abs() * rate * (2 - (torch.arange(3 * k - 1) >= 2 * k).to(params.dtype)))
    knots = [F.pad(part.softmax(-1).cumsum(-1), (1, 0)) for part in (a[..., :k], a[..., k : 2 * k])]
    slopes = F.pad(a[..., 2 * k :], (1, 1)).exp()
    place = (v.unsqueeze(-1) > knots[1][..., 1:-1]).sum(-1, keepdim=True)
    left, right, bottom, top, d0, d1 = [t.gather(-1, place + i).squeeze(-1) for t in (*knots, slopes) for i in (0, 1)]
    return left, right, bottom, top, d0, d1, (top - bottom) / (right - left)


def textbook_inverse(monkeypatch):
    """The place in the bin is not held to [0, 1], and the discriminant is a difference."""

    def pull(self, y, params):
        v = (y.clamp(-self.bound, self.bound) + self.bound) / (2 * self.bound)
        left, right, bottom, top, d0, d1, s = bin_of_height(self, v, params)
        t = (v - top) / (top - bottom) + 1
        bent = (d0 + d1 - 2 * s) * t
        a, b, c = s - d0 + bent, d0 - bent, -s * t
        xi = 2 * c / (-b - (b.square() - 4 * a * c).clamp_min(0).sqrt())
        both = xi * (1 - xi)
        below = s + (d0 + d1 - 2 * s) * both
        slope = s.square() * (d1 * xi.square() + 2 * s * both + d0 * (1 - xi).square()) / below.square()
        return (left + (right - left) * xi) * (2 * self.bound) - self.bound, -slope.log()

    monkeypatch.setattr(SplineMap, "pull", pull)


def log_determinant_of_the_rounded_point(monkeypatch):
    planted(monkeypatch, SplineMap, "pull", lambda f: lambda self, y, p: (f(self, y, p)[0], -self.push(f(self, y, p)[0], p)[1]))


def half_precision(monkeypatch):
    planted(
        monkeypatch, AffineMap, "push", lambda f: lambda self, x, p: f(self, x, p if p.dtype == torch.float64 else p.bfloat16().float())
    )


def unbounded_scale(monkeypatch):
    planted(monkeypatch, AffineMap, "push", lambda f: lambda self, x, p: (x * p[..., 1].exp() + p[..., 0], p[..., 1]))
    planted(monkeypatch, AffineMap, "pull", lambda f: lambda self, y, p: ((y - p[..., 0]) * (-p[..., 1]).exp(), -p[..., 1]))


def root_of_nothing(monkeypatch):
    """The value is right, and the gradient inf · 0."""
    planted(monkeypatch, AffineMap, "push", lambda f: lambda self, x, p: (f(self, x, p)[0] + 0 * (x - x).sqrt(), f(self, x, p)[1]))


def ends_reached(monkeypatch):
    planted(monkeypatch, Logit, "pull", lambda f: lambda self, y, c: (y.sigmoid(), f(self, y, c)[1]))


def digits_of_the_least_lost(monkeypatch):
    """α + β has the digits of half precision, as where it is computed as a difference."""

    def make(f):
        def fault(self, x, context):
            if x.dtype != torch.float32:
                return f(self, x, context)
            least = self.params.data[-1:]
            kept = least.clone()
            least.copy_(kept.bfloat16())
            mapped = f(self, x, context)
            least.copy_(kept)
            return mapped

        return fault

    for name in ("push", "pull"):
        planted(monkeypatch, Radial, name, make)


def beyond_the_interval(monkeypatch):
    planted(monkeypatch, SplineMap, "push", lambda f: lambda self, x, p: (f(self, x, p)[0] * (1 + 4 * EPS), f(self, x, p)[1]))


def spline_coupling():
    return Coupling(3, map=SplineMap(8, 3.0), hidden=[6])


FAULTS = {
    "textbook inverse": (textbook_inverse, spline_coupling, 1, "inverse, in float32, with parameters of size (5|50), "),
    "log-determinant of the rounded point": (log_determinant_of_the_rounded_point, spline_coupling, 1, "inverse, .* data are wrong"),
    "half precision": (
        half_precision,
        lambda: Coupling(3, hidden=[6]),
        1,
        "forward, in float32, with parameters of size 1, .* data are wrong",
    ),
    "unbounded scale": (unbounded_scale, lambda: Coupling(3, hidden=[6]), 1, "values are nan or infinite|can be held"),
    "root of nothing": (root_of_nothing, lambda: Coupling(3, hidden=[6]), 1, "the gradient by x is nan or infinite"),
    "ends reached": (ends_reached, lambda: Sigmoid(), 30, r"values from .* to 1 are not all in \(0, 1\)"),
    "lost digits of the least": (digits_of_the_least_lost, lambda: Radial(3), 1, "data are wrong"),
    "beyond the interval": (beyond_the_interval, spline_coupling, 1, r"numbers in \[-3, 3\] become \[-?3.0"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_breaks_the_law(monkeypatch, name):
    plant, make, scale, law = FAULTS[name]
    x = scale * torch.randn(300, 3, dtype=torch.float64)
    if name == "beyond the interval":
        x[:, 2] = 3.0
    options = {"interval": (-3.0, 3.0)} if make is spline_coupling else {}
    testing.check_precision(make, x, **options)
    plant(monkeypatch)
    with pytest.raises(AssertionError, match=law):
        testing.check_precision(make, x, **options)


def test_a_softplus_that_is_linear_above_20_loses_digits():
    """So that the test above is of something."""
    y = torch.tensor(20.5, dtype=torch.float64)
    assert -F.softplus(y) - F.softplus(-y) != F.logsigmoid(y) + F.logsigmoid(-y)
