"""Bounds and divergences on models whose evidence is known, in float64."""

import math

import numpy as np
import pytest
import torch
from torch import distributions
from zoo import Linear

from pixyz.core import seeded
from pixyz.distributions import Bernoulli, Categorical, Normal
from pixyz.losses import ELBO, Expectation, KullbackLeibler, LogProb

D, K, NOISE = 5, 2, 0.7


@pytest.fixture
def model():
    return linear_gaussian()


def linear_gaussian():
    """x = Wz + b + noise, z ~ N(0, I); W has orthogonal columns, so the posterior is diagonal."""
    torch.set_default_dtype(torch.float64)
    basis, _ = torch.linalg.qr(torch.randn(D, K))
    w = basis * torch.tensor([1.5, 0.4])
    b = torch.randn(D)
    p = Linear("x", "z", w, b, NOISE)
    prior = Normal(var=["z"], loc=0.0, scale=1.0, dim=K, name="p_prior")
    variance = 1 / (1 + w.square().sum(0) / NOISE**2)
    posterior = Linear("z", "x", (variance / NOISE**2).unsqueeze(-1) * w.T, -(variance / NOISE**2) * (b @ w), variance.sqrt(), name="q")
    evidence = torch.distributions.MultivariateNormal(b, w @ w.T + NOISE**2 * torch.eye(D))
    return p, prior, posterior, evidence, w, b


def test_at_the_exact_posterior_every_sample_of_the_elbo_is_the_evidence(model):
    p, prior, q, evidence, *_ = model
    x = torch.randn(7, D)
    for num_samples in (1, 3):
        for _ in range(5):
            value = ELBO(p * prior, q, num_samples=num_samples).estimate({"x": x})
            torch.testing.assert_close(value, evidence.log_prob(x), rtol=0, atol=1e-10)


def test_with_the_prior_as_q_the_elbo_is_its_closed_form(model):
    p, prior, _, _, w, b = model
    x = torch.randn(4, D)
    truth = -0.5 * D * math.log(2 * math.pi * NOISE**2) - ((x - b).square().sum(-1) + w.square().sum()) / (2 * NOISE**2)
    draws = torch.stack([ELBO(p * prior, prior, num_samples=1000).estimate({"x": x}) for _ in range(50)])
    error = draws.std(0) / math.sqrt(len(draws))
    assert ((draws.mean(0) - truth).abs() < 4 * error).all()
    assert (error < 0.2).all()


def test_reconstruction_minus_analytic_kl_estimates_the_same_bound(model):
    p, prior, _, _, w, b = model
    q = Linear("z", "x", 0.1 * w.T, torch.zeros(K), 0.8, name="q")
    x = torch.randn(4, D)
    # E_q[log p(x|z)] and KL[q||p] in closed form
    mean = 0.1 * x @ w
    spread = (w.square() * 0.8**2).sum()
    reconstruction = -0.5 * D * math.log(2 * math.pi * NOISE**2) - ((x - b - mean @ w.T).square().sum(-1) + spread) / (2 * NOISE**2)
    kl = 0.5 * (0.8**2 + mean.square() - 1 - 2 * math.log(0.8)).sum(-1)
    torch.testing.assert_close(KullbackLeibler(q, prior).estimate({"x": x}), kl)
    for loss in (
        Expectation(q, LogProb(p), num_samples=1000) - KullbackLeibler(q, prior),
        Expectation(q, LogProb(p), num_samples=1000) - KullbackLeibler(q, prior, analytic=False, num_samples=1000),
        ELBO(p * prior, q, num_samples=1000),
    ):
        draws = torch.stack([loss.estimate({"x": x}) for _ in range(30)])
        assert ((draws.mean(0) - (reconstruction - kl)).abs() < 4 * draws.std(0) / math.sqrt(30)).all()


def test_the_gradient_of_the_bound_is_that_of_the_evidence_at_the_posterior(model):
    p, prior, q, evidence, w, b = model
    x = torch.randn(6, D)
    loss = ELBO(p * prior, q, num_samples=20_000).mean()
    loss.estimate({"x": x}).backward()
    exact_b = b.clone().requires_grad_()
    torch.distributions.MultivariateNormal(exact_b, w @ w.T + NOISE**2 * torch.eye(D)).log_prob(x).mean().backward()
    torch.testing.assert_close(p.bias.grad, exact_b.grad, rtol=0, atol=0.02)


