# ruff: noqa: E501
"""Components and mixtures, against explicit sums."""

import copy
import pickle
import re

import pytest
import torch
from torch import nn

import pixyz.distributions as d
from pixyz.core import FormulaError, KindError, ShapeError, SupportError, testing
from pixyz.distributions import (
    Categorical,
    Components,
    MixtureModel,
    MixtureOfNormal,
    MixtureOfProducts,
    MultivariateNormal,
    Normal,
    ProductOfNormal,
)
from pixyz.losses import ELBO, Expectation, KullbackLeibler


def f64(x):
    return torch.tensor(x, dtype=torch.float64)


def linear(weight, bias=0.1):
    layer = nn.Linear(len(weight[0]), len(weight), dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(f64(weight))
        layer.bias.fill_(bias)
    return layer


NET = linear([[0.7, -0.3], [0.2, 0.5]])
TRIL = f64([[1.2, 0.0], [-0.4, 0.6]])
NORMALS = [
    Normal("p(x|z)", loc=NET, scale=0.6),
    Normal("p(x)", loc=f64([1.0, -2.0]), scale=f64([0.5, 2.0])),
    Normal("p(x|z)", loc="z", scale=lambda z: 0.2 + z.square()),
]
# the components
CASES = {
    "normals": NORMALS,
    "numbers": [Normal(loc=f64([-2.0, 0.0]), scale=1.0), Normal(loc=0.5, scale=f64([3.0, 3.0]))],
    "one": NORMALS[:1],
    "products of experts": [ProductOfNormal([NORMALS[0], NORMALS[1]], name="p"), NORMALS[1]],
    "renamed": [Normal("p(y|z)", loc=NET, scale=0.6).replace_var(y="x"), NORMALS[0].replace_var(z="v")],
    "covariances": [MultivariateNormal(loc=f64([0.0, 0.0]), scale_tril=TRIL), MultivariateNormal("p(x|z)", loc="z", scale_tril=2 * TRIL)],
    "two parametrisations": [MultivariateNormal(loc=f64([0.0, 0.0]), scale_tril=TRIL), MultivariateNormal(loc=f64([1.0, 0.0]), covariance_matrix=TRIL @ TRIL.T)],
    "two families": [d.Laplace(loc=f64([0.0, 1.0]), scale=1.0), NORMALS[0]],
    "truncated": [d.Truncated(NORMALS[1], lower=f64(-20.0)), d.Truncated(NORMALS[1], upper=f64(9.0))],
    "autoregressive": [d.Autoregressive("p(x)", family=Normal, dim=2, hidden=[4]).double(), NORMALS[0]],
    "bernoullis": [d.Bernoulli(probs=f64([0.2, 0.7])), d.Bernoulli(probs=f64([0.9, 0.5]))],
    "categories": [d.Categorical(probs=f64([0.2, 0.8])), d.Categorical(probs=f64([0.5, 0.5]))],
    "events of two lengths": [d.DiscretizedLogisticMixture(loc=f64([[0.2, 0.8]] * 2), scale=f64([[0.1, 0.1]] * 2), levels=5.0, probs=f64([0.4, 0.6])), d.DiscretizedLogisticMixture(loc=f64([[0.5]] * 2), scale=f64([[0.3]] * 2), levels=5.0, probs=f64([1.0]))],
}  # fmt: skip
GIVEN = {"z": f64([[0.3, -1.2], [2.0, 0.4], [0.1, 0.1], [-0.5, 1.0]]), "v": f64([[1.0, 1.0], [-0.5, 0.3], [0.2, 0.9], [0.0, 2.0]])}


def given(p):
    return {k: t for k, t in GIVEN.items() if k in p.cond_var}


def values_of(p):
    with torch.no_grad():
        return p.sample(GIVEN, batch_size=4)["x"]


def one_hot(numbers, k):
    return torch.eye(k, dtype=torch.float64)[torch.as_tensor(numbers)]


def each_score(parts, values):
    """log p_j(x), `(batch, K)`."""
    return torch.stack([p.log_likelihood(values) for p in parts], -1)


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param], Components(CASES[request.param])


