# ruff: noqa: E501
"""Products of normal experts, against densities that are multiplied, normalised by quadrature, and by the laws of a normal."""

import copy
import pickle
import re

import pytest
import torch
import torch.distributions as td
from torch import nn

import pixyz.distributions as d
from pixyz.core import FormulaError, KindError, ParameterError, ShapeError, testing
from pixyz.distributions import Normal, ProductOfNormal
from pixyz.losses import ELBO, KullbackLeibler


def f64(x):
    return torch.tensor(x, dtype=torch.float64)


def linear(weight, bias=0.1):
    layer = nn.Linear(len(weight[0]), len(weight), dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(f64(weight))
        layer.bias.fill_(bias)
    return layer


IMAGE = Normal("q(z|x)", loc=linear([[0.7, -0.3], [0.2, 0.5]]), scale=f64([0.6, 1.4]))
LABEL = Normal("q(z|y)", loc=linear([[1.0], [-1.0]], 0.3), scale=lambda y: 0.3 + y.square().expand(-1, 2))
CONSTANT = Normal("r(z)", loc=f64([1.0, -0.5]), scale=0.7)
OWN = Normal("p(z)", loc=-0.5, scale=f64([2.0, 0.9]))
STANDARD = Normal("n(z)", loc=f64([0.0, 0.0]), scale=1.0)
VALUES = {"x": f64([[0.3, -1.2], [2.0, 0.4], [0.0, 0.0]]), "y": f64([[0.5], [-1.0], [0.8]])}

# experts, prior, and what is multiplied
CASES = {
    "two and the standard prior": ([IMAGE, LABEL], "standard", [IMAGE, LABEL, STANDARD]),
    "two without a prior": ([IMAGE, LABEL], None, [IMAGE, LABEL]),
    "two and a prior of one's own": ([IMAGE, LABEL], OWN, [IMAGE, LABEL, OWN]),
    "a constant expert counts": ([IMAGE, CONSTANT], None, [IMAGE, CONSTANT]),
    "constants alone": ([CONSTANT, OWN], "standard", [CONSTANT, OWN, STANDARD]),
    "one": ([LABEL], None, [LABEL]),
    "one network for two": ([IMAGE, IMAGE.replace_var(x="v")], None, [IMAGE, IMAGE.replace_var(x="v")]),
    "a product of products": ([ProductOfNormal([IMAGE], prior=None), LABEL], OWN, [IMAGE, LABEL, OWN]),
}
WITH_V = {**VALUES, "v": f64([[1.0, 1.0], [-0.5, 0.3], [0.2, 0.9]])}


@pytest.fixture
def q():
    return ProductOfNormal([IMAGE, LABEL])


@pytest.mark.parametrize(("experts", "prior", "factors"), CASES.values(), ids=CASES)
def test_the_density_is_the_normalised_product(experts, prior, factors):
    """One feature at a time, for the experts are independent over them."""
    poe = ProductOfNormal(experts, prior=prior)
    nodes = testing.line(width=2.0, n=801)
    for row in range(3):
        given = {k: t[row : row + 1].expand(len(nodes.points), -1) for k, t in WITH_V.items()}
        middle = poe.mean({k: t[row : row + 1] for k, t in WITH_V.items()})[0]
        for feature in range(2):
            z = middle.repeat(len(nodes.points), 1)
            z[:, feature] = nodes.points
            product = sum(p.log_likelihood({"z": z, **given}) for p in factors)
            expected = product - (nodes.weights * product.exp()).sum().log()
            found = poe.log_likelihood({"z": z, **given})
            found = found - (nodes.weights * found.exp()).sum().log()
            torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-8)
    assert poe.log_likelihood({"z": middle.expand(3, 2), **WITH_V}).shape == (3,)


