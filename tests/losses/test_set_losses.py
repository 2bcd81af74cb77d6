"""Losses that see the whole batch: against closed forms, quadrature, brute force and another solver, in float64."""

import copy
import itertools
import math

import pytest
import torch
from torch import nn

from pixyz.core import FormulaError, KindError, ShapeError
from pixyz.distributions import Bernoulli, Categorical, Deterministic, Empirical, MultivariateNormal, Normal, VectorQuantizer
from pixyz.losses import (
    ELBO,
    MMD,
    Commitment,
    EnergyDistance,
    Expectation,
    InfoNCE,
    LogProb,
    Sinkhorn,
    TotalCorrelation,
    Wasserstein,
)


@pytest.fixture(autouse=True)
def _double():
    torch.set_default_dtype(torch.float64)


def f64(x):
    return torch.tensor(x, dtype=torch.float64)


def normals(features=()):
    shape = lambda x: torch.full(features, x, dtype=torch.float64)  # noqa: E731
    return Normal("p(z)", loc=shape(0.0), scale=shape(1.0)), Normal("q(z)", loc=shape(1.0), scale=shape(1.5))


def repeated(loss, batch, times=300, **values):
    return torch.stack([loss.estimate(values, batch_size=batch) for _ in range(times)])


class Given(Deterministic):
    """p(z|x): the given points themselves."""

    def __init__(self, var, name):
        super().__init__(var=["z"], cond_var=[var], name=name, z=var)


def between(make, x, y):
    """The loss of many pairs of sets, `(times, batch)` each, in one vectorised evaluation."""
    loss = make(Given("x", "p"), Given("y", "q"))
    return torch.func.vmap(lambda x, y: loss.estimate({"x": x, "y": y}))(x, y)


def mean_is(draws, truth):
    return abs(draws.mean().item() - truth) < 4 * draws.std().item() / math.sqrt(len(draws))


BELOW = MMD(Normal("a(w|z)", loc="z", scale=f64(1.0)), Normal("b(w)", loc=f64(0.0), scale=f64(1.0)))


def gap(s):
    """The law of x - y for x, y from N(0,1)/N(0,1), N(1,1.5²)/N(1,1.5²), and N(0,1)/N(1,1.5²): mean and variance."""
    return {"xx": (0.0, 2.0), "yy": (0.0, 4.5), "xy": (1.0, 3.25)}[s]


def gaussian_mmd(features=1, sigma_sqr=1.0):
    """E[exp(-(x-y)²/2s)] = √(s/(s+v)) exp(-m²/2(s+v)), one factor for each feature."""
    mean = lambda m, v: (math.sqrt(sigma_sqr / (sigma_sqr + v)) * math.exp(-0.5 * m * m / (sigma_sqr + v))) ** features  # noqa: E731
    return mean(*gap("xx")) + mean(*gap("yy")) - 2 * mean(*gap("xy"))


def by_quadrature(kernel):
    t = torch.linspace(-40, 40, 400_001)
    mean = lambda m, v: torch.trapezoid(kernel(t) * (-0.5 * (t - m).square() / v).exp() / math.sqrt(2 * math.pi * v), t).item()  # noqa: E731
    return mean(*gap("xx")) + mean(*gap("yy")) - 2 * mean(*gap("xy"))


UNBIASED = {
    "gaussian": (lambda p, q: MMD(p, q), lambda t: (-0.5 * t.square()).exp()),
    "gaussian of three bandwidths": (
        lambda p, q: MMD(p, q, sigma_sqr=[0.5, 1.0, 4.0]),
        lambda t: sum((-0.5 * t.square() / s).exp() for s in (0.5, 1.0, 4.0)),
    ),
    "inverse multiquadric": (lambda p, q: MMD(p, q, "inverse_multiquadric", sigma_sqr=2.0), lambda t: 2 / (2 + t.square())),
    "one's own": (lambda p, q: MMD(p, q, lambda x, y: torch.exp(-(x - y.T).abs())), lambda t: (-t.abs()).exp()),
    "energy": (lambda p, q: EnergyDistance(p, q), lambda t: -t.abs()),
}


