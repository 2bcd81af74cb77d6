"""Bounds and their gradients, against closed forms, enumeration and one another, in float64."""

import itertools
import math

import pytest
import torch
from torch import nn
from zoo import Computed

from pixyz.core import Expectation, FormulaError, IntractableError, KindError, LogProb, Parameter, SupportError, seeded
from pixyz.distributions import Bernoulli, Categorical, Deterministic, Laplace, Normal
from pixyz.losses import ELBO, IWAE, DReG, KullbackLeibler, LogRatio, RenyiBound, ReweightedWakeSleep, StickingTheLanding


@pytest.fixture(autouse=True)
def in_float64():
    torch.set_default_dtype(torch.float64)


def linear_model():
    """p(x|z)p(z) with a linear decoder, so that log p(x) and the posterior are exact; and a q(z|x) that is not the posterior."""
    torch.manual_seed(0)
    p = Normal("p(x|z)", loc=nn.Linear(2, 3), scale=0.7) * Normal("p(z)", loc=0.0, scale=1.0, dim=2)
    q = Normal("q(z|x)", loc=nn.Linear(3, 2), scale=nn.Parameter(torch.tensor([0.5, 0.9])))
    x = torch.randn(1, 3)
    return p, q, x, p.marginalize_var("z").log_likelihood({"x": x}).item()


def mean_of(loss, x, count=20_000, rounds=5):
    """The mean and standard error of a bound for one datum."""
    with torch.no_grad():
        values = torch.cat([loss.estimate({"x": x.expand(count, -1)}) for _ in range(rounds)])
    return values.mean().item(), values.std().item() / len(values) ** 0.5


def test_importance_weighted_bounds_rise_to_the_likelihood():
    p, q, x, truth = linear_model()
    bounds = [mean_of(IWAE(p, q, num_samples=k), x, count=4_000) for k in (1, 2, 4, 16, 64, 256)]
    for (a, sa), (b, sb) in itertools.pairwise(bounds):
        assert b - a > 2 * (sa**2 + sb**2) ** 0.5
    assert all(value < truth + 4 * error for value, error in bounds)
    assert truth - bounds[-1][0] < 0.05


def test_one_sample_is_the_elbo():
    p, q, x, _ = linear_model()
    values = {"x": x.expand(5, -1)}
    with seeded(1):
        one = IWAE(p, q, num_samples=1).estimate(values)
    with seeded(1):
        torch.testing.assert_close(one, ELBO(p, q).estimate(values))


@pytest.mark.parametrize("estimator", ["pathwise", "score"])
def test_one_sample_is_the_elbo_by_every_estimator(estimator):
    """Of one draw of z, above a b that is summed over: the sum stands outside of what is no mean, whether z is scored or not."""
    torch.manual_seed(0)
    q = Bernoulli("q(b|z)", logits=nn.Linear(1, 1)) * Normal("q(z)", loc=nn.Parameter(torch.zeros(1)), scale=1.0)
    p = Bernoulli("p(b|z)", logits=nn.Linear(1, 1)) * Normal("p(z)", loc=torch.ones(1), scale=2.0)
    bound = IWAE(p * Normal("p(x|b)", loc="b", scale=1.0), q, num_samples=1, estimator={"z": estimator})
    elbo = ELBO(p * Normal("p(x|b)", loc="b", scale=1.0), q, num_samples=1, estimator={"z": estimator})
    values = {"x": torch.ones(50, 1)}
    with seeded(0):
        ours = bound.estimate(values)
    with seeded(0):
        torch.testing.assert_close(ours, elbo.estimate(values))


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0, 2.0])
def test_renyi_bounds(alpha):
    """Order 0 is IWAE, order 1 the ELBO; in between, a mean by hand over the same draws."""
    p, q, x, _ = linear_model()
    values = {"x": x.expand(4, -1)}
    with seeded(2):
        ours = RenyiBound(p, q, alpha, num_samples=6).estimate(values)
    with seeded(2):
        z = q.sample(values, sample_shape=[6])["z"]
    drawn = {**values, "z": z}
    w = p.log_likelihood(drawn, sample_dims={"z": 1}) - q.log_likelihood(drawn, sample_dims={"z": 1})
    truth = w.mean(0) if alpha == 1 else ((1 - alpha) * w).exp().mean(0).log() / (1 - alpha)
    torch.testing.assert_close(ours, truth)


