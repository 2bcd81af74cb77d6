"""Masked autoregressive distributions, held against enumeration, quadrature, Jacobians and their own conditionals one by one."""

import copy
import itertools
import pickle

import pytest
import scipy.stats
import torch
from torch import nn

from pixyz.core import KindError, ParameterError, ShapeError, SupportError
from pixyz.distributions import (
    Autoregressive,
    Bernoulli,
    Categorical,
    CategoricalIndex,
    DiscretizedLogistic,
    DiscretizedLogisticMixture,
    Family,
    Laplace,
    MultivariateNormal,
    Normal,
    Poisson,
    PowerSpherical,
    RelaxedBernoulli,
    Uniform,
)
from pixyz.losses import ELBO

D = 4
GRID = torch.linspace(0, 1, 3, dtype=torch.float64)
# name: (the family, its arguments, the values of one feature, the parameters that the network gives)
FAMILIES = {
    "Bernoulli": (Bernoulli, {}, torch.tensor([0.0, 1.0]).double(), {"logits"}),
    "CategoricalIndex": (CategoricalIndex, {"categories": 3}, torch.arange(3).double(), {"logits"}),
    "DiscretizedLogistic": (DiscretizedLogistic, {"levels": 3}, GRID, {"loc", "scale"}),
    "DiscretizedLogisticMixture": (DiscretizedLogisticMixture, {"levels": 3, "components": 2}, GRID, {"loc", "scale", "logits"}),
    "Normal": (Normal, {}, None, {"loc", "scale"}),
    "Normal of constant scale": (Normal, {"scale": torch.tensor([0.5, 1.0, 2.0, 3.0]).double()}, None, {"loc"}),
    "Laplace": (Laplace, {}, None, {"loc", "scale"}),
    "Poisson": (Poisson, {}, None, {"rate"}),
}
DISCRETE = [name for name, case in FAMILIES.items() if case[2] is not None]


def made(name, text="p(x)", dim=D, hidden=(16, 16), **more):
    family, arguments, *_ = FAMILIES[name]
    p = Autoregressive(text, family=family, dim=dim, hidden=hidden, activation=nn.Tanh, **arguments, **more).double()
    with torch.no_grad():  # far from uniform
        for t in p.parameters():
            t.mul_(3)
    return p


def every(values, dim=D):
    return torch.stack(torch.meshgrid(*[values] * dim, indexing="ij"), -1).reshape(-1, dim)


def some(name, n=3, dim=D):
    torch.manual_seed(4)
    values = FAMILIES[name][2]
    if values is None:
        return torch.randint(5, (n, dim)).double() if name == "Poisson" else torch.randn(n, dim).double()
    return values[torch.randint(len(values), (n, dim))]


def context(n=3):
    return torch.linspace(-1, 1, 2 * n, dtype=torch.float64).reshape(n, 2)


@pytest.mark.parametrize("hidden", [(), (5,), (3, 40, 7)], ids=["none", "one", "three"])
def test_binary_vectors_have_probability_one_together(hidden):
    p = made("Bernoulli", dim=6, hidden=hidden)
    x = every(torch.tensor([0.0, 1.0]).double(), 6)
    log_p = p.log_likelihood({"x": x})
    assert log_p.exp().sum().item() == pytest.approx(1, abs=1e-12)
    assert log_p.std() > 0.1


@pytest.mark.parametrize("name", DISCRETE)
def test_all_values_have_probability_one_together(name):
    values = every(FAMILIES[name][2])
    assert made(name).log_likelihood({"x": values}).exp().sum().item() == pytest.approx(1, abs=1e-12)
    p = made(name, "p(x|z)", cond_dim=2)
    z = context(1).expand(len(values), 2)
    assert p.log_likelihood({"x": values, "z": z}).exp().sum().item() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("name", FAMILIES)