def test_the_chosen_component_is_scored(case):
    parts, p = case
    x = values_of(parts[0])
    table = each_score(parts, {"x": x, **GIVEN})
    numbers = torch.arange(4) % len(parts)
    found = p.log_likelihood({"x": x, "k": one_hot(numbers, len(parts)), **GIVEN})
    torch.testing.assert_close(found, table[torch.arange(4), numbers])
    several = p.log_likelihood(
        {"x": x, "k": one_hot(torch.arange(len(parts))[:, None].expand(-1, 4), len(parts)), **GIVEN}, sample_dims={"k": 1}
    )
    torch.testing.assert_close(several, table.T)
    both = p.log_likelihood(
        {"x": x.expand(3, *x.shape), "k": one_hot([numbers.tolist()] * 3, len(parts)), **GIVEN}, sample_dims={"k": 1, "x": 1}
    )
    torch.testing.assert_close(both, found.expand(3, 4))


def test_an_enumerated_choice(case):
    parts, p = case
    x = values_of(parts[0])
    probs = torch.linspace(1, 2, len(parts), dtype=torch.float64)
    probs = probs / probs.sum()
    loss = p.log_prob().expectation(Categorical("w(k)", probs=probs), estimator="enumerate")
    torch.testing.assert_close(loss.estimate({"x": x, **GIVEN}), each_score(parts, {"x": x, **GIVEN}) @ probs)


def test_draws_are_of_the_chosen_component(case):
    """In mean and in mean square, by the components' own draws."""
    parts, p = case
    n, values = 4000, {k: t[:1].expand(4000, -1) for k, t in GIVEN.items()}
    for j, part in enumerate(parts):
        mine, own = p.sample({"k": one_hot([j] * n, len(parts)), **values})["x"], part.sample(values, batch_size=n)["x"]
        for power in (1, 2):
            a, b = mine.double() ** power, own.double() ** power
            assert ((a.mean(0) - b.mean(0)).abs() <= 5 * (a.var(0) / n + b.var(0) / n).sqrt() + 1e-12).all()
    assert p.sample({"k": one_hot([0] * 4, len(parts)), **given(p)}, sample_shape=[5])["x"].shape == (5, 4, 2)


def test_gradients_of_draws_are_the_chosen_components():
    p = Components([Normal(loc=nn.Parameter(f64([1.0])), scale=1.0), Normal(loc=nn.Parameter(f64([2.0])), scale=1.0)])
    assert p.has_rsample
    p.sample({"k": one_hot([0, 0, 1], 2)})["x"].sum().backward()
    assert [w.grad.item() for w in p.parameters()] == [2.0, 1.0]
    assert not Components([Normal(loc=f64([1.0]), scale=1.0), d.Poisson(rate=f64([1.0]))]).has_rsample


@pytest.mark.parametrize("name", ["normals", "numbers", "products of experts"])
def test_one_call_serves_components_of_one_family(name, monkeypatch):
    """Counted: the calls of the family's functions, and the numbers that are scored though all K choices are enumerated."""
    parts = CASES[name]
    p, x = Components(parts), values_of(parts[0])
    scored, drawn = [], []
    density, rsample = Normal.log_density, Normal.rsample

    def counted(params, value):
        scores = density(params, value)
        scored.append(scores.numel())
        return scores

    monkeypatch.setattr(Normal, "log_density", staticmethod(counted))
    monkeypatch.setattr(Normal, "rsample", staticmethod(lambda params, shape: drawn.append(shape) or rsample(params, shape)))
    prior = Categorical("w(k)", probs=torch.full((len(parts),), 1 / len(parts), dtype=torch.float64))
    p.log_prob().expectation(prior).estimate({"x": x, **GIVEN})
    assert scored == [len(parts) * x.numel()]
    p.sample({"k": one_hot([0] * 4, len(parts)), **given(p)})
    assert drawn == [x.shape]