def test_shared_draws_cancel():
    """E_q[f] - E_q[g] has zero variance where f = g, and so has reconstruction minus sampled KL at the exact posterior."""
    q, p = Normal(var=["z"], loc=0.0, scale=1.0, name="q"), Normal(var=["z"], loc=1.0, scale=2.0)
    f = LogProb(p)
    shared = Expectation(q, f) - Expectation(q, LogProb(p))
    assert torch.equal(shared.estimate(batch_size=100), torch.zeros(100))
    apart = Expectation(q, f) - Expectation(q, f, share=False)
    assert apart.estimate(batch_size=100).std() > 0.1


def test_shared_draws_at_the_exact_posterior(model):
    p, prior, q, evidence, *_ = model
    x = torch.randn(7, D)
    split = Expectation(q, LogProb(p)) - KullbackLeibler(q, prior, analytic=False)
    torch.testing.assert_close(split.estimate({"x": x}), evidence.log_prob(x), rtol=0, atol=1e-10)


def test_a_product_of_expectations_draws_anew():
    """E[z]·E[z] = 1 for z ~ N(1, 2²); with a shared draw it would estimate E[z²] = 5."""
    q = Normal(var=["z"], loc=1.0, scale=2.0, name="q")

    class Value(Normal):
        """log p(w|z) = z - (w - z)²/2 + const, so that a linear function of z can be had from densities."""

        def forward(self, z):
            return {"loc": z, "scale": torch.ones_like(z)}

    # log N(w; z, 1) - log N(w; z-1, 1) at w = 0 is  (z-1)²/2 - z²/2 = 1/2 - z
    class Shifted(Normal):
        def forward(self, z):
            return {"loc": z - 1, "scale": torch.ones_like(z)}

    linear = 0.5 - (Value(var=["w"], cond_var=["z"]).log_prob() - Shifted(var=["w"], cond_var=["z"], name="r").log_prob())
    values = {"w": torch.zeros(200_000)}
    mean = Expectation(q, linear)
    assert mean.mean().estimate(values).item() == pytest.approx(1.0, abs=0.03)
    assert (mean * mean).mean().estimate(values).item() == pytest.approx(1.0, abs=0.06)
    assert (mean * Expectation(q, linear)).mean().estimate(values).item() == pytest.approx(1.0, abs=0.06)
    assert Expectation(q, linear * linear).mean().estimate(values).item() == pytest.approx(5.0, abs=0.1)
    scaled = (2 * mean - mean - mean).estimate(values)
    assert torch.allclose(scaled, torch.zeros_like(scaled), atol=1e-5)


def test_an_expectation_inside_another_draws_for_every_outer_sample():
    """E_q[E_r[log p(w|y)]] with w given: y is drawn anew for each z, not once for all."""
    q = Normal(var=["z"], loc=0.0, scale=1.0, name="q")

    class Walk(Normal):
        def forward(self, z):
            return {"loc": z, "scale": torch.ones_like(z)}

    r = Walk(var=["y"], cond_var=["z"], name="r")
    p = Walk(var=["w"], cond_var=["z"]).replace_var(z="y")
    nested = Expectation(q, Expectation(r, LogProb(p)), num_samples=100)
    flat = Expectation(r * q, LogProb(p), num_samples=100)
    values = {"w": torch.zeros(2000)}
    # E[-(w-y)²/2] with y ~ N(0, 2) is -1
    truth = -0.5 * math.log(2 * math.pi) - 1.0
    assert nested.mean().estimate(values).item() == pytest.approx(truth, abs=0.02)
    assert flat.mean().estimate(values).item() == pytest.approx(truth, abs=0.02)
    # the standard deviation of the mean of 100 is that of independent inner draws
    assert nested.estimate(values).std().item() == pytest.approx(flat.estimate(values).std().item(), rel=0.15)


@pytest.mark.parametrize("num_samples", [1, 5])
def test_several_samples_equal_a_loop_over_single_ones(num_samples):
    class Walk(Normal):
        def forward(self, x):
            return {"loc": x, "scale": torch.ones_like(x)}

    torch.set_default_dtype(torch.float64)
    q = Walk(var=["z"], cond_var=["x"], name="q")
    p = Normal(var=["z"], loc=0.0, scale=2.0, dim=3)
    x = torch.randn(4, 3)
    with seeded(0):
        value = Expectation(q, LogProb(p), num_samples=num_samples).estimate({"x": x})
    with seeded(0):
        noise = torch.randn(*([num_samples] * (num_samples > 1)), 4, 3)
    expected = torch.distributions.Normal(0.0, 2.0).log_prob(x + noise).sum(-1)
    torch.testing.assert_close(value, expected.mean(0) if num_samples > 1 else expected)