def test_parameters_depend_on_what_stands_before_and_on_nothing_else(name):
    p, x = made(name, hidden=(40, 40)), some(name, 1)
    params = p.given_before(x)
    assert FAMILIES[name][3] == set(p.free)
    seen = torch.zeros(D, D, dtype=torch.bool)
    for parameter in p.free:
        jacobian = torch.autograd.functional.jacobian(lambda x: p.given_before(x)[parameter], x)
        seen |= (jacobian.reshape(D, -1, D) != 0).any(1)
        assert params[parameter].shape[:2] == (1, D)
    assert torch.equal(seen, torch.ones(D, D).tril(-1).bool())


def test_everything_depends_on_the_context():
    p = made("Bernoulli", "p(x|z)", cond_dim=2, hidden=(8,))
    x, z = some("Bernoulli", 1), context(1)
    jacobian = torch.autograd.functional.jacobian(lambda z: p.given_before(x, z)["logits"], z)
    assert (jacobian.squeeze() != 0).all()
    # Even the first feature, not only linearly.
    second = torch.autograd.functional.hessian(lambda z: p.given_before(x, z)["logits"][0, 0], z)
    assert second.abs().max() > 1e-3


@pytest.mark.parametrize("hidden", [(1,), (2, 2), (63, 5)])
def test_narrow_layers_keep_the_order(hidden):
    p = made("Bernoulli", dim=9, hidden=hidden)
    x = some("Bernoulli", 1, 9)
    jacobian = torch.autograd.functional.jacobian(lambda x: p.given_before(x)["logits"], x).reshape(9, 9)
    assert jacobian.triu().abs().max() == 0
    assert jacobian[-1].abs().max() > 0


@pytest.mark.parametrize("name", FAMILIES)
def test_the_likelihood_is_the_product_of_the_conditionals(name):
    """Each scored by the family itself, with the features that are still to come replaced by others."""
    p, x, z = made(name, "p(x|z)", cond_dim=2), some(name), context()
    family = FAMILIES[name][0]
    total = torch.zeros(3).double()
    for i in range(D):
        unknown = torch.cat([x[:, :i], some(name).flip(0)[:, i:]], -1)
        params = {k: t.detach() for k, t in p.given_before(unknown, z, i).items()}
        for n in range(3):
            own = {k: t[n] if k in p.free else t for k, t in params.items()}
            total[n] += family("p(y)", **own).log_likelihood({"y": x[n : n + 1, i : i + 1]}).item()
    torch.testing.assert_close(p.log_likelihood({"x": x, "z": z}), total)


@pytest.mark.parametrize("name", DISCRETE)
def test_draws_have_the_probabilities_of_the_likelihood(name):
    values, n = FAMILIES[name][2], 20_000
    p = made(name, "p(x|z)", dim=3, cond_dim=2)
    z, points = context(1), every(values, 3)
    expected = n * p.log_likelihood({"x": points, "z": z.expand(len(points), 2)}).exp()
    x = p.sample({"z": z}, sample_shape=[n])["x"][:, 0]
    index = torch.bucketize(x, values - 1e-6, right=True) - 1
    torch.testing.assert_close(values[index], x)
    k = len(values)
    counts = torch.bincount(index @ torch.tensor([k * k, k, 1]), minlength=k**3).double()
    rare = expected < 5
    pooled = [torch.cat([t[~rare], t[rare].sum().unsqueeze(0)]).detach().numpy() for t in (counts, expected)]
    keep = pooled[1] > 0
    assert scipy.stats.chisquare(pooled[0][keep], pooled[1][keep] * pooled[0][keep].sum() / pooled[1][keep].sum()).pvalue > 1e-4


def test_draws_of_normals_are_normal_given_those_before():
    p, n = made("Normal", "p(x|z)", dim=3, cond_dim=2), 5_000
    z = context(1).expand(n, 2)
    x = p.sample({"z": z})["x"]
    params = p.given_before(x, z)
    errors = ((x - params["loc"]) / params["scale"]).detach()
    for i in range(3):
        assert scipy.stats.kstest(errors[:, i].numpy(), "norm").pvalue > 1e-4
    assert torch.corrcoef(errors.T).triu(1).abs().max() < 0.08
    assert not x.requires_grad