def test_the_statistics_are_the_chosen_components():
    p = Components(NORMALS)
    numbers = torch.tensor([0, 1, 2, 1])
    values = {"k": one_hot(numbers, 3), **GIVEN}
    for what in ("mean", "variance", "mode", "entropy"):
        each = torch.stack([torch.as_tensor(getattr(q, what)(GIVEN)).expand(4, *getattr(q, what)(GIVEN).shape[1:]) for q in NORMALS])
        torch.testing.assert_close(getattr(p, what)(values), each[numbers, torch.arange(4)])


def test_values_can_be_enumerated_where_all_components_have_the_same():
    p = Components(CASES["bernoullis"])
    assert p.has_enumerate
    f = Normal("f(y|x)", loc="x", scale=1.0)
    y = f64([[0.3, 0.9]])
    loss = f.log_prob().expectation(p, estimator="enumerate")
    table = torch.cartesian_prod(f64([0.0, 1.0]), f64([0.0, 1.0]))
    weights = p.log_likelihood({"x": table, "k": one_hot([1] * 4, 2)}).exp()
    expected = (weights * f.log_likelihood({"x": table, "y": y.expand(4, 2)})).sum()
    torch.testing.assert_close(loss.estimate({"y": y, "k": one_hot([1], 2)}), expected[None])


def test_networks_are_kept_by_number():
    p = Components([Normal("a(x|z)", loc=NET, scale=1.0), Normal("a(x|z)", loc=linear([[1.0, 0.0], [0.0, 1.0]]), scale=1.0)])
    assert p.prob_text == "a(x|k,z)"
    assert [k for k, _ in p.named_parameters()] == [f"{j}.given_networks.loc.{w}" for j in (0, 1) for w in ("weight", "bias")]


def test_several_variables():
    """A component may be over two variables."""
    parts = [d.CustomProb(log_density=lambda x, y, a=a: -(x + a * y).square().sum(-1), var=["x", "y"]) for a in (1.0, 2.0)]
    p = Components(parts)
    x, y = torch.randn(3, 2), torch.randn(3, 2)
    found = p.log_likelihood({"x": x, "y": y, "k": torch.eye(2)[[0, 1, 1]]})
    torch.testing.assert_close(found, -(x + torch.tensor([[1.0], [2.0], [2.0]]) * y).square().sum(-1))


WEIGHTS = f64([0.2, 0.5, 0.3])
GATE = Categorical("p(k|y)", logits=linear([[1.0], [0.5], [-2.0]]))
Y = f64([[0.5], [-1.0], [0.8], [0.0]])
# components, prior, log of the weights
MIXTURES = {
    "constant weights": (NORMALS, Categorical("p(k)", probs=WEIGHTS), WEIGHTS.log().expand(4, 3)),
    "learned weights": (NORMALS, Categorical(var=["k"], logits=nn.Parameter(WEIGHTS.log() + 3)), WEIGHTS.log().expand(4, 3)),
    "weights by a network": (NORMALS, GATE, GATE.get_params({"y": Y})["logits"].log_softmax(-1).detach()),
    "an impossible component": (NORMALS, Categorical("p(k)", probs=f64([0.4, 0.0, 0.6])), f64([0.4, 0.0, 0.6]).log().expand(4, 3)),
    "another index": (NORMALS, Categorical("w(c)", probs=WEIGHTS), WEIGHTS.log().expand(4, 3)),
    "a renamed prior": (NORMALS, Categorical("p(k)", probs=WEIGHTS).replace_var(k="c"), WEIGHTS.log().expand(4, 3)),
    "two families": (CASES["two families"], Categorical("p(k)", probs=f64([0.4, 0.6])), f64([0.4, 0.6]).log().expand(4, 2)),
    "one component": (NORMALS[:1], Categorical("p(k)", probs=f64([1.0])), f64([[0.0]]).expand(4, 1)),
}  # fmt: skip


def drawn_from(p):
    with torch.no_grad():
        return {**GIVEN, "y": Y, **p.sample(given(p) | ({"y": Y} if "y" in p.cond_var else {}), batch_size=4)}