@pytest.mark.parametrize("estimator", ["enumerate", "score"])
def test_gradient_through_a_bernoulli(estimator):
    """d/dp E_Bern(p)[(b - .499)²] = .002 at p = .3, where the value is .249601; never silently zero."""
    torch.set_default_dtype(torch.float64)
    probs = torch.nn.Parameter(torch.tensor(0.3))
    q = Bernoulli(var=["b"], probs=probs, name="q")

    class Shift(Normal):
        def forward(self, b):
            return {"loc": b, "scale": torch.full_like(b, math.sqrt(0.5))}

    # log N(w; b, 1/2) = -(w-b)² - log(π)/2
    cost = -Shift(var=["w"], cond_var=["b"]).log_prob() - 0.5 * math.log(math.pi)
    k, n = (1, 1) if estimator == "enumerate" else (1000, 1000)
    loss = Expectation(q, cost, num_samples=k, estimator=estimator)
    values = {"w": torch.full((n,), 0.499)}
    per_datum = loss.estimate(values)
    (gradient,) = torch.autograd.grad(per_datum.mean(), probs)
    if estimator == "enumerate":
        assert per_datum.item() == pytest.approx(0.249601, abs=1e-9)
        assert gradient.item() == pytest.approx(0.002, abs=1e-9)
    else:
        # (f - baseline)·dlog q/dp has standard deviation .00091 per draw here
        assert per_datum.mean().item() == pytest.approx(0.249601, abs=1e-5)
        assert gradient.item() == pytest.approx(0.002, abs=4 * 0.00044 / math.sqrt(k * n) + 1e-5)


def test_score_gradients_of_a_joint_with_a_conditional_below():
    """y ~ Cat, b ~ Bern(p_y), by enumeration and by the score function, for the parameters of both."""
    torch.set_default_dtype(torch.float64)

    class B(Bernoulli):
        def __init__(self):
            super().__init__(var=["b"], cond_var=["y"], name="q")
            self.logits = torch.nn.Parameter(torch.tensor([0.3, -0.8, 1.0]))

        def forward(self, y):
            return {"logits": y @ self.logits.unsqueeze(-1)}

    class Cost(Normal):
        def forward(self, y, b):
            return {"loc": b[..., 0] * (y @ torch.tensor([1.0, 2.0, 3.0])), "scale": torch.ones_like(b[..., 0])}

    y = Categorical(var=["y"], logits=torch.nn.Parameter(torch.tensor([0.1, 0.5, -0.4])), name="r")
    b = B()
    f = Cost(var=["w"], cond_var=["y", "b"]).log_prob()

    def gradients(estimator, k, n):
        loss = Expectation(b * y, f, num_samples=k, estimator=estimator)
        values = {"w": torch.ones(n)}
        out = loss.estimate(values)
        return out.mean().detach(), torch.autograd.grad(out.mean(), [y.logits, b.logits])

    value, exact = gradients("enumerate", 1, 1)
    # by hand
    pi, rho = y.logits.softmax(-1), b.logits.sigmoid()
    cost = -0.5 * math.log(2 * math.pi) - 0.5 * (1 - torch.tensor([[0.0, 1.0], [0.0, 2.0], [0.0, 3.0]])).square()
    by_hand = (pi[:, None] * torch.stack([1 - rho, rho], -1) * cost).sum()
    torch.testing.assert_close(value, by_hand.detach())
    for a, e in zip(exact, torch.autograd.grad(by_hand, [y.logits, b.logits])):
        torch.testing.assert_close(a, e)
    for mix in ("score", {"y": "enumerate", "b": "score"}, {"y": "score", "b": "enumerate"}):
        draws = [gradients(mix, 4, 2000) for _ in range(40)]
        for i in range(2):
            seen = torch.stack([g[i] for _, g in draws])
            error = seen.std(0) / math.sqrt(len(draws))
            assert ((seen.mean(0) - exact[i]).abs() < 4.5 * error + 1e-12).all(), mix
    assert (error < 0.02).all()


