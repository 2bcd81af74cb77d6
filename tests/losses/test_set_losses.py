"""Losses that see the whole batch: against closed forms, quadrature, brute force and another solver, in float64."""

import math

import pytest
import torch
from torch import nn

from pixyz.core import FormulaError, IntractableError, KindError, ShapeError
from pixyz.distributions import Bernoulli, Categorical, Deterministic, Empirical, MultivariateNormal, Normal, VectorQuantizer
from pixyz.losses import MMD, Commitment, EnergyDistance, Expectation, InfoNCE, LogProb, TotalCorrelation, Wasserstein


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


def quantizer(**options):
    return VectorQuantizer("q(z|x)", z=nn.Linear(3, 2), num_codes=4, dim=2, **options)


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
    "InfoNCE of a loss": (lambda: InfoNCE(LogProb(NARROW)), KindError, r"^InfoNCE takes a distribution; got the loss log q\(z\|x\)\.$"),
    "nothing given": (lambda: InfoNCE(normals()[0]), FormulaError, "got none"),
    "a critic of several numbers": (
        lambda: InfoNCE(NARROW, lambda x, z: torch.cat([x, z], -1)).estimate(X),
        ShapeError,
        r"one number for each pair, \(16,\)",
    ),
    "TC of a joint": (lambda: TotalCorrelation(NARROW * Normal("q(w|x)", loc="x", scale=1.0), 10), FormulaError, "one conditional"),
    "TC of no estimator": (lambda: TotalCorrelation(NARROW, 10, estimator="naive"), FormulaError, "choose one of"),
    "a batch beyond the data": (lambda: TotalCorrelation(NARROW, 3).estimate(X), ShapeError, "at most dataset_size, 3; it is 4"),
    "two batches in one set": (
        lambda: MMD(Normal("q(z|x,y)", loc="x", scale="y"), Normal("p(z)", loc=0.0, scale=1.0)).estimate({**X, "y": torch.ones(3, 1)}),
        ShapeError,
        r"^MMD\[q\(z\|x,y\)\|\|p\(z\)\]: x has batch 4 and y has batch 3; what is drawn together has one batch\.$",
    ),
    "TC of one datum": (
        lambda: TotalCorrelation(NARROW, 1),
        FormulaError,
        r"TC\(q\(z\|x\)\): dataset_size is a whole number of at least 2; got 1\.",
    ),
    "TC of a joint density": (
        lambda: TotalCorrelation(MultivariateNormal("q(z|x)", loc="x", scale_tril=torch.eye(1)), 10).estimate(X),
        IntractableError,
        r"TC\(q\(z\|x\)\): q\(z\|x\) \(MultivariateNormal\) has no density for each feature\.",
    ),
    "TC of one number": (
        lambda: TotalCorrelation(NARROW, 10).estimate({"x": torch.zeros(4)}),
        ShapeError,
        r"TC\(q\(z\|x\)\): z is one number for each datum, and a total correlation is between several",
    ),
    "a commitment that repels": (
        lambda: Commitment(quantizer(), beta=-1.0),
        FormulaError,
        r"Commitment\(q\(z\|x\)\): beta must be at least 0; got -1\.0\.",
    ),
    "two variables of one code": (
        lambda: VectorQuantizer("q(z,y|x)", z=nn.Linear(3, 2), y=nn.Linear(3, 2), num_codes=2, dim=2),
        FormulaError,
        r"q\(z,y\|x\): a VectorQuantizer has one variable; quantise each by its own\.",
    ),
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