@pytest.mark.parametrize(("parts", "prior", "weights"), MIXTURES.values(), ids=MIXTURES)
def test_the_likelihood_of_a_mixture(parts, prior, weights):
    p = MixtureModel(parts, prior)
    values = drawn_from(p)
    expected = (weights + each_score(parts, values)).logsumexp(-1)
    torch.testing.assert_close(p.log_likelihood(values), expected)
    torch.testing.assert_close(p.log_prob().estimate(values), expected)


@pytest.mark.parametrize(("parts", "prior", "weights"), MIXTURES.values(), ids=MIXTURES)
def test_the_posterior_of_a_mixture_is_bayes(parts, prior, weights):
    p, (index,) = MixtureModel(parts, prior), prior.var
    values = drawn_from(p)
    shares = (weights + each_score(parts, values)).log_softmax(-1)
    posterior = p.posterior(index)
    for j in range(len(parts)):
        found = posterior.log_likelihood({index: one_hot([j] * 4, len(parts)), **values})
        torch.testing.assert_close(found, shares[:, j])
    torch.testing.assert_close(posterior.mean({k: values[k] for k in posterior.cond_var}), shares.exp())


def mixture_on_a_line():
    """Of one variable without features."""
    weights = Categorical("p(k)", probs=WEIGHTS)
    return MixtureModel([Normal(loc=f64(m), scale=f64(s)) for m, s in ((-2.0, 0.5), (0.0, 1.0), (3.0, 0.3))], weights)


def test_laws():
    p, nodes = mixture_on_a_line(), testing.line(width=2.0)
    testing.check(p, nodes, traceable=["draw"])
    moe = MixtureOfNormal([Normal(f"q_{i}(x)", loc=f64(m), scale=f64(1.0)) for i, m in enumerate((-1.0, 2.0))], weights=[0.3, 0.7])
    testing.check(moe, nodes, traceable=["draw"])


def test_the_weights_are_those_of_the_draws():
    p = mixture_on_a_line()
    x = p.sample(batch_size=20_000)["x"]
    for low, high in ((-torch.inf, -1.0), (1.5, torch.inf)):
        share = ((x > low) & (x < high)).double().mean()
        nodes = testing.line(width=2.0)
        inside = (nodes.points > low) & (nodes.points < high)
        truth = (nodes.weights * p.log_likelihood({"x": nodes.points}).exp())[inside].sum()
        assert (share - truth).abs() < 5 * (truth * (1 - truth) / 20_000).sqrt()


def test_a_mixture_is_a_factor_like_others():
    p = mixture_on_a_line().replace_var(x="z") * Normal("p(x|z)", loc="z", scale=f64(0.5))
    values = p.sample(batch_size=5)
    assert set(values) == {"x", "z"}
    expected = mixture_on_a_line().log_likelihood({"x": values["z"]}) + p.factors[-1].dist.log_likelihood(values)
    torch.testing.assert_close(p.log_likelihood(values), expected)
    other = MixtureModel([Normal("p(y)", loc=f64(0.0), scale=1.0)], Categorical("p(j)", probs=f64([1.0])))
    assert (p * other).prob_text == "p(z,x,y)"