MIXED = [{"y": "enumerate", "z": "pathwise"}, {"y": "enumerate", "z": "score"}, {"y": "score", "z": "pathwise"}, "score"]


@pytest.mark.parametrize("mix", MIXED, ids=lambda mix: mix if isinstance(mix, str) else "-".join(mix.values()))
def test_a_discrete_and_a_continuous_variable_against_quadrature(mix):
    """The bound of p(w|y,z)p(z)p(y), its value and its gradient: y enumerated and z by Gauss-Hermite quadrature."""
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    slopes, frequency, w = torch.tensor([0.5, -1.0, 2.0]), torch.tensor([0.2, 0.5, 0.3]), torch.tensor(0.7)
    logits, locs, log_scales = learnt = [(0.5 * torch.randn(3)).requires_grad_() for _ in range(3)]

    def body(y, z):  # log p(w,y,z) - log q(y,z), for the label number y
        p = distributions.Normal((slopes[y] * z).sin() + z, 0.8).log_prob(w) + distributions.Normal(0.0, 1.0).log_prob(z)
        q = distributions.Normal(locs[y], log_scales[y].exp()).log_prob(z)
        return p + frequency[y].log() - q - logits.log_softmax(-1)[y]

    nodes, weights = (torch.tensor(t) for t in np.polynomial.hermite_e.hermegauss(80))
    inner = [weights @ body(y, locs[y] + log_scales[y].exp() * nodes) / math.sqrt(2 * math.pi) for y in range(3)]
    truth = logits.softmax(-1) @ torch.stack(inner)
    wanted = torch.cat([truth.detach().reshape(1), *torch.autograd.grad(truth, learnt)])

    p_y, q_y = Categorical("p(y)", probs=frequency), Categorical("q(y|a)", logits=lambda a: a @ logits.unsqueeze(0))
    q_z = Normal("q(z|y)", loc=lambda y: y @ locs.unsqueeze(-1), scale=lambda y: (y @ log_scales.unsqueeze(-1)).exp())
    likelihood = Normal("p(w|y,z)", loc=lambda y, z: ((y @ slopes.unsqueeze(-1)) * z).sin() + z, scale=0.8)
    p = likelihood * Normal("p(z)", loc=0.0, scale=1.0, dim=1) * p_y
    bound = ELBO(p, q_z * q_y, num_samples=4, estimator=mix).mean()
    values = {"w": w.expand(5_000, 1), "a": torch.ones(5_000, 1)}
    runs = []
    for _ in range(50):  # 10⁶ draws
        value = bound.estimate(values)
        runs.append(torch.cat([value.detach().reshape(1), *torch.autograd.grad(value, learnt)]))
    found = torch.stack(runs)
    error = found.std(0) / math.sqrt(len(found))
    assert (error < 0.02).all()
    assert ((found.mean(0) - wanted).abs() < 4 * error).all()


def test_an_impossible_value_adds_nothing():
    torch.set_default_dtype(torch.float64)
    probs = torch.nn.Parameter(torch.tensor([1.0, 0.0]))
    y = Categorical(var=["y"], probs=probs, name="q")

    class Infinite(Normal):
        def forward(self, y):
            return {"loc": torch.where(y[:, 1] == 1, torch.inf, 0.0), "scale": torch.ones_like(y[:, 0])}

    value = Infinite(var=["w"], cond_var=["y"]).log_prob().expectation(y).estimate({"w": torch.zeros(1)})
    assert value.item() == pytest.approx(-0.5 * math.log(2 * math.pi))
    value.backward()
    assert probs.grad.isfinite().all()


def test_score_from_one_draw_warns():
    q = Bernoulli(var=["b"], probs=torch.nn.Parameter(torch.full((20,), 0.5)), name="q")
    with pytest.warns(UserWarning, match=r"the gradient through q\(b\) is estimated by the score function from one draw"):
        LogProb(q).expectation(q).estimate()