def test_shapes():
    p = made("Bernoulli")
    x = p.sample(batch_size=5, sample_shape=[3])["x"]
    assert x.shape == (3, 5, D)
    log_p = p.log_likelihood({"x": x}, sample_dims={"x": 1})
    torch.testing.assert_close(log_p, p.log_likelihood({"x": x.flatten(0, 1)}).reshape(3, 5))
    q = made("Bernoulli", "p(x|z,y)", cond_dim=7)
    values = {"z": torch.randn(3, 5, 2, 3).double(), "y": torch.randn(5).double()}
    x = q.replace_var(x="w").sample({k: v if k == "y" else v[0] for k, v in values.items()}, sample_shape=[2])["w"]
    assert x.shape == (2, 5, D)
    log_p = q.log_likelihood({"x": x[0], **values}, sample_dims={"z": 1})
    torch.testing.assert_close(log_p[2], q.log_likelihood({"x": x[0], "z": values["z"][2], "y": values["y"]}))


class Encoder(Normal):
    def __init__(self):
        super().__init__("q(z|x)")
        self.fc = nn.Linear(D, 2).double()

    def forward(self, x):
        return {"loc": self.fc(x), "scale": 0.5}


@pytest.mark.parametrize("num_samples", [1, 5])
def test_as_the_decoder_of_a_vae(num_samples):
    p, q = made("Bernoulli", "p(x|z)", cond_dim=2), Encoder()
    prior = Normal("p(z)", loc=torch.zeros(2).double(), scale=torch.ones(2).double())
    x = some("Bernoulli", 6)
    loss = ELBO(p * prior, q, num_samples=num_samples)
    torch.manual_seed(7)
    bound = loss.estimate({"x": x})
    torch.manual_seed(7)
    z = q.sample({"x": x}, sample_shape=[num_samples])["z"]
    many = x.expand(num_samples, 6, D).reshape(-1, D)
    log_p = p.log_likelihood({"x": many, "z": z.reshape(-1, 2)}).reshape(num_samples, 6)
    rest = prior.log_likelihood({"z": z}, sample_dims={"z": 1}) - q.log_likelihood({"z": z, "x": x}, sample_dims={"z": 1})
    torch.testing.assert_close(bound, (log_p + rest).mean(0))
    loss.mean().estimate({"x": x}).backward()
    assert all([t.grad is not None and t.grad.isfinite().all() for t in loss.parameters()])
    assert q.fc.weight.grad.abs().max() > 0


def test_the_score_gradient_through_it():
    """E_p[f] by enumeration, against the average of many score-function estimates."""
    p = made("Bernoulli", dim=2, hidden=(4,))
    f = Normal("f(x)", loc=torch.tensor([2.0, -1.0]).double(), scale=1.0)
    points = every(torch.tensor([0.0, 1.0]).double(), 2)
    exact = (p.log_likelihood({"x": points}).exp() * f.log_likelihood({"x": points})).sum()
    truth = torch.autograd.grad(exact, p.masked.layers[-1].bias)[0]
    estimate = f.log_prob().expectation(p, num_samples=50_000).estimate()
    gradient = torch.autograd.grad(estimate.sum(), p.masked.layers[-1].bias)[0]
    assert estimate.item() == pytest.approx(exact.item(), abs=0.05)
    torch.testing.assert_close(gradient, truth, rtol=0, atol=0.03)


@pytest.mark.parametrize("name", FAMILIES)
def test_it_trains(name):
    p = made(name, "p(x|z)", cond_dim=2)
    (-p.log_prob().mean()).estimate({"x": some(name), "z": context()}).backward()
    assert all([t.grad.isfinite().all() for t in p.parameters()])