def test_the_figure_of_two_normals():
    assert gaussian_mmd() == pytest.approx(0.14128555, abs=1e-8)
    assert by_quadrature(UNBIASED["gaussian"][1]) == pytest.approx(0.14128555, abs=1e-8)


@pytest.mark.parametrize("batch", [2, 3, 20])
@pytest.mark.parametrize("name", UNBIASED)
def test_it_is_unbiased_at_every_batch(name, batch):
    make, kernel = UNBIASED[name]
    draws = between(make, torch.randn(5000, batch), 1 + 1.5 * torch.randn(5000, batch))
    assert draws.shape == (5000,)
    assert mean_is(draws, by_quadrature(kernel))


@pytest.mark.parametrize("name", UNBIASED)
def test_between_equals_its_mean_is_zero(name):
    draws = between(UNBIASED[name][0], torch.randn(5000, 4), torch.randn(5000, 4))
    assert mean_is(draws, 0.0)
    assert (draws < 0).any()


@pytest.mark.parametrize("name", UNBIASED)
def test_the_sets_are_draws_of_the_two_sides(name):
    make, kernel = UNBIASED[name]
    assert mean_is(repeated(make(*normals()), 20), by_quadrature(kernel))


def test_distances_are_not_divided_by_the_number_of_features():
    """The published library's MMD divides by the feature dimension, so its bandwidth is another one in each."""
    for features in (1, 3):
        draws = between(MMD, torch.randn(5000, 10, features), 1 + 1.5 * torch.randn(5000, 10, features))
        assert mean_is(draws, gaussian_mmd(features))
    # where that would be seen
    assert abs(gaussian_mmd(3) - gaussian_mmd(3, sigma_sqr=3.0)) > 10 * draws.std().item() / math.sqrt(len(draws))


def test_gradients_of_draws_are_those_of_the_closed_form():
    loc, scale = nn.Parameter(f64(1.0)), nn.Parameter(f64(1.5))
    loss = MMD(normals()[0], Normal("q(z)", loc=loc, scale=scale))
    seen = torch.stack([torch.stack(torch.autograd.grad(loss.estimate(batch_size=100), [loc, scale])) for _ in range(400)])
    mean = lambda m, v: (1 / (1 + v)).sqrt() * (-0.5 * m.square() / (1 + v)).exp()  # noqa: E731
    truth = mean(torch.zeros(()), 2 * scale.square()) - 2 * mean(loc, 1 + scale.square())
    wanted = torch.stack(torch.autograd.grad(truth, [loc, scale]))
    assert ((seen.mean(0) - wanted).abs() < 4 * seen.std(0) / math.sqrt(400)).all()


def test_the_aggregated_posterior():
    """q(z|x) over the data is their mixture, N(0, 0.6² + 0.8²) here, which is the prior."""
    q = Normal("q(z|x)", loc="x", scale=f64(0.6))
    loss = MMD(q, normals()[0])
    draws = torch.stack([loss.estimate({"x": 0.8 * torch.randn(30)}) for _ in range(300)])
    assert mean_is(draws, 0.0)


def test_sets_of_different_size_and_joints():
    q, r = Normal("q(z|x)", loc="x", scale=f64(1.0)), Normal("r(z|y)", loc="y", scale=f64(1.0))
    loss, values = MMD(q, r), {"x": torch.zeros(3), "y": torch.zeros(5)}
    assert mean_is(torch.stack([loss.estimate(values) for _ in range(300)]), 0.0)
    assert mean_is(between(MMD, torch.randn(5000, 3), torch.randn(5000, 5)), 0.0)
    data = Empirical("p_data(z,y)", z=torch.randn(50, 2), y=torch.randint(3, (50,)))
    model = Normal("p(z)", loc=torch.zeros(2), scale=f64(1.0)) * Deterministic("p(y)", y=f64(1.0))
    assert MMD(data, model).estimate(batch_size=8).shape == ()