def test_renyi_bounds_fall_with_their_order():
    p, q, x, truth = linear_model()
    bounds = [mean_of(RenyiBound(p, q, alpha, num_samples=8), x)[0] for alpha in (0.0, 0.5, 1.0, 2.0)]
    assert truth > bounds[0] > bounds[1] > bounds[2] > bounds[3]


LOGITS = torch.tensor([0.3, -0.8, 0.6], dtype=torch.float64)


def discrete_model(q):
    """p(x,z) with a z of three values, for a q over it; and a datum."""
    torch.manual_seed(1)
    see = Normal("p(x|z)", loc=nn.Linear(3, 1), scale=1.0)
    return see * Categorical("p(z)", probs=torch.tensor([0.2, 0.5, 0.3])), q, torch.tensor([[0.4]])


def with_logits_in_rows(count):
    """The same with q(z|theta), and `count` copies of the datum and of θ: one backward pass gives the gradient of each copy."""
    p, q, x = discrete_model(Categorical("q(z|theta)", logits="theta"))
    return p, q, {"x": x.expand(count, -1), "theta": LOGITS.expand(count, -1).clone().requires_grad_()}


def exact_bound(p, x, logits, count, order):
    """E over all `count` independent draws, one by one."""
    states, log_q = torch.eye(3), logits.log_softmax(-1)
    w = p.log_likelihood({"x": x.expand(3, -1), "z": states}) - log_q
    total = 0.0
    for draws in itertools.product(range(3), repeat=count):
        index = list(draws)
        t = w[index]
        value = t.mean() if order == 1 else ((1 - order) * t).logsumexp(0).sub(math.log(count)) / (1 - order)
        total = total + log_q[index].sum().exp() * value
    return total


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("order", [0.0, 0.5, 1.0])
def test_score_gradients_of_an_aggregate(order, count):
    p, q, values = with_logits_in_rows(100_000)
    logits = LOGITS.clone().requires_grad_()
    truth = exact_bound(p, values["x"][:1], logits, count, order)
    (gradient,) = torch.autograd.grad(truth, [logits])
    value = Expectation(q, LogRatio(p, q), num_samples=count, estimator="score", aggregate=order).estimate(values)
    (gradients,) = torch.autograd.grad(value.sum(), [values["theta"]])
    assert abs(value.mean() - truth) < 4 * value.std() / len(value) ** 0.5
    assert ((gradients.mean(0) - gradient).abs() < 4.5 * gradients.std(0) / len(value) ** 0.5 + 1e-12).all()


def test_the_baseline_lowers_the_variance_of_an_aggregate():
    """VIMCO against the plain score."""
    p, q, values = with_logits_in_rows(20_000)
    (ours,) = torch.autograd.grad(IWAE(p, q, num_samples=4, estimator="score").estimate(values).sum(), [values["theta"]])
    z = q.sample(values, sample_shape=[4])["z"]
    log_q = q.log_likelihood({**values, "z": z}, sample_dims={"z": 1})
    w = p.log_likelihood({**values, "z": z}, sample_dims={"z": 1}) - log_q
    bound = w.logsumexp(0) - math.log(4)
    (plain,) = torch.autograd.grad((bound + bound.detach() * log_q.sum(0)).sum(), [values["theta"]])
    assert ours.var(0).sum() < 0.5 * plain.var(0).sum()