@pytest.mark.parametrize("name", ["Bernoulli", "DiscretizedLogisticMixture", "Normal of constant scale", "Poisson"])
def test_it_compiles(name):
    """One output of the network, several of which one is a vector, a constant beside it, and a positive one."""
    dim = D if "constant" in name else 2
    p, x, z = made(name, "p(x|z)", dim=dim, cond_dim=2), some(name, dim=dim), context()
    loss = -p.log_prob().mean()
    eager = loss.estimate({"x": x, "z": z})
    torch.testing.assert_close(torch.compile(loss.estimate, fullgraph=True, backend="eager")({"x": x, "z": z}), eager)
    torch.manual_seed(3)
    drawn = p.sample({"z": z})["x"]
    torch.manual_seed(3)
    torch.testing.assert_close(torch.compile(p.sample, fullgraph=True, backend="eager")({"z": z})["x"], drawn)


def test_it_is_copied_pickled_and_saved():
    p, x = made("DiscretizedLogistic"), some("DiscretizedLogistic")
    again = made("DiscretizedLogistic")
    again.load_state_dict(p.state_dict())
    for q in (copy.deepcopy(p), pickle.loads(pickle.dumps(p)), again):
        torch.testing.assert_close(q.log_likelihood({"x": x}), p.log_likelihood({"x": x}))
    layers = [f"masked.layers.{i}.{t}" for i, t in itertools.product(range(3), ("weight", "bias"))]
    assert list(p.state_dict()) == ["levels", *layers]
    assert "family=DiscretizedLogistic, dim=4, levels=3" in str(p)


def test_a_trained_constant():
    p = Autoregressive("p(x)", family=Normal, dim=D, hidden=[8], scale=nn.Parameter(torch.ones(D)))
    (-p.log_prob().mean()).estimate({"x": torch.randn(5, D)}).backward()
    assert p.scale.grad.abs().min() > 0


@pytest.mark.parametrize("name", ["CategoricalIndex", "Poisson"])
def test_values_may_be_integers(name):
    p, x = made(name), some(name)
    torch.testing.assert_close(p.log_likelihood({"x": x.long()}), p.log_likelihood({"x": x}))


def test_one_feature():
    p = made("Bernoulli", dim=1)
    assert p.log_likelihood({"x": torch.tensor([[0.0], [1.0]]).double()}).exp().sum().item() == pytest.approx(1)


def build(text="p(x)", family=Bernoulli, dim=D, **more):
    return lambda: Autoregressive(text, family=family, dim=dim, **more)


def score(x, **z):
    p = Autoregressive("p(x|z)" if z else "p(x)", family=Bernoulli, dim=D, hidden=[8], **({"cond_dim": 2} if z else {}))
    return lambda: p.log_likelihood({"x": x, **z})


def families_of_vectors():
    """Own families of numbers, with one parameter that no masked network gives."""
    limits = {
        "weights": CategoricalIndex.supports["probs"],
        "place": PowerSpherical.supports["loc"],
        "root": MultivariateNormal.supports["precision_matrix"],
    }
    return {
        name: type(
            "Own",
            (Family,),
            {
                "parametrisations": ((name,),),
                "supports": {name: limit},
                "value_support": Normal.value_support,
                "log_density": staticmethod(lambda params, x: -x),
            },
        )
        for name, limit in limits.items()
    }