def test_the_mean_and_the_variance_by_quadrature(q):
    nodes = testing.product(testing.line(n=401), testing.line(n=401))
    given = {k: t[:1].expand(len(nodes.points), -1) for k, t in VALUES.items()}
    density = sum(p.log_likelihood({"z": nodes.points, **given}) for p in (IMAGE, LABEL, STANDARD)).exp()
    weights = nodes.weights * density / (nodes.weights * density).sum()
    mean = (weights[:, None] * nodes.points).sum(0)
    first = {k: t[:1] for k, t in VALUES.items()}
    torch.testing.assert_close(q.mean(first)[0], mean, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(q.mode(first)[0], mean, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(q.variance(first)[0], (weights[:, None] * (nodes.points - mean).square()).sum(0), rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(q.entropy(first)[0], -torch.xlogy(weights, density / (nodes.weights * density).sum()).sum())
    torch.testing.assert_close(q.log_likelihood({"z": nodes.points, **given}).exp(), density / (nodes.weights * density).sum())


def test_laws():
    p = ProductOfNormal([Normal("a(x)", loc=f64(0.5), scale=f64(2.0)), Normal("b(x)", loc=f64(-1.0), scale=f64(0.7))], name="p")
    testing.check(p, testing.line())


def test_gradients_reach_every_expert(q):
    parameters = [*IMAGE.parameters(), *LABEL.parameters()]
    assert {*map(id, q.parameters())} == {*map(id, parameters)}
    q.sample(VALUES)["z"].square().sum().backward()
    assert all(w.grad is not None and w.grad.abs().sum() > 0 for w in parameters)
    for w in parameters:
        w.grad = None


def test_shapes(q):
    assert q.sample(VALUES, sample_shape=[4])["z"].shape == (4, 3, 2)
    assert q.variance(VALUES).shape == q.mean(VALUES).shape == (3, 2)
    z = torch.randn(5, 3, 2, dtype=torch.float64)
    found = q.log_likelihood({"z": z, **VALUES}, sample_dims={"z": 1})
    torch.testing.assert_close(found, torch.stack([q.log_likelihood({"z": row, **VALUES}) for row in z]))
    empty = {k: t[:0] for k, t in VALUES.items()}
    assert q.sample(empty)["z"].shape == (0, 2)


def test_precisions_neither_overflow_nor_vanish():
    """Squared, these scales leave single precision."""
    for scale in (1e-30, 1e30):
        experts = [Normal(f"q_{i}(z)", loc=torch.tensor([3.0]), scale=torch.tensor([scale])) for i in range(2)]
        q = ProductOfNormal(experts, prior=None)
        torch.testing.assert_close(q.get_params()["scale"] / scale, torch.tensor([0.5**0.5]))
        torch.testing.assert_close(q.mean(), torch.tensor([[3.0]]))


def test_divergences_are_closed_forms(q):
    prior = Normal("p(z)", loc=f64([0.5, 0.0]), scale=1.3)
    loc, scale = q.mean(VALUES), q.variance(VALUES).sqrt()
    normal, other = td.Normal(loc, scale), td.Normal(f64([0.5, 0.0]), f64([1.3, 1.3]))
    for loss, truth in ((KullbackLeibler(q, prior), (normal, other)), (KullbackLeibler(prior, q), (other, normal))):
        assert loss.is_analytic
        torch.testing.assert_close(loss.estimate(VALUES), td.kl_divergence(*truth).sum(-1), rtol=1e-6, atol=1e-6)
    subset = q.given_only("x")
    assert KullbackLeibler(q, subset).is_analytic
    assert str(KullbackLeibler(q, subset)) == "KL[q(z|x,y)||q(z|x)]"


@pytest.mark.parametrize("num_samples", [1, 50])
def test_in_an_elbo(q, num_samples):
    """p(z)p(x|z)p(y|z) is normal, so its bound is known; K draws are averaged."""
    prior = Normal("p(z)", loc=0.0, scale=f64([1.0, 1.0]))
    p = Normal("p(x|z)", loc="z", scale=0.8) * Normal("p(y|z)", loc=linear([[0.5, 0.5]]), scale=0.5) * prior
    loss = ELBO(p, q, num_samples=num_samples)
    assert str(loss) == "E_q(z|x,y)[log p(x,y,z)/q(z|x,y)]"
    loc, variance = q.mean(VALUES), q.variance(VALUES)
    to_y = p.factors[1].dist.given_networks.loc
    x_part = -0.5 * ((VALUES["x"] - loc).square() + variance).sum(-1) / 0.64 - 2 * torch.tensor(0.8).double().log()
    y_spread = (variance * to_y.weight.square()).sum(-1)
    y_part = -0.5 * ((VALUES["y"] - to_y(loc)).squeeze(-1).square() + y_spread) / 0.25 - torch.tensor(0.5).double().log()
    constants = -1.5 * torch.tensor(2 * torch.pi).double().log()
    kl = td.kl_divergence(td.Normal(loc, variance.sqrt()), td.Normal(torch.zeros(2).double(), 1.0)).sum(-1)
    truth = x_part + y_part + constants - kl
    with torch.no_grad():
        draws = torch.stack([loss.estimate(VALUES) for _ in range(1500 // num_samples)])
    error = draws.std(0) / len(draws) ** 0.5
    assert ((draws.mean(0) - truth).abs() < 5 * error).all()


def test_as_a_prior_it_is_integrated_out():
    """What is linear in z, and z from a product of experts, have the likelihood that they have with the equal normal distribution."""
    prior = ProductOfNormal([CONSTANT, OWN], name="p")
    equal = Normal("p(z)", loc=prior.mean()[0], scale=prior.variance()[0].sqrt())
    likelihood = Normal("p(x|z)", loc=linear([[0.7, -0.3], [0.2, 0.5], [1.0, 1.0]]), scale=0.5)
    x = {"x": torch.randn(4, 3, dtype=torch.float64)}
    found, expected = [(likelihood * p).marginalize_var("z").log_likelihood(x) for p in (prior, equal)]
    torch.testing.assert_close(found, expected)


def test_renamed(q):
    other = q.replace_var(z="w", x="u")
    assert other.prob_text == "q(w|u,y)"
    assert str(other).splitlines()[1] == "  q(w|u,y) ∝ q(w|u)q(w|y)N(w;0,1)"
    values = {"u": VALUES["x"], "y": VALUES["y"]}
    z = torch.randn(3, 2, dtype=torch.float64)
    torch.testing.assert_close(other.log_likelihood({"w": z, **values}), q.log_likelihood({"z": z, **VALUES}))
    pair = q * other.replace_var(u="x")
    assert pair.sample(VALUES)["w"].shape == (3, 2)
    assert list(pair._modules) == ["q(z|x,y)"]


def test_an_expert_stands_elsewhere_in_the_formula_too(q):
    loss = (KullbackLeibler(q, IMAGE) + KullbackLeibler(IMAGE, OWN)).mean()
    assert sorted(loss._modules) == ["p(z)", "q(z|x)", "q(z|x,y)"]
    assert loss._modules["q(z|x)"] is loss._modules["q(z|x,y)"]._modules["q(z|x)"] is IMAGE
    calls = []
    with_hook = IMAGE.given_networks.register_forward_hook(lambda *_: calls.append(1))
    loss.estimate(VALUES)
    with_hook.remove()
    assert len(calls) == 1


def test_keys_do_not_depend_on_the_order():
    assert list(ProductOfNormal([IMAGE, LABEL]).state_dict()) == list(ProductOfNormal([LABEL, IMAGE]).state_dict())


def test_copies(q):
    z = torch.randn(3, 2, dtype=torch.float64)
    expected = q.log_likelihood({"z": z, **VALUES})
    for twin in (copy.deepcopy(q), pickle.loads(pickle.dumps(ProductOfNormal([IMAGE, CONSTANT]))).given_only("x")):
        assert twin._modules["q(z|x)"] is not IMAGE
    assert torch.equal(copy.deepcopy(q).log_likelihood({"z": z, **VALUES}), expected)
    twin = copy.deepcopy(q)
    with torch.no_grad():
        for w in twin.parameters():
            w.mul_(2)
    assert torch.equal(q.log_likelihood({"z": z, **VALUES}), expected)
    twin.load_state_dict(q.state_dict())
    assert torch.equal(twin.log_likelihood({"z": z, **VALUES}), expected)
    assert twin.given_only("x").log_likelihood({"z": z, **VALUES}).equal(q.given_only("x").log_likelihood({"z": z, **VALUES}))


def test_compiled(q):
    prior = Normal("p(z)", loc=0.0, scale=f64([1.0, 1.0]))
    loss = ELBO(Normal("p(x|z)", loc="z", scale=0.8) * prior, q, num_samples=3).mean() - KullbackLeibler(q.given_only("x"), prior).mean()
    torch.manual_seed(1)
    expected = loss.estimate(VALUES)
    loss.compile(fullgraph=True, backend="eager")
    torch.manual_seed(1)
    torch.testing.assert_close(loss.estimate(VALUES), expected)


def test_a_given_subset_is_the_product_of_those_experts():
    both = Normal("q(z|x,y)", loc=lambda x, y: x + y, scale=0.4)
    q = ProductOfNormal([IMAGE, LABEL, CONSTANT, both], prior=OWN, name="r")
    z = torch.randn(3, 2, dtype=torch.float64)
    for names, kept, text in (
        (["x"], [IMAGE, CONSTANT], "r(z|x) ∝ q(z|x)r(z)p(z)"),
        (["y"], [LABEL, CONSTANT], "r(z|y) ∝ q(z|y)r(z)p(z)"),
    ):
        subset, direct = q.given_only(*names), ProductOfNormal(kept, prior=OWN)
        assert subset.unicode() == text
        torch.testing.assert_close(subset.log_likelihood({"z": z, **VALUES}), direct.log_likelihood({"z": z, **VALUES}))
        assert {*subset.parameters()} == {*direct.parameters()}
    assert q.given_only("y", "x") is q
    assert q.given_only("x", name="s").prob_text == "s(z|x)"


def test_printing(q):
    assert str(q).splitlines()[1] == "  q(z|x,y) ∝ q(z|x)q(z|y)N(z;0,1) (ProductOfNormal)"
    assert q.unicode() == "q(z|x,y) ∝ q(z|x)q(z|y)𝒩(z;0,1)"
    assert q.latex() == r"q(z|x,y) \propto q(z|x)q(z|y)\mathcal{N}(z;0,1)"
    assert ProductOfNormal([IMAGE, LABEL], prior=None).unicode() == "q(z|x,y) ∝ q(z|x)q(z|y)"
    assert (OWN.replace_var(z="w") * q).latex() == "p(w,z|x,y) = p(w)q(z|x,y)"


@pytest.mark.parametrize(
    ("misuse", "error", "words"),
    [
        (lambda: ProductOfNormal(IMAGE), KindError, "ProductOfNormal takes a list of experts; got a Normal. Write [expert, ...]."),
        (lambda: ProductOfNormal([]), FormulaError, "ProductOfNormal takes at least one expert; got none."),
        (lambda: ProductOfNormal([IMAGE, nn.Linear(2, 2)]), KindError, "ProductOfNormal takes distributions; got a Linear."),
        (
            lambda: ProductOfNormal([IMAGE, d.Laplace("q(z|y)", loc="y", scale=1.0)]),
            KindError,
            "q(z|x,y): q(z|y) is a Laplace; an expert must be a Normal, or a ProductOfNormal.",
        ),
        (
            lambda: ProductOfNormal([IMAGE, LABEL.replace_var(z="w")]),
            FormulaError,
            "all experts are over the same variable; q(z|x) and q(w|y) are not. Rename one with replace_var.",
        ),
        (
            lambda: ProductOfNormal([IMAGE * LABEL.replace_var(z="w")]),
            FormulaError,
            "each expert is one conditional, like p(x|z); q(z,w|x,y) is a product or a marginal.",
        ),
        (
            lambda: ProductOfNormal([IMAGE, Normal("q(z|x)", loc="x", scale=1.0)]),
            FormulaError,
            "Two different distributions are both written q(z|x): a Normal and a Normal.",
        ),
        (
            lambda: ProductOfNormal([CONSTANT, Normal("q(z)", loc=0.0, scale=1.0, dim=3)]),
            ShapeError,
            "q(z): the experts must have the same features, but r(z) has (2,) and q(z) has (3,).",
        ),
        (lambda: ProductOfNormal([IMAGE], prior="uniform"), ParameterError, "prior must be \"standard\", None or a normal distribution; got 'uniform'."),
        (lambda: ProductOfNormal([IMAGE], prior=OWN.replace_var(z="w")), FormulaError, "q(z|x): the prior p(w) is over another variable."),
        (lambda: ProductOfNormal([IMAGE, LABEL]).given_only("X"), FormulaError, "q(z|x,y): no expert depends on 'X'; they depend on x, y. Did you mean 'x'?"),
        (lambda: ProductOfNormal([IMAGE, LABEL]).given_only(), FormulaError, "q(z|x,y): given_only() leaves no expert; name a variable."),
        (
            lambda: ProductOfNormal([Normal("q(z|x,y)", loc=lambda x, y: x, scale=1.0), IMAGE], name="r").given_only("y"),
            FormulaError,
            "r(z|x,y): given_only('y') leaves no expert; each that depends on y depends on more than y.",
        ),
        (
            lambda: ProductOfNormal([IMAGE, Normal("q(z|w)", loc="w", scale=1.0)]).mean({"x": VALUES["x"], "w": f64([[1.0] * 4] * 3)}),
            ShapeError,
            "q(z|x,w): the experts must have the same features, but q(z|x) has (2,) and q(z|w) has (4,).",
        ),
        (
            lambda: ProductOfNormal([IMAGE, LABEL]).mean({"x": VALUES["x"], "y": VALUES["y"][:1]}),
            ShapeError,
            "q(z|x,y): x has batch 3, y has batch 1",
        ),
        (
            lambda: ProductOfNormal([IMAGE, Normal("q(z|w)", loc="w", scale=1.0)]).mean({"x": VALUES["x"], "w": torch.ones(3, 2)}),
            KindError,
            "q(z|x,w): q(z|x) is torch.float64 on cpu, q(z|w) is torch.float32 on cpu. Convert one with .to().",
        ),
    ],
)  # fmt: skip
def test_misuse(misuse, error, words):
    with pytest.raises(error, match=re.escape(words)):
        misuse()