def test_enumerated_variables_around_an_aggregate():
    """Σ_y q(y|x) of the bound for each y, where y stands above what is drawn; against draws by hand."""
    torch.manual_seed(2)
    q_y = Categorical("q(y|x)", logits=nn.Linear(2, 3))
    q_z = Normal("q(z|y)", loc=nn.Linear(3, 2), scale=0.8)
    see, prior = Normal("p(x|z)", loc=nn.Linear(2, 2), scale=1.0), Normal("p(z)", loc=0.0, scale=1.0, dim=2)
    p = see * prior * Categorical("p(y)", probs=torch.ones(3) / 3)
    x = torch.randn(1, 2)
    ours, error = mean_of(IWAE(p, q_z * q_y, num_samples=5), x)
    probs = q_y.get_params({"x": x})["logits"].softmax(-1)[0]
    total, variance = 0.0, 0.0
    for y in range(3):
        values = {"x": x.expand(100_000, -1), "y": torch.eye(3)[[y]].expand(100_000, -1)}
        values = q_z.sample(values, sample_shape=[5])
        w = p.log_likelihood(values, sample_dims={"z": 1}) - (q_z * q_y).log_likelihood(values, sample_dims={"z": 1})
        bound = w.logsumexp(0) - math.log(5)
        total, variance = total + probs[y] * bound.mean(), variance + probs[y] ** 2 * bound.var() / 100_000
    assert abs(ours - total.item()) < 4 * (error**2 + variance.item()) ** 0.5


def test_enumerated_variables_inside_an_aggregate():
    """y below a drawn z is summed for each draw: with q(y|z) any, that is the bound of the model without y."""
    torch.manual_seed(2)
    q_z = Normal("q(z|x)", loc=nn.Linear(2, 2), scale=0.8)
    q_y = Categorical("q(y|z)", logits=nn.Linear(2, 3))
    prior = Normal("p(z)", loc=0.0, scale=1.0, dim=2)
    p = Normal("p(x|z)", loc=nn.Linear(2, 2), scale=1.0) * Categorical("p(y|z)", logits=nn.Linear(2, 3)) * prior
    values = {"x": torch.randn(4, 2)}
    with seeded(3):
        ours = IWAE(p, q_y * q_z, num_samples=5).estimate(values)
    with seeded(3):
        torch.testing.assert_close(ours, IWAE(p.marginalize_var("y"), q_z, num_samples=5).estimate(values))


def gradients_of(loss, parameters, x, count):
    out = []
    for _ in range(count):
        out.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss.estimate({"x": x}).mean(), parameters)]))
    return torch.stack(out)


def linear(inputs, weights, features):
    """A linear layer, whose weights are another row for each datum."""
    matrix, bias = weights.tensor_split([weights.shape[-1] - features], -1)
    return (matrix.unflatten(-1, (features, -1)) @ inputs.unsqueeze(-1)).squeeze(-1) + bias


class Rows(nn.Module):
    """q's linear layer with weights of their own for each datum."""

    def __init__(self, weights):
        super().__init__()
        self.weights = nn.Parameter(weights.clone())

    def forward(self, x):
        return linear(x, self.weights, 2)


class OfRows(nn.Module):
    def __init__(self, values):
        super().__init__()
        self.values = nn.Parameter(values.clone())

    def forward(self, x):
        return self.values


def with_weights_in_rows(count):
    """The linear model for `count` copies of its datum and of each weight: p, q, the values, and the weights of q and of p."""
    p, q, x, _ = linear_model()
    scale, *layer = (w.detach().flatten() for w in q.parameters())
    layer, scale = Rows(torch.cat(layer).expand(count, -1)), OfRows(scale.expand(count, -1))
    b = torch.cat([w.detach().flatten() for w in p.parameters()]).expand(count, -1).clone().requires_grad_()
    see = Normal("p(x|z,b)", loc=lambda z, b: linear(z, b, 3), scale=0.7)
    values = {"x": x.expand(count, -1), "b": b}
    return see * p.marginalize_var("x"), Normal("q(z|x)", loc=layer, scale=scale), values, [layer.weights, scale.values, b]


def test_sticking_the_landing_is_zero_at_the_exact_posterior():
    """For every draw, in the parameters of q; the plain ELBO's gradient is not."""
    torch.manual_seed(3)
    w = torch.randn(3, 2)
    precision = torch.eye(2) + w.T @ w / 0.49
    basis = torch.linalg.eigh(precision)
    w = w @ basis.eigenvectors  # so that the posterior's covariance is diagonal
    decoder = nn.Linear(2, 3, bias=False)
    decoder.weight.data = w
    encoder = nn.Linear(3, 2, bias=False)
    encoder.weight.data = torch.diag(1 / basis.eigenvalues) @ w.T / 0.49
    scale = nn.Parameter(basis.eigenvalues.rsqrt())
    p = Normal("p(x|z)", loc=decoder, scale=0.7) * Normal("p(z)", loc=0.0, scale=1.0, dim=2)
    q = Normal("q(z|x)", loc=encoder, scale=scale)
    x = torch.randn(4, 3)
    parameters = [encoder.weight, scale]
    torch.testing.assert_close(ELBO(p, q).estimate({"x": x}), p.marginalize_var("z").log_likelihood({"x": x}))
    landed = gradients_of(StickingTheLanding(p, q), parameters, x, 5)
    torch.testing.assert_close(landed, torch.zeros_like(landed), rtol=0, atol=1e-12)
    assert gradients_of(ELBO(p, q), parameters, x, 5).abs().max() > 0.05