CASES = {
    **{
        f"limits of {name}": (
            build(family=family),
            ParameterError,
            f"but the {name} of a Own must be {family.supports[name].words}; give a constant, {name}=",
        )
        for name, family in families_of_vectors().items()
    },
    "an instance": (build(family=Bernoulli(probs=0.5)), KindError, "p(x): family must be a class of distributions, like Bernoulli; got a"),
    "a name": (build(family="Bernoulli"), KindError, "got 'Bernoulli'."),
    "vectors": (build(family=Categorical), KindError, "p(x): the values of a Categorical are vectors"),
    "relations": (build(family=Uniform), KindError, "p(x): it must be that low < high"),
    "no levels": (
        build(family=DiscretizedLogistic),
        ParameterError,
        "but the levels of a DiscretizedLogistic must be a whole number, at least 2; give a constant, levels=...",
    ),
    "misspelt": (build(family=DiscretizedLogistic, level=3), ParameterError, "has no parameter 'level'"),
    "nothing left": (build(family=Normal, loc=0.0, scale=1.0), ParameterError, "with loc, scale given, nothing of a Normal is left"),
    "a network": (build(family=Normal, loc=nn.Linear(3, 4)), ParameterError, "loc is a constant, or comes from the masked network"),
    "a variable": (build("p(x|z)", Normal, cond_dim=2, loc="z"), ParameterError, "loc is a constant, or comes from the masked network"),
    "support": (build(family=Normal, scale=-1.0), SupportError, "p(x): scale must be positive; got -1.0."),
    "shape": (
        build(family=Normal, scale=torch.ones(3)),
        ShapeError,
        "p(x): scale has shape (3,); a constant is one for all features, or (4).",
    ),
    "no categories": (build(family=CategoricalIndex), ParameterError, "say how many categories a CategoricalIndex has, categories=..."),
    "no components": (
        build(family=DiscretizedLogisticMixture, levels=3),
        ParameterError,
        "say how many components a DiscretizedLogisticMixture has, components=...",
    ),
    "the other word": (build(family=CategoricalIndex, components=3), ParameterError, "has no components; say categories=3."),
    "components": (build(components=3), ParameterError, "p(x): a Bernoulli has no components; leave it out."),
    "dim": (build(dim=0), KindError, "p(x): dim must be a positive whole number; got 0."),
    "hidden": (build(hidden=[3.5]), KindError, "p(x): each of hidden must be a positive whole number; got 3.5."),
    "no cond_dim": (build("p(x|z)"), ParameterError, "p(x|z): say how many features z has, cond_dim=..."),
    "no cond_dim for two": (build("p(x|y,z)"), ParameterError, "p(x|y,z): say how many features y, z have together, cond_dim=..."),
    "cond_dim of nothing": (build(cond_dim=3), ParameterError, "p(x) depends on nothing, so cond_dim=3 has no place; write p(x|z)"),
    "two variables": (build("p(x,y)"), ValueError, "p(x,y): an Autoregressive has one variable"),
    "features": (score(torch.zeros(3, 5)), ShapeError, "p(x): x has features (5,), but dim is 4; a value is (batch, 4)."),
    "rank": (score(torch.tensor(1.0)), ShapeError, "p(x): x has shape (); a value is (batch, *features)."),
    "values": (score(torch.full((3, 4), 0.5)), SupportError, "p(x) (Autoregressive of Bernoulli): x must be 0 or 1, but 12 of 12 are not"),
    "dtype": (score(torch.zeros(3, 4).double()), KindError, "p(x): x is torch.float64 on cpu, the network's parameters are torch.float32"),
    "context": (score(torch.zeros(3, 4), z=torch.zeros(3, 5)), ShapeError, "p(x|z): its conditioning variables have features z (5,), but"),
    "dtype of the context": (score(torch.zeros(3, 4), z=torch.zeros(3, 2).long()), KindError, "p(x|z): z is torch.int64 on cpu"),
    "batches": (
        score(torch.zeros(3, 4), z=torch.zeros(2, 2)),
        ShapeError,
        "p(x|z): x has batch 3, z has batch 2; one evaluation of it needs one batch.",
    ),
    "no context": (
        lambda: build("p(x|z)", cond_dim=2)().given_before(torch.zeros(3, 4)),
        KindError,
        "A network with a context was called without it; give context, (N, 2).",
    ),
    "mean": (lambda: build(hidden=[4])().mean(), ValueError, "has no mean in closed form here; estimate it by p.sample"),
    "no parametrisation": (build(family=RelaxedBernoulli, probs=0.5, logits=0.0), ParameterError, ""),
}


@pytest.mark.parametrize("case", CASES)
def test_errors(case):
    do, error, words = CASES[case]
    with pytest.raises(error) as caught:
        do()
    assert words in str(caught.value)