@pytest.mark.parametrize(
    "parts",
    [
        [Normal("p(z)", loc=f64([1.0, -2.0]), scale=f64([0.5, 2.0])), Normal("p(z)", loc=0.5, scale=f64([1.0, 0.3]))],
        [
            MultivariateNormal("p(z)", loc=f64([0.0, 1.0]), scale_tril=TRIL),
            MultivariateNormal("p(z)", loc=f64([1.0, 0.0]), covariance_matrix=2 * TRIL @ TRIL.T),
        ],
    ],
    ids=["one call", "one by one"],
)
def test_a_mixture_as_a_prior_is_integrated_out(parts):
    """p(x) = Σ π_j N(x; Aμ_j + b, A Σ_j Aᵀ + S), and the posteriors of z and of k."""
    decoder = linear([[0.7, -0.3], [0.2, 0.5], [1.0, 1.0]])
    p = Normal("p(x|z)", loc=decoder, scale=f64([0.5, 0.7, 0.2])) * Components(parts) * Categorical("p(k)", probs=f64([0.3, 0.7]))
    a, b, s = decoder.weight, decoder.bias, f64([0.5, 0.7, 0.2]).square().diag()
    x = torch.randn(4, 3, dtype=torch.float64)
    means = torch.stack([q.mean()[0] for q in parts])
    covariances = [q.variance()[0].diag() for q in parts] if isinstance(parts[0], Normal) else [TRIL @ TRIL.T, 2 * TRIL @ TRIL.T]
    table = torch.stack(
        [torch.distributions.MultivariateNormal(a @ m + b, a @ c @ a.T + s).log_prob(x) for m, c in zip(means, covariances)], -1
    ) + f64([0.3, 0.7]).log()  # fmt: skip
    marginal = p.marginalize_var(["z", "k"])
    torch.testing.assert_close(marginal.log_likelihood({"x": x}), table.logsumexp(-1))
    torch.testing.assert_close(p.marginalize_var("z").posterior("k").mean({"x": x}), table.softmax(-1))
    gains = [c @ a.T @ torch.linalg.inv(a @ c @ a.T + s) for c in covariances]
    found = p.posterior("z").mean({"x": x, "k": one_hot([0, 1, 1, 0], 2)})
    expected = [means[j] + gains[j] @ (x[i] - a @ means[j] - b) for i, j in enumerate((0, 1, 1, 0))]
    torch.testing.assert_close(found, torch.stack(expected))


def test_printing():
    assert str(MixtureModel(NORMALS, GATE)).splitlines()[1] == "  p(x|z,y) = Σ_k p(x|k,z)p(k|y)"


IMAGE = Normal("q(z|x)", loc=linear([[0.7], [-0.3]]), scale=f64([0.6, 1.4]))
LABEL = Normal("q(z|y)", loc=linear([[1.0], [-1.0]], 0.3), scale=0.8)
CONSTANT = Normal("r(z)", loc=f64([1.0, -0.5]), scale=0.7)
XY = {"x": f64([[0.3], [2.0], [-1.0]]), "y": f64([[0.5], [-1.0], [0.8]])}


def truth_of_mixture(parts, weights, values):
    return (torch.as_tensor(weights).double().log() + each_score(parts, values)).logsumexp(-1)


def test_mixture_of_normal_is_a_true_mixture():
    z = torch.randn(3, 2, dtype=torch.float64)
    parts = [IMAGE, LABEL, CONSTANT]
    for given_weights, weights in ((None, [1 / 3] * 3), ([0.2, 0.5, 0.3], [0.2, 0.5, 0.3])):
        q = MixtureOfNormal(parts, weights=given_weights)
        torch.testing.assert_close(q.log_likelihood({"z": z, **XY}), truth_of_mixture(parts, weights, {"z": z, **XY}))
        assert {*q.parameters()} == {*IMAGE.parameters(), *LABEL.parameters()}
    single = torch.stack([q.log_likelihood({"z": z[i : i + 1], **{k: v[i : i + 1] for k, v in XY.items()}}) for i in range(3)])
    torch.testing.assert_close(q.log_likelihood({"z": z, **XY}), single.squeeze(-1))


def test_weights_are_numbers_of_the_dtype_of_the_experts():
    experts = [Normal("q_a(z)", loc=f64([1.0]), scale=f64([0.7])), Normal("q_b(z)", loc=f64([-1.0]), scale=f64([0.7]))]
    values = {"z": f64([[0.3], [2.0]])}
    for weights in ([0.1, 0.9], (0.1, 0.9), f64([0.1, 0.9])):
        found = MixtureOfNormal(experts, weights=weights).log_likelihood(values)
        torch.testing.assert_close(found, truth_of_mixture(experts, f64([0.1, 0.9]), values), rtol=1e-14, atol=0)