BOUNDS = {
    "StickingTheLanding": lambda p, q: (ELBO(p, q, num_samples=8), StickingTheLanding(p, q, num_samples=8)),
    "DReG": lambda p, q: (IWAE(p, q, num_samples=8), DReG(p, q, num_samples=8)),
}


@pytest.mark.parametrize("name", BOUNDS)
def test_the_value_is_that_of_the_plain_bound_and_so_is_the_mean_gradient(name):
    p, q, x, _ = linear_model()
    plain, ours = BOUNDS[name](p, q)
    with seeded(4):
        a = plain.estimate({"x": x})
    with seeded(4):
        torch.testing.assert_close(ours.estimate({"x": x}), a)
    p, q, values, weights = with_weights_in_rows(30_000)
    plain, ours = BOUNDS[name](p, q)
    a, b = (torch.autograd.grad(loss.estimate(values).sum(), weights) for loss in (plain, ours))
    for of_plain, of_ours in zip(a, b):
        error = ((of_plain.var(0) + of_ours.var(0)) / 30_000).sqrt()
        assert (error > 0).all()
        assert ((of_plain.mean(0) - of_ours.mean(0)).abs() < 4.5 * error).all()
    if name == "DReG":
        assert sum(g.var(0).sum() for g in b[:2]) < sum(g.var(0).sum() for g in a[:2])


def test_doubly_reparametrised_gradients_by_hand():
    """Σ w̃² ∂log w/∂z ∂z/∂φ for the draws of one evaluation."""
    p, q, x, _ = linear_model()
    parameters = list(q.parameters())
    with seeded(5):
        ours = torch.autograd.grad(DReG(p, q, num_samples=4).estimate({"x": x}).sum(), parameters)
    with seeded(5):
        z = q.sample({"x": x}, sample_shape=[4])["z"]
    still = {"x": x, "z": z.detach().requires_grad_()}
    params = {k: v.detach() for k, v in q.get_params({"x": x}).items()}
    log_q = torch.distributions.Normal(params["loc"], params["scale"]).log_prob(still["z"]).sum(-1)
    w = p.log_likelihood(still, sample_dims={"z": 1}) - log_q
    (slope,) = torch.autograd.grad(w.sum(), [still["z"]])
    weights = w.softmax(0).detach().square().unsqueeze(-1)
    truth = torch.autograd.grad((weights * slope * z).sum(), parameters)
    for a, b in zip(ours, truth):
        torch.testing.assert_close(a, b)


def test_reweighted_wake_sleep_by_hand():
    logits = nn.Parameter(LOGITS.clone())
    p, q, x = discrete_model(Categorical("q(z)", logits=logits))
    loss = ReweightedWakeSleep(p, q, num_samples=6)
    assert str(loss) == "E_p(z|x)[log p(x,z) + log q(z)]"
    with seeded(6):
        ours = loss.estimate({"x": x})
    with seeded(6):
        z = q.sample(sample_shape=[6])["z"]
    values = {"x": x, "z": z}
    log_p, log_q = p.log_likelihood(values, sample_dims={"z": 1}), q.log_likelihood(values, sample_dims={"z": 1})
    weights = (log_p - log_q).softmax(0).detach()
    truth = (weights * (log_p + log_q)).sum(0)
    torch.testing.assert_close(ours, truth)
    parameters = [logits, *p.parameters()]
    for a, b in zip(torch.autograd.grad(ours.sum(), parameters), torch.autograd.grad(truth.sum(), parameters)):
        torch.testing.assert_close(a, b)
    # With many draws, q's gradient is that of -KL[p(z|x)||q(z)].
    many = ReweightedWakeSleep(p, q, num_samples=20_000).estimate({"x": x}).sum()
    posterior = p.posterior("z").mean({"x": x}).detach()
    (ours,) = torch.autograd.grad(many, [logits])
    (truth,) = torch.autograd.grad((posterior * logits.log_softmax(-1)).sum(), [logits])
    assert (ours - truth).abs().max() < 0.02