def test_a_kernel_that_is_trained():
    class Deep(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Linear(1, 2)

        def forward(self, x, y):
            return torch.exp(-torch.cdist(self.net(x), self.net(y)).square())

    kernel = Deep()
    p, q = normals()
    loss = MMD(p, q, kernel) + MMD(p, Normal("r(z)", loc=f64(1.0), scale=f64(1.0)), kernel)
    assert [n.rsplit(".", 1)[-1] for n, _ in loss.named_parameters()] == ["weight", "bias"]
    loss.estimate(batch_size=4).backward()
    assert kernel.net.weight.grad.abs().sum() > 0


A = f64([[1.2, 0.0], [0.5, 0.8]])
B = f64([[0.9, 0.0], [-0.3, 1.6]])


def root(matrix):
    values, vectors = torch.linalg.eigh(matrix)
    return vectors @ torch.diag(values.sqrt()) @ vectors.T


def test_wasserstein_in_closed_form():
    assert Wasserstein(*normals()).estimate().item() == pytest.approx(1.118034, abs=1e-6)
    p, q = MultivariateNormal("p(z)", loc=f64([0.0, 0.5]), scale_tril=A), MultivariateNormal("q(z)", loc=f64([1.0, 0.0]), scale_tril=B)
    s, t = A @ A.T, B @ B.T
    truth = (1.25 + torch.trace(s + t - 2 * root(root(t) @ s @ root(t)))).sqrt()
    torch.testing.assert_close(Wasserstein(p, q).estimate().squeeze(), truth)
    same = MultivariateNormal("r(z)", loc=nn.Parameter(f64([0.0, 0.5])), scale_tril=A)
    value = Wasserstein(p, same).estimate()
    value.sum().backward()
    assert value.item() == pytest.approx(0.0, abs=1e-7)
    assert same.loc.grad.isfinite().all()
    q = Normal("q(z|x)", loc="x", scale=f64(2.0))
    x = f64([[0.0, 0.0], [3.0, 4.0]])
    each = Wasserstein(q, Normal("p(z)", loc=f64([0.0, 0.0]), scale=f64(2.0)), conditional=True)
    torch.testing.assert_close(each.estimate({"x": x}), f64([0.0, 5.0]))
    assert not each.mixes_batch
    assert Wasserstein(q, Normal("p(z)", loc=f64([0.0, 0.0]), scale=f64(2.0))).is_biased


def points(*rows):
    return Empirical("p(z)", z=f64(list(rows)))


def assignment(x, y, order):
    """The cheapest of all ways to carry N points to N others."""
    costs = [(x - y[list(way)]).norm(dim=-1).pow(order).mean() for way in itertools.permutations(range(len(y)))]
    return min(costs).item()


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("features", [1, 2])
def test_wasserstein_between_draws_by_brute_force(features, order):
    if features > 1:
        pytest.importorskip("ot")
    x, y = torch.randn(5, features), torch.randn(5, features) + 1
    loss = Wasserstein(Given("x", "p"), Given("y", "q"), order=order)
    assert loss.is_biased
    y.requires_grad_()
    value = loss.estimate({"x": x, "y": y})
    assert value.item() == pytest.approx(assignment(x, y.detach(), order) ** (1 / order), abs=1e-9)
    value.backward()
    moved = y.detach() + 1e-6 * y.grad
    slope = (loss.estimate({"x": x, "y": moved}).item() - value.item()) / 1e-6
    assert slope == pytest.approx(y.grad.square().sum().item(), rel=1e-3)


def test_sets_of_different_size_on_a_line_are_those_of_repeated_points():
    x, y = torch.randn(3), torch.randn(2)
    loss = Wasserstein(Given("x", "p"), Given("y", "q"), order=2)
    wanted = loss.estimate({"x": x.repeat_interleave(2), "y": y.repeat_interleave(3)})
    torch.testing.assert_close(loss.estimate({"x": x, "y": y}), wanted)


def sinkhorn_by_hand(x, y, epsilon):
    """The dual of the regularised problem, by updates of the potentials until they stand still."""
    cost = torch.cdist(x, y).square()
    f, g = torch.zeros(len(x)), torch.zeros(len(y))
    for _ in range(2000):
        before, f = f, -epsilon * ((g - cost) / epsilon - math.log(len(y))).logsumexp(1)
        g = -epsilon * ((f.unsqueeze(1) - cost) / epsilon - math.log(len(x))).logsumexp(0)
    assert (f - before).abs().max() < 1e-12
    return f.mean() + g.mean()


def test_sinkhorn():
    pytest.importorskip("ot")
    x, y = torch.randn(6, 2), torch.randn(4, 2) + 1
    values = {"x": x, "y": y.requires_grad_()}
    loss = Sinkhorn(Given("x", "p"), Given("y", "q"), epsilon=0.5)
    cost = sinkhorn_by_hand(x, y, 0.5) - 0.5 * sinkhorn_by_hand(x, x, 0.5) - 0.5 * sinkhorn_by_hand(y, y, 0.5)
    torch.testing.assert_close(loss.estimate(values), cost, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(torch.autograd.grad(loss.estimate(values), y), torch.autograd.grad(cost, y), rtol=1e-4, atol=1e-5)
    assert loss.estimate({"x": x, "y": x}).item() == pytest.approx(0.0, abs=1e-9)
    values = {"x": x[:4], "y": y.detach()}
    exact = Wasserstein(Given("x", "p"), Given("y", "q")).estimate(values).square()
    torch.testing.assert_close(Sinkhorn(Given("x", "p"), Given("y", "q"), epsilon=0.01).estimate(values), exact, rtol=0, atol=0.05)


def test_without_the_library_the_extra_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install pixyz-losses\[transport\]"):
        Sinkhorn(*normals())
    with pytest.raises(ImportError, match=r"empirical\(W_2\[p\(z\)\|\|q\(z\)\]\).*pixyz-losses\[transport\]"):
        Wasserstein(*normals((2,)), analytic=False).estimate(batch_size=3)


RHO = 0.8


def critics():
    """x ~ N(0,1), z = ρx + noise: I(x;z) = -½ log(1-ρ²). The log-density as a function, a distribution, and known."""
    q = Normal("q(z|x)", loc=lambda x: RHO * x, scale=f64(math.sqrt(1 - RHO**2)))
    score = lambda x, z: -0.5 * (z - RHO * x).square().squeeze(-1) / (1 - RHO**2)  # noqa: E731
    return {
        "log-density": InfoNCE(q),
        "function": InfoNCE(q, lambda x, z: score(x, z)),
        "Deterministic": InfoNCE(q, Deterministic("f(t|x,z)", t=lambda x, z: score(x, z).unsqueeze(-1))),
        "negatives of the other side": InfoNCE(q, lambda x, z: score(x, z) + 0.5 * z.square().squeeze(-1), negatives="z"),
    }


@pytest.mark.parametrize("name", critics())
def test_info_nce_is_by_hand_and_a_tight_lower_bound(name):
    loss = critics()[name]
    x = torch.randn(6, 1)
    q = Normal("q(z|x)", loc=lambda x: RHO * x, scale=f64(math.sqrt(1 - RHO**2)))
    torch.manual_seed(3)
    value = loss.estimate({"x": x})
    torch.manual_seed(3)
    z = q.sample({"x": x})["z"]
    score = lambda i, j: -0.5 * (z[j] - RHO * x[i]).square() / (1 - RHO**2) + ("other" in name) * 0.5 * z[j].square()  # noqa: E731
    pairs = lambda i: [score(i, j) if "other" in name else score(j, i) for j in range(6)]  # noqa: E731
    by_hand = sum(score(i, i) - torch.stack(pairs(i)).exp().mean().log() for i in range(6)) / 6
    torch.testing.assert_close(value, by_hand.squeeze())
    truth = -0.5 * math.log(1 - RHO**2)
    means = [torch.stack([loss.estimate({"x": torch.randn(n, 1)}) for _ in range(300)]) for n in (2, 128)]
    small, large = (m.mean().item() for m in means)
    assert small < math.log(2)
    assert small < large < truth + 4 * means[1].std().item() / math.sqrt(300)
    assert large > truth - 0.05


def test_an_info_nce_critic_is_trained():
    net = nn.Bilinear(1, 1, 1)
    loss = -InfoNCE(Normal("q(z|x)", loc="x", scale=f64(0.5)), lambda x, z: (x * z).sum(-1))
    module = -InfoNCE(Normal("q(z|x)", loc="x", scale=f64(0.5)), Pair(net))
    assert len(list(module.parameters())) == 2
    module.estimate({"x": torch.randn(4, 1)}).backward()
    assert net.weight.grad.abs().sum() > 0
    assert str(loss) == "-InfoNCE(q(z|x))"


class Pair(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x, z):
        return self.net(x, z)


DATA = f64([[-1.0, 0.5], [0.3, 1.0], [1.5, -0.7], [0.0, 2.0], [0.9, 0.9]])


def encoder():
    return Normal("q(z|x)", loc="x", scale=f64([0.4, 0.6]))


def test_total_correlation_of_the_whole_data_set():
    """At M = N the stratified density is exact, so the mean of the loss is the true total correlation, here by quadrature."""
    line = torch.linspace(-5, 6, 401)
    z = torch.cartesian_prod(line, line)
    each = torch.stack([torch.distributions.Normal(x, f64([0.4, 0.6])).log_prob(z) for x in DATA]).exp()
    joint, product = each.prod(-1).mean(0), each.mean(0).prod(-1)
    truth = ((joint * (joint / product).log()).nan_to_num().sum() * (11 / 400) ** 2).item()
    loss = TotalCorrelation(encoder(), 5, estimator="stratified")
    draws = torch.stack([loss.estimate({"x": DATA}) for _ in range(1000)])
    assert mean_is(draws, truth)


@pytest.mark.parametrize("estimator", ["weighted", "stratified"])
def test_total_correlation_by_brute_force(estimator):
    x, n = DATA[:3], 20
    q = encoder()
    torch.manual_seed(5)
    value = TotalCorrelation(q, n, estimator=estimator).estimate({"x": x})
    torch.manual_seed(5)
    z = q.sample({"x": x})["z"]
    total = 0.0
    for i in range(3):
        weights = [1 / (n * 3) if estimator == "weighted" else 1 / n if j == i else (n - 1) / (n * 2) for j in range(3)]
        densities = [torch.distributions.Normal(x[j], f64([0.4, 0.6])).log_prob(z[i]).exp() for j in range(3)]
        joint = sum(w * d.prod() for w, d in zip(weights, densities))
        total += (joint.log() - sum(w * d for w, d in zip(weights, densities)).log().sum()) / 3
    torch.testing.assert_close(value, total)


def test_the_stratified_density_is_unbiased():
    """Over all minibatches with a datum of its own, the mean of the weighted densities is the mean over the data."""
    n, m = 5, 3
    for own in range(n):
        others = [i for i in range(n) if i != own]
        found = [
            1 / n * (own == 0) + sum((n - 1) / (n * (m - 1)) * (j == 0) for j in batch) for batch in itertools.combinations(others, m - 1)
        ]
        assert sum(found) / len(found) == pytest.approx(1 / n)


def quantizer(**options):
    return VectorQuantizer("q(z|x)", z=nn.Linear(3, 2), num_codes=4, dim=2, **options)


def test_vector_quantisation():
    torch.manual_seed(2)
    q = quantizer()
    x = torch.randn(6, 3)
    h = q.given_networks(x=x)["z"]
    nearest = (h[:, None] - q.codebook).square().sum(-1).argmin(-1)
    z = q.sample({"x": x})["z"]
    assert torch.equal(z, q.codebook[nearest])
    assert torch.equal(q.indices({"x": x}), nearest)
    (straight,) = torch.autograd.grad((z * f64([1.0, 2.0])).sum(), q.given_networks.get_parameter("z.bias"))
    torch.testing.assert_close(straight, f64([6.0, 12.0]))
    value = Commitment(q, beta=0.25).estimate({"x": x})
    torch.testing.assert_close(value, 1.25 * (h - q.codebook[nearest]).square().sum(-1))
    value.sum().backward()
    wanted = torch.zeros(4, 2).index_add(0, nearest, 2 * (q.codebook[nearest] - h))
    torch.testing.assert_close(q.codebook.grad, wanted.detach())
    torch.testing.assert_close(q.given_networks.get_parameter("z.bias").grad, (0.5 * (h - q.codebook[nearest])).sum(0).detach())


def test_the_codes_of_an_image():
    q = VectorQuantizer("q(z|x)", z=nn.Conv2d(1, 2, 1), num_codes=4, dim=2, axis=0)
    x = torch.randn(5, 1, 3, 4)
    z, indices = q.sample({"x": x})["z"], q.indices({"x": x})
    assert (z.shape, indices.shape) == ((5, 2, 3, 4), (5, 3, 4))
    torch.testing.assert_close(z.movedim(1, -1), q.codebook[indices])
    assert Commitment(q).estimate({"x": x}).shape == (5,)


def test_moving_averages_follow_in_train_mode_only_and_once():
    q = quantizer(decay=0.9)
    p = Normal("p(x|z)", loc=nn.Linear(2, 3), scale=f64(1.0))
    x = torch.randn(6, 3)
    loss = (Commitment(q) - LogProb(p).expectation(q)).mean()
    before = q.codebook.clone()
    h = q.given_networks(x=x)["z"].detach()
    nearest = (h[:, None] - before).square().sum(-1).argmin(-1)
    with torch.no_grad():
        loss.estimate({"x": x})
    q.eval()
    loss.estimate({"x": x})
    q.indices({"x": x})
    assert torch.equal(q.codebook, before)
    q.train()
    loss.estimate({"x": x}).backward()
    counts, sums = 0.9 * torch.ones(4), 0.9 * before
    for i, k in enumerate(nearest):
        counts[k] += 0.1
        sums[k] += 0.1 * h[i]
    torch.testing.assert_close(q.codebook, sums / counts.unsqueeze(-1))
    assert q.given_networks.get_parameter("z.bias").grad.abs().sum() > 0
    # a copy goes its own way
    other = copy.deepcopy(q)
    other.sample({"x": x})
    assert not torch.equal(other.codebook, q.codebook)


def test_dead_codes_start_again_on_the_data():
    q = quantizer(decay=0.5, restart_below=0.3)
    q.codebook[3] = q.code_sums[3] = 1e6
    x = torch.randn(8, 3)
    for _ in range(3):
        q.sample({"x": x})
    h = q.given_networks(x=x)["z"]
    assert (q.codebook[3] - h).norm(dim=-1).min() < 10
    loss = ELBO(
        Normal("p(x|z)", loc=nn.Linear(2, 3), scale=f64(1.0)) * normals((2,))[0], Normal("q(z)", loc=f64([0.0, 0.0]), scale=f64(1.0))
    )
    assert loss.estimate({"x": x}).shape == (8,)


X = {"x": f64([[0.1], [0.5], [-0.3], [1.0]])}
NARROW = Normal("q(z|x)", loc="x", scale=f64(0.5))
PAIR = normals()
COMPILED = {
    "of two sets of draws": (
        lambda: MMD(*PAIR) + 2 * EnergyDistance(*PAIR) + 3 * Wasserstein(*PAIR).mean() + 5 * Wasserstein(*PAIR, order=1),
        {},
    ),
    "of given data": (
        lambda: (
            MMD(NARROW, normals((1,))[0], sigma_sqr=[1.0, 2.0])
            + 2 * InfoNCE(NARROW)
            + 3 * InfoNCE(NARROW, Deterministic("f(t|x,z)", t=lambda x, z: x * z))
            + 5 * TotalCorrelation(NARROW, 10)
            + 7 * Commitment(codes()).mean()
        ),
        X,
    ),
}


def codes():
    return VectorQuantizer("c(z|x)", z=nn.Linear(1, 2), num_codes=4, dim=2, decay=0.9, restart_below=0.1).eval()


@pytest.mark.parametrize("name", COMPILED)
def test_set_losses_are_one_graph(name):
    make, values = COMPILED[name]
    loss = make()
    options = {} if values else {"batch_size": 4}
    torch.manual_seed(1)
    eager = loss.estimate(values, **options)
    loss.compile(fullgraph=True, backend="eager")
    torch.manual_seed(1)
    torch.testing.assert_close(loss.estimate(values, **options), eager)


def test_compiled_transport():
    pytest.importorskip("ot")
    for make in (lambda: Sinkhorn(*normals((2,))), lambda: Wasserstein(*normals((2,)), analytic=False)):
        loss = make()
        torch.manual_seed(1)
        eager = loss.estimate(batch_size=4)
        loss.compile(fullgraph=True, backend="eager")
        torch.manual_seed(1)
        torch.testing.assert_close(loss.estimate(batch_size=4), eager)


def test_set_losses_stand_in_formulas():
    q, prior = NARROW, normals((1,))[0]
    reconstruction = LogProb(Normal("p(x|z)", loc="z", scale=f64(1.0))).expectation(q)
    loss = 10 * MMD(q, prior) - reconstruction.mean()
    assert str(loss) == "10 * MMD[q(z|x)||p(z)] - mean(E_q(z|x)[log p(x|z)])"
    assert loss.estimate(X).shape == ()


def categories():
    return Categorical("q(z)", logits=nn.Parameter(torch.zeros(3)))


BAD = {
    "one datum": (lambda: MMD(*normals()).estimate(batch_size=1), ShapeError, "sets, of at least 2 draws each; here they have 1 and 1"),
    "one datum of InfoNCE": (lambda: InfoNCE(NARROW).estimate({"x": torch.zeros(1, 1)}), ShapeError, "at least 2; the batch is 1"),
    "different variables": (lambda: MMD(normals()[0], Normal("q(x)", loc=0.0, scale=1.0)), FormulaError, "left side is over z"),
    "different features": (
        lambda: MMD(normals()[0], normals((2,))[1]).estimate(batch_size=3),
        ShapeError,
        r"z has features \(\) under p\(z\)",
    ),
    "different dtypes": (
        lambda: MMD(normals()[0], Normal("q(z)", loc=torch.tensor(0.0).float(), scale=torch.tensor(1.0).float())).estimate(batch_size=3),
        KindError,
        "torch.float64 on cpu under p",
    ),
    "an unknown kernel": (lambda: MMD(*normals(), "gausian"), FormulaError, "Did you mean 'gaussian'"),
    "a number for a kernel": (lambda: MMD(*normals(), 1.0), KindError, "the kernel is a name, or a function"),
    "a bandwidth of 0": (lambda: MMD(*normals(), sigma_sqr=0.0), FormulaError, "sigma_sqr is a positive number"),
    "no bandwidth": (lambda: MMD(*normals(), sigma_sqr=[]), FormulaError, "sigma_sqr is a positive number"),
    "a kernel of wrong shape": (
        lambda: MMD(*normals(), lambda x, y: (x * y).sum(-1)).estimate(batch_size=3),
        ShapeError,
        r"must return \(3, 3\); got \(3,\)",
    ),
    "draws that cannot be trained": (
        lambda: MMD(categories(), Categorical("p(z)", probs=f64([0.2, 0.3, 0.5]))),
        FormulaError,
        "no gradient",
    ),
    "inside an expectation": (
        lambda: Expectation(normals()[0], BELOW),
        ShapeError,
        r"E_p\(z\)\[MMD.*\] compares sets.* cannot stand inside of an exp",
    ),
    "inside an expectation, beside others": (
        lambda: (LogProb(normals()[0]) - 2 * BELOW).expectation(normals()[1]),
        ShapeError,
        "compares sets",
    ),
    "inside an expectation inside another": (
        lambda: Expectation(Normal("q(x)", loc=0.0, scale=1.0), Expectation(Deterministic("d(z|x)", z="x"), BELOW)),
        ShapeError,
        "compares sets",
    ),
    "inside an enumerated expectation": (
        lambda: Expectation(
            Bernoulli("q(y)", probs=0.5), MMD(Normal("a(w|y)", loc="y", scale=f64(1.0)), Normal("b(w)", loc=f64(0.0), scale=f64(1.0)))
        ),
        ShapeError,
        "sees the whole batch",
    ),
    "a critic inside an expectation": (
        lambda: InfoNCE(Normal("q(w|z)", loc="z", scale=1.0)).expectation(normals()[0]),
        ShapeError,
        "InfoNCE.* compares sets",
    ),
    "total correlation inside an expectation": (
        lambda: TotalCorrelation(Normal("q(w|z)", loc="z", scale=1.0), 10).mean().expectation(normals()[0]),
        ShapeError,
        r"mean\(TC.* compares sets",
    ),
    "samples of a given value": (
        lambda: MMD(NARROW, normals((1,))[0]).estimate({"x": torch.zeros(3, 4, 1)}, sample_dims={"x": 1}),
        ShapeError,
        "depends on x, of which there are several draws",
    ),
    "an order below 1": (lambda: Wasserstein(*normals(), order=0.5), FormulaError, "order must be a number of at least 1"),
    "each datum without a closed form": (lambda: Wasserstein(*normals(), order=1, conditional=True), FormulaError, "needs a closed form"),
    "a critic of one side": (lambda: InfoNCE(NARROW, Deterministic("f(t|x)", t="x")), FormulaError, "some, and not all, are exchanged"),
    "a critic with a density": (lambda: InfoNCE(NARROW, Normal("f(t|x)", loc="x", scale=1.0)), FormulaError, "must compute one variable"),
    "a critic that is a number": (lambda: InfoNCE(NARROW, 3.0), KindError, "the critic is a distribution or a function"),
    "nothing given": (lambda: InfoNCE(normals()[0]), FormulaError, "got none"),
    "a critic of several numbers": (
        lambda: InfoNCE(NARROW, lambda x, z: torch.cat([x, z], -1)).estimate(X),
        ShapeError,
        r"one number for each pair, \(16,\)",
    ),
    "TC of a joint": (lambda: TotalCorrelation(NARROW * Normal("q(w|x)", loc="x", scale=1.0), 10), FormulaError, "one conditional"),
    "TC of no estimator": (lambda: TotalCorrelation(NARROW, 10, estimator="naive"), FormulaError, "choose one of"),
    "a batch beyond the data": (lambda: TotalCorrelation(NARROW, 3).estimate(X), ShapeError, "at most dataset_size, 3; it is 4"),
    "commitment of a normal": (lambda: Commitment(NARROW), FormulaError, "takes a VectorQuantizer"),
    "codes of another length": (
        lambda: quantizer(axis=0).sample({"x": torch.zeros(2, 3, 3)}),
        ShapeError,
        "axis 0 of them must have that size",
    ),
    "a decay of 1": (lambda: quantizer(decay=1.0), FormulaError, r"decay must be in \[0, 1\)"),
    "a restart without decay": (lambda: quantizer(restart_below=1.0), FormulaError, "needs decay"),
    "no codes": (lambda: VectorQuantizer("q(z|x)", z=nn.Linear(3, 2), num_codes=0, dim=2), KindError, "num_codes must be a whole number"),
}


@pytest.mark.parametrize(("make", "error", "words"), BAD.values(), ids=BAD)
def test_bad_input(make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_a_set_loss_of_what_is_computed():
    """An expectation over what is computed draws nothing, so a set loss may stand in it."""
    computed = Expectation(Deterministic("d(z|x)", z="x"), BELOW)
    direct = MMD(Normal("a(w|x)", loc="x", scale=1.0), Normal("b(w)", loc=0.0, scale=1.0))
    x = torch.linspace(-1, 2, 5)
    torch.manual_seed(0)
    found = computed.estimate({"x": x})
    torch.manual_seed(0)
    torch.testing.assert_close(found, direct.estimate({"x": x}))


def test_a_divergence_for_each_datum_inside_an_expectation():
    """Wasserstein in closed form compares no sets: E_z|z - 1| over N(1, 1.5²), for the distance of N(z, 1) and N(1, 1) is |z - 1|."""
    inner = Wasserstein(Normal("a(w|z)", loc="z", scale=f64(1.0)), Normal("b(w)", loc=f64(1.0), scale=f64(1.0)), conditional=True)
    draws = inner.expectation(normals()[1]).estimate(batch_size=100_000)
    assert abs(draws.mean().item() - 1.5 * math.sqrt(2 / math.pi)) < 4.5 * draws.std().item() / math.sqrt(100_000)