def test_given_only_of_a_mixture_keeps_the_ratio_of_the_weights():
    z = torch.randn(3, 2, dtype=torch.float64)
    q = MixtureOfNormal([IMAGE, LABEL, CONSTANT], weights=f64([0.2, 0.5, 0.3]))
    subset = q.given_only("x")
    assert (subset.prob_text, subset.cond_var) == ("q(z|x)", ("x",))
    values = {"z": z, "x": XY["x"]}
    torch.testing.assert_close(subset.log_likelihood(values), truth_of_mixture([IMAGE, CONSTANT], [0.4, 0.6], values))
    assert q.given_only("y", "x") is q
    assert q.given_only("x", name="s").prob_text == "s(z|x)"
    loss = q.log_prob() + subset.log_prob()
    torch.testing.assert_close(loss.estimate({"z": z, **XY}), q.log_likelihood({"z": z, **XY}) + subset.log_likelihood(values))


def test_mixture_of_products_sums_over_the_subsets():
    z = torch.randn(3, 2, dtype=torch.float64)
    values = {"z": z, **XY}
    parts = [ProductOfNormal([IMAGE]), ProductOfNormal([LABEL]), ProductOfNormal([IMAGE, LABEL])]
    q = MixtureOfProducts([IMAGE, LABEL])
    torch.testing.assert_close(q.log_likelihood(values), truth_of_mixture(parts, [1 / 3] * 3, values))
    chosen = MixtureOfProducts([IMAGE, LABEL], subsets=[["y"], ["x", "y"]], weights=[0.3, 0.7])
    torch.testing.assert_close(chosen.log_likelihood(values), truth_of_mixture(parts[1:], [0.3, 0.7], values))
    for subset, kept in ((q.given_only("x"), parts[0]), (chosen.given_only("y"), parts[1])):
        torch.testing.assert_close(subset.log_likelihood(values), kept.log_likelihood(values))
    without = MixtureOfProducts([IMAGE, LABEL, CONSTANT], prior=None)
    parts = [ProductOfNormal([*e, CONSTANT], prior=None) for e in ([IMAGE], [LABEL], [IMAGE, LABEL])]
    torch.testing.assert_close(without.log_likelihood(values), truth_of_mixture(parts, [1 / 3] * 3, values))


def test_subsets_are_of_experts_not_of_variables():
    both = Normal("q(z|x,w)", loc=lambda x, w: x + w, scale=1.0)
    q = MixtureOfProducts([both, Normal("q(z|y)", loc="y", scale=1.0)])
    assert [e.cond_var for e in q.experts] == [("y",), ("x", "w"), ("x", "w", "y")]


def test_each_expert_of_a_mixture_of_products_runs_once():
    calls = []
    hook = IMAGE.given_networks.register_forward_hook(lambda *_: calls.append(1))
    p = Normal("p(x|z)", loc=linear([[1.0, 0.3]]), scale=1.0) * Normal("p(z)", loc=f64([0.0, 0.0]), scale=1.0)
    ELBO(p, MixtureOfProducts([IMAGE, LABEL]), num_samples=3).estimate(XY)
    hook.remove()
    assert len(calls) == 1