def test_the_second_form_has_the_same_mean():
    p, q, x, _ = linear_model()
    (a, sa), (b, sb) = mean_of(ELBO(p, q), x), mean_of(ELBO(p, q, kl="analytic"), x)
    assert abs(a - b) < 4 * (sa**2 + sb**2) ** 0.5
    assert str(ELBO(p, q, kl="auto")) == "E_q(z|x)[log p(x|z)] - KL[q(z|x)||p(z)]"
    assert str(ELBO(p, q)) == "E_q(z|x)[log p(x,z)/q(z|x)]"


FORMS = {
    "sampled": (lambda p, q: ELBO(p, q), "E_q(z,e|x)[log p(x,z,e)/q(z,e|x)]"),
    "analytic": (lambda p, q: ELBO(p, q, kl="analytic"), "E_q(z,e|x)[log p(x|z)] - KL[q(z,e|x)||p(z,e|x)]"),
    "IWAE": (lambda p, q: IWAE(p, q, num_samples=3), "E_q(z,e|x)^3[log mean(p(x,z,e)/q(z,e|x))]"),
    "sticking the landing": (StickingTheLanding, "E_q(z,e|x)[log p(x,z,e) - log stop(q(z,e|x))]"),
}


@pytest.mark.parametrize("form", FORMS)
def test_what_q_computes_is_no_latent_variable(form):
    """q(z|e)f(e|x) is the q(z|x) of both networks in a row, and each of them runs once."""
    make, text = FORMS[form]
    p, q, x, _ = linear_model()
    first, second, calls = nn.Linear(3, 2), nn.Linear(2, 2), []

    def features(x):
        calls.append("f")
        return first(x).tanh()

    def encode(e):
        calls.append("q")
        return second(e)

    f = Deterministic("f(e|x)", e=Computed(features, first))
    ours = make(p, Normal("q(z|e)", loc=Computed(encode, second), scale=0.4) * f)
    assert str(ours) == text
    with seeded(3):
        value = ours.estimate({"x": x})
    assert calls.count("f") == 1
    with seeded(3):
        torch.testing.assert_close(
            make(p, Normal("q(z|x)", loc=nn.Sequential(first, nn.Tanh(), second), scale=0.4)).estimate({"x": x}), value
        )
    if form in ("sampled", "IWAE"):
        assert calls == ["f", "q"]


def test_what_q_computes_for_later_stands_in_no_density():
    p, q, x, _ = linear_model()
    later = Deterministic("g(h|z,x)", lambda z, x: {"h": z})
    for make in (ELBO, StickingTheLanding):
        with seeded(1):
            truth = make(p, q).estimate({"x": x})
        with seeded(1):
            torch.testing.assert_close(make(p, q * later).estimate({"x": x}), truth)
    assert str(ELBO(p, q * later)) == "E_q(z,h|x)[log p(x,z)/q(z|x)]"
    assert str(ELBO(p, q * later, kl="analytic")) == "E_q(z,h|x)[log p(x|z)] - KL[q(z|x)||p(z)]"
    with pytest.raises(FormulaError, match="draws h, of which p\\(x,z\\) knows nothing"):
        ELBO(p, later)


def test_beta():
    p, q, x, _ = linear_model()
    see = p.posterior("x")
    values = {"x": x}
    with seeded(7):
        ours = ELBO(p, q, beta=4.0, kl="auto").estimate(values)
    with seeded(7):
        z = q.sample(values)["z"]
    given = q.get_params(values)
    kl = torch.distributions.kl_divergence(
        torch.distributions.Normal(given["loc"], given["scale"]), torch.distributions.Normal(0.0, 1.0)
    ).sum(-1)
    torch.testing.assert_close(ours, see.log_likelihood({**values, "z": z}) - 4 * kl)
    annealed = ELBO(p, q, beta=Parameter("beta"), kl="analytic")
    with seeded(7):
        torch.testing.assert_close(annealed.estimate({**values, "beta": 4.0}), ours)
    assert str(annealed) == "E_q(z|x)[log p(x|z)] - beta * KL[q(z|x)||p(z)]"