def test_estimators_that_cannot_serve():
    from pixyz.core import FormulaError, IntractableError

    q, z = Bernoulli(var=["b"], probs=0.5, dim=20, name="q"), Normal(var=["z"], loc=0.0, scale=1.0, name="q")
    with pytest.raises(FormulaError, match=r"q\(b\) \(Bernoulli\) has no pathwise gradient"):
        Expectation(q, LogProb(q), estimator="pathwise")
    with pytest.raises(FormulaError, match="there is no estimator 'magic'; choose one of auto, enumerate, pathwise, score, relaxed"):
        Expectation(q, LogProb(q), estimator="magic")
    with pytest.raises(FormulaError, match="E_q\\(b\\) has no variable y to choose an estimator for"):
        Expectation(q, LogProb(q), estimator={"y": "score"})
    with pytest.raises(FormulaError, match="takes infinitely many values"):
        Expectation(z, LogProb(z), estimator="enumerate")
    with pytest.raises(IntractableError, match="enumerating b takes 1048576 points, more than 256"):
        Expectation(q, LogProb(q), estimator="enumerate").estimate()


def test_enumerating_what_mixes_the_batch_is_refused():
    from pixyz.core import ShapeError

    y = Categorical(var=["y"], probs=torch.nn.Parameter(torch.tensor([0.5, 0.5])), name="q")
    with pytest.raises(ShapeError, match="mixes the data of a batch"):
        Expectation(y, LogProb(y).mean()).estimate(batch_size=3)


def test_arithmetic_is_arithmetic():
    from pixyz.losses import Parameter

    torch.set_default_dtype(torch.float64)
    p, r = Normal(var=["x"], loc=0.0, scale=1.0), Normal(var=["x"], loc=1.0, scale=2.0, name="r")
    a, b, x = LogProb(p), LogProb(r), torch.randn(6)
    va, vb = p.log_likelihood({"x": x}), r.log_likelihood({"x": x})
    beta, weights = Parameter("beta"), torch.rand(6)
    cases = {
        "a + b - 2": (a + b - 2, va + vb - 2),
        "1 - a": (1 - a, 1 - va),
        "a - (b - a)": (a - (b - a), va - (vb - va)),
        "2 * a * b": (2 * a * b, 2 * va * vb),
        "a / b": (a / b, va / vb),
        "1 / a": (1 / a, 1 / va),
        "-a": (-a, -va),
        "weights * a": (weights * a, weights * va),
        "a * weights": (a * weights, weights * va),
        "beta * a": (beta * a, 0.3 * va),
        "a.mean()": (a.mean(), va.mean()),
        "a.sum()": (a.sum(), va.sum()),
        "a.mean() * b": (a.mean() * b, va.mean() * vb),
        "sum([a, b])": (sum([a, b]), va + vb),
        "beta.sum()": (beta.sum() + 0 * a.mean(), torch.tensor(0.3)),
        "number": ((beta + 1) * 2, torch.tensor(2.6)),
    }
    for name, (loss, expected) in cases.items():
        torch.testing.assert_close(loss.estimate({"x": x, "beta": 0.3}), expected, msg=lambda m, n=name: f"{n}: {m}", check_dtype=False)


def test_numbers_of_numpy_combine():
    import numpy as np

    a = LogProb(Normal(var=["x"], loc=0.0, scale=1.0))
    assert str(np.float64(0.5) * a) == "0.5 * log p(x)"
    assert str(a - np.float64(0.5)) == "log p(x) - 0.5"


def test_a_formula_without_data_has_the_batch_it_is_asked_for():
    q, p = Normal(var=["z"], loc=0.0, scale=1.0, name="q"), Normal(var=["z"], loc=1.0, scale=1.5)
    kl = KullbackLeibler(q, p)
    assert kl.estimate().shape == (1,)
    assert kl.estimate(batch_size=4).shape == (4,)
    torch.testing.assert_close(kl.sum().estimate(batch_size=4), 4 * kl.mean().estimate(batch_size=4))
    assert Expectation(q, LogProb(p)).estimate(batch_size=4).unique().numel() == 4


def test_labelled_and_unlabelled_batches_differ(model):
    p, prior, q, *_ = model
    elbo = ELBO(p * prior, q)
    elbo_u = ELBO((p * prior).replace_var(x="x_u"), q.replace_var(x="x_u"))
    loss = elbo.sum() + elbo_u.mean()
    value = loss.estimate({"x": torch.randn(4, D), "x_u": torch.randn(9, D)})
    assert value.shape == ()


def test_an_expectation_over_what_its_body_does_not_use_warns():
    q, p = Normal("q(z)", loc=0.0, scale=1.0), Normal("p(x)", loc=0.0, scale=1.0)
    with pytest.warns(UserWarning, match=r"E_q\(z\)\[log p\(x\)\]: log p\(x\) does not use z, so the expectation is log p\(x\) itself"):
        p.log_prob().expectation(q)