@pytest.mark.parametrize("num_samples", [1, 20])
def test_a_mixture_as_q_in_an_elbo(num_samples):
    """The bound is Σ_j π_j E_{q_j}[log p(x,z)/q(z|x)], here by quadrature; K draws of each expert estimate it."""
    experts = [Normal("q(z|x)", loc="x", scale=0.5), Normal("r(z|x)", loc=lambda x: -x, scale=1.0)]
    q = MixtureOfNormal(experts, weights=f64([0.3, 0.7]))
    p = Normal("p(x|z)", loc="z", scale=0.8) * Normal("p(z)", loc=f64([0.0]), scale=1.0)
    x, nodes = f64([[0.5], [-2.0]]), testing.line()
    truth = []
    for datum in x:
        values = {"x": datum.expand(len(nodes.points), 1), "z": nodes.points[:, None]}
        log_q = truth_of_mixture(experts, [0.3, 0.7], values)
        terms = torch.where(log_q > -700, log_q.exp() * (p.log_likelihood(values) - log_q), 0.0)
        truth.append((nodes.weights * terms).sum())
    loss = ELBO(p, q, num_samples=num_samples)
    assert str(loss) == "E_q(z|x)[log p(x,z)/q(z|x)]"
    with torch.no_grad():
        draws = torch.stack([loss.estimate({"x": x}) for _ in range(800 // num_samples)])
    error = draws.std(0) / len(draws) ** 0.5
    assert ((draws.mean(0) - torch.stack(truth)).abs() < 5 * error).all()


def test_gradients_through_a_mixture_as_q():
    """Of the bound, for the mean and the scale of each expert, against differences of the quadrature."""
    locs, scales = [nn.Parameter(f64([0.5])), nn.Parameter(f64([-1.0]))], [nn.Parameter(f64([0.7])), nn.Parameter(f64([1.2]))]
    experts = [Normal(f"q_{i}(z)", loc=m, scale=s) for i, (m, s) in enumerate(zip(locs, scales))]
    q, p, nodes = MixtureOfNormal(experts, weights=f64([0.3, 0.7])), Normal("p(z)", loc=f64([1.0]), scale=2.0), testing.line(n=801)
    z = {"z": nodes.points[:, None]}
    log_q = (f64([0.3, 0.7]).log() + each_score(experts, z)).logsumexp(-1)
    inside = log_q > -300
    truth = (nodes.weights * log_q.exp() * (p.log_likelihood(z) - log_q))[inside].sum()
    expected = torch.stack(torch.autograd.grad(truth, [*locs, *scales])).squeeze(-1)
    loss = -KullbackLeibler(q, p, num_samples=100).mean()
    found = torch.stack([torch.stack(torch.autograd.grad(loss.estimate(), [*locs, *scales])).squeeze(-1) for _ in range(100)])
    assert ((found.mean(0) - expected).abs() < 5 * found.std(0) / 10).all()


def test_renamed_mixtures():
    q = MixtureOfNormal([IMAGE, LABEL])
    other = q.replace_var(z="w", x="u")
    z = torch.randn(3, 2, dtype=torch.float64)
    torch.testing.assert_close(other.log_likelihood({"w": z, "u": XY["x"], "y": XY["y"]}), q.log_likelihood({"z": z, **XY}))
    assert other.sample({"u": XY["x"], "y": XY["y"]})["w"].shape == (3, 2)


@pytest.mark.parametrize("q", [MixtureOfNormal([IMAGE, LABEL, CONSTANT]), MixtureOfProducts([IMAGE, LABEL])], ids=["normal", "products"])
def test_copied_and_compiled(q):
    values = {"z": torch.randn(3, 2, dtype=torch.float64), **XY}
    expected = q.log_likelihood(values)
    twin = copy.deepcopy(q)
    assert torch.equal(twin.log_likelihood(values), expected)
    assert torch.equal(twin.given_only("x").log_likelihood(values), q.given_only("x").log_likelihood(values))
    assert torch.equal(pickle.loads(pickle.dumps(q)).log_likelihood(values), expected)
    with torch.no_grad():
        for w in twin.parameters():
            w.mul_(2)
    twin.load_state_dict(q.state_dict())
    assert torch.equal(twin.log_likelihood(values), expected)
    p = Normal("p(x|z)", loc=linear([[1.0, 0.3]]), scale=1.0) * Normal("p(z)", loc=f64([0.0, 0.0]), scale=1.0)
    loss = ELBO(p, q, num_samples=3).mean()
    torch.manual_seed(1)
    bound = loss.estimate(XY)
    loss.compile(fullgraph=True, backend="eager")
    torch.manual_seed(1)
    torch.testing.assert_close(loss.estimate(XY), bound)


def test_compiled_components(case):
    parts, p = case
    x = values_of(parts[0])
    probs = torch.full((len(parts),), 1 / len(parts), dtype=torch.float64)
    loss = Expectation(Categorical("w(k)", probs=probs), p.log_prob(), estimator="enumerate").mean()
    expected = loss.estimate({"x": x, **GIVEN})
    loss.compile(fullgraph=True, backend="eager")
    torch.testing.assert_close(loss.estimate({"x": x, **GIVEN}), expected)


HALVES = Categorical("p(k)", probs=f64([0.5, 0.5]))


@pytest.mark.parametrize(
    ("misuse", "error", "words"),
    [
        (lambda: Components([]), FormulaError, "Components takes at least one component; got none."),
        (lambda: Components([NORMALS[0], 3]), KindError, "Components takes distributions; got a int."),
        (lambda: Components([NORMALS[0], IMAGE]), FormulaError, "all components are over the same variable; p(x|z) and q(z|x) are not."),
        (lambda: Components([NORMALS[0] * Normal("p(z)", loc=0.0, scale=1.0)]), FormulaError, "each component is one conditional, like p(x|z); p(x,z) is a product or a marginal."),
        (lambda: Components(NORMALS, "z"), FormulaError, "p(x|z) knows z already; call the variable that chooses otherwise, index=..."),
        (lambda: Components([d.Deterministic("p(x|z)", x=NET)]), FormulaError, "p(x|z) is computed and has no density, so it cannot be a component."),
        (lambda: Components([Normal(loc=f64([0.0]), scale=1.0), Normal(loc=f64([0.0, 1.0]), scale=1.0)]), ShapeError, "p(x|k): the components must have the same features, but p(x) has (1,) and p(x) has (2,)."),
        (lambda: Components(NORMALS).sample({"k": one_hot([0], 2), "z": GIVEN["z"][:1]}), ShapeError, "p(x|k,z): k has features (2,), but there are 3 components."),
        (lambda: Components(NORMALS).sample({"k": f64([[0.5, 0.5, 0.0]]), "z": GIVEN["z"][:1]}), SupportError, "p(x|k,z): k must be one-hot"),
        (lambda: Components(NORMALS).sample({"k": one_hot([0], 3), "z": GIVEN["z"]}), ShapeError, "p(x|k,z): k has batch 1, z has batch 4"),
        (lambda: MixtureModel(NORMALS, HALVES), ShapeError, "MixtureModel: the prior p(k) has features (2,), but there are 3 components."),
        (lambda: MixtureModel(NORMALS, d.Bernoulli("p(k)", probs=f64([0.5, 0.5]))), KindError, "MixtureModel: the prior p(k) is a Bernoulli; it must be a Categorical."),
        (lambda: MixtureModel(NORMALS, WEIGHTS), KindError, "MixtureModel takes distributions; got a Tensor."),
        (lambda: MixtureOfNormal([IMAGE, d.Laplace("q(z|y)", loc="y", scale=1.0)]), KindError, "q(z|y) is a Laplace; an expert must be a Normal"),
        (lambda: MixtureOfNormal([IMAGE, LABEL], weights=[1.0]), ShapeError, "MixtureOfNormal: there are 2 experts, so weights is (2,); got (1,)."),
        (lambda: MixtureOfNormal([IMAGE, LABEL], weights=[0.5, 0.6]), SupportError, "q(k): probs must be"),
        (lambda: MixtureOfNormal([IMAGE, LABEL], weights=nn.Parameter(f64([0.5, 0.5]))), KindError, "MixtureOfNormal: the weights are constants; to train them, write MixtureModel("),
        (lambda: MixtureOfNormal([IMAGE, LABEL]).given_only("w"), FormulaError, "q(z|x,y): no expert depends on 'w'; they depend on x, y."),
        (lambda: MixtureOfProducts([IMAGE, LABEL], subsets=["x"]), KindError, "each of subsets is a list of variables; got 'x'. Write ['x']."),
        (lambda: MixtureOfProducts([IMAGE, LABEL], subsets=[["w"]]), FormulaError, "q(z|x,y): no expert depends on 'w'"),
    ],
)  # fmt: skip
def test_misuse(misuse, error, words):
    with pytest.raises(error, match=re.escape(words)):
        misuse()