def several_bounds(p, q):
    """One graph, in which each has a weight of its own."""
    return (
        IWAE(p, q, num_samples=3)
        + 2 * RenyiBound(p, q, 0.5, num_samples=3)
        + 3 * StickingTheLanding(p, q, num_samples=2)
        + 5 * ReweightedWakeSleep(p, q, num_samples=3)
        + 7 * ELBO(p, q, kl="analytic", beta=2.0)
    )


@pytest.mark.parametrize(
    ("make", "backend"),
    [(several_bounds, "eager"), (lambda p, q: DReG(p, q, num_samples=3), "aot_eager")],
    ids=["several", "dreg with its backward graph"],
)
def test_bounds_compile_to_one_graph(make, backend):
    p, q, x, _ = linear_model()
    loss = make(p, q).mean()
    parameters = [*q.parameters(), *p.parameters()]
    with seeded(8):
        eager = loss.estimate({"x": x.expand(3, -1)})
    expected = torch.autograd.grad(eager, parameters, allow_unused=True)
    loss.compile(fullgraph=True, backend=backend)
    with seeded(8):
        compiled = loss.estimate({"x": x.expand(3, -1)})
    torch.testing.assert_close(compiled, eager)
    for a, b in zip(torch.autograd.grad(compiled, parameters, allow_unused=True), expected):
        assert (a is None) == (b is None)
        if a is not None:
            torch.testing.assert_close(a, b)


@pytest.mark.parametrize("free", [0.01, 1.0, 50.0])
def test_free_bits(free):
    p, q, x, _ = linear_model()
    values = {"x": torch.cat([x, 3 * x])}
    with seeded(9):
        ours = ELBO(p, q, kl="analytic", free_bits=free).estimate(values)
    with seeded(9):
        plain = ELBO(p, q, kl="analytic").estimate(values)
    kl = KullbackLeibler(q, p.marginalize_var("x")).estimate(values)
    torch.testing.assert_close(ours, plain - (free - kl).clamp(min=0))


def coins():
    return Bernoulli("p(z)", probs=torch.full((2,), 0.5))


def laplace():
    return Laplace("q(z|x)", loc=nn.Linear(3, 2), scale=1.0)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda p, q: IWAE(q, p, num_samples=2), FormulaError, r"IWAE: p\(x,z\) draws x, .* The order is IWAE\(p, q\)|draws all of"),
        (lambda p, q: IWAE(p, q, num_samples=0), KindError, "num_samples must be a whole number of at least 1"),
        (lambda p, q: RenyiBound(p, q, math.inf, num_samples=2), KindError, "order of a Rényi bound"),
        (lambda p, q: Expectation(q, LogProb(p), aggregate="median"), KindError, "aggregate must be 'mean', 'log_mean_exp'"),
        (lambda p, q: ELBO(p, q, kl="exact"), FormulaError, "kl must be one of 'sample', 'analytic', 'auto'"),
        (lambda p, q: ELBO(p, laplace(), kl="analytic"), IntractableError, "has no closed form here"),
        (lambda p, q: ELBO(p, q, kl="analytic", free_bits=-1.0), SupportError, "free_bits must be 0 or more nats"),
        (lambda p, q: ReweightedWakeSleep(p, q, num_samples=1), FormulaError, "needs num_samples=2"),
        (
            lambda p, q: StickingTheLanding(Normal("p(x|z)", loc="z", scale=1.0) * coins(), Bernoulli("q(z|x)", logits=nn.Linear(2, 2))),
            FormulaError,
            r"q\(z\|x\) \(Bernoulli\) has no pathwise gradient",
        ),
        (lambda p, q: ELBO(p.posterior("x"), q, beta=2.0), FormulaError, r"is no likelihood times a prior over z"),
    ],
)
def test_bad_input(make, error, words):
    p, q, *_ = linear_model()
    with pytest.raises(error, match=words):
        make(p, q)
