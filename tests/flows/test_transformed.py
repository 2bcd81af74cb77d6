"""Flows as distributions: ordinary factors wherever a conditional may stand."""

import copy
import math
import pickle

import pytest
import torch
from torch import nn, optim

from pixyz.core import FormulaError, IntractableError, KindError, MissingVariableError, ShapeError, SupportError, seeded
from pixyz.distributions import Bernoulli, Categorical, Deterministic, MixtureModel, Normal
from pixyz.flows import (
    ActNorm,
    Bijection,
    Chain,
    Coupling,
    InverseTransformedDistribution,
    MaskedAutoregressive,
    Permutation,
    Reverse,
    SplineMap,
    TransformedDistribution,
)
from pixyz.losses import ELBO, IWAE, NLL, IterativeLoss, KullbackLeibler, StickingTheLanding
from pixyz.models import ML, VI, Model

BOTH = pytest.mark.parametrize("kind", [TransformedDistribution, InverseTransformedDistribution])


@pytest.fixture(autouse=True)
def in_float64():
    torch.set_default_dtype(torch.float64)


def noise(features=2, name="p", cond=()):
    return Normal(var=["e"], cond_var=list(cond), loc=0.0, scale=1.0, features_shape=[features], name=name)


def stirred(module):
    """Weights that are nowhere near the identity."""
    with torch.no_grad():
        for w in module.parameters():
            w.add_(0.3 * torch.randn_like(w))
    return module


def flow(features=2, context=0):
    layers = [
        Coupling(features, context=context, hidden=[8]),
        Reverse(),
        Coupling(features, map=SplineMap(4, 3.0), context=context, hidden=[8]),
    ]
    return stirred(Chain(layers))


class Counted(Bijection):
    """A bijection that counts its passes."""

    def __init__(self, of):
        super().__init__(of.in_shape, context=of.context)
        self.of = of
        self.pushed = self.pulled = 0

    def push(self, x, context):
        self.pushed += 1
        return self.of.push(x, context)

    def pull(self, y, context):
        self.pulled += 1
        return self.of.pull(y, context)


def grid(n=401, bound=9.0):
    line = torch.linspace(-bound, bound, n)
    points = torch.stack(torch.meshgrid(line, line, indexing="ij"), -1).reshape(-1, 2)
    return points, (line[1] - line[0]) ** 2


@BOTH
def test_the_density_integrates_to_one_and_is_that_of_the_draws(kind):
    p = kind(noise(), flow(), "p(x)")
    points, weight = grid()
    density = p.log_likelihood({"x": points}).exp() * weight
    assert density.sum().item() == pytest.approx(1.0, abs=1e-3)
    with seeded(0), torch.no_grad():
        x = p.sample(batch_size=200_000)["x"]
    for power in (1, 2):
        exact = (density[:, None] * points**power).sum(0)
        error = (x**power).std(0) / len(x) ** 0.5
        assert ((x**power).mean(0) - exact).abs().lt(5 * error + 1e-3).all()


@BOTH
def test_what_was_drawn_scores_as_what_is_given(kind):
    """From the noise of the draw in one evaluation, by the inverse in another."""
    q = kind(Normal("q_0(e|x)", loc=nn.Linear(3, 2), scale=0.5), flow(context=3), "q(z|x)")
    x = torch.randn(5, 3)
    with seeded(0):
        inside = -(q.log_prob()).expectation(q).estimate({"x": x})
    with seeded(0):
        z = q.sample({"x": x})["z"]
    torch.testing.assert_close(-inside, q.log_likelihood({"x": x, "z": z}), rtol=0, atol=1e-9)


def test_a_posterior_costs_one_pass_and_no_inverse():
    counted = Counted(flow(context=3))
    q = TransformedDistribution(noise(), counted, "q(z|x)")
    p = Normal("p(x|z)", loc=nn.Linear(2, 3), scale=1.0) * Normal("p(z)", loc=0.0, scale=1.0, features_shape=[2])
    ELBO(p, q, num_samples=7).mean().estimate({"x": torch.randn(5, 3)}).backward()
    assert (counted.pushed, counted.pulled) == (1, 0)
    loss = ELBO(p, q).mean()
    loss.compile(fullgraph=True, backend="eager")
    with seeded(3):
        compiled = loss.estimate({"x": torch.ones(5, 3)})
    with seeded(3):
        assert compiled.item() == pytest.approx(loss.forward({"x": torch.ones(5, 3)}).item(), abs=1e-12)


def test_the_gradient_of_a_bound_is_that_by_hand():
    """A flow posterior under a conjugate model, the formula written out."""
    f = flow()
    q = TransformedDistribution(noise(), f, "q(z)")
    p = Normal("p(x|z)", loc="z", scale=1.0) * Normal("p(z)", loc=0.0, scale=2.0, features_shape=[2])
    x = torch.randn(6, 2)
    with seeded(5):
        ours = ELBO(p, q, num_samples=3).mean().estimate({"x": x})
    gradients = torch.autograd.grad(ours, [*f.parameters()])
    with seeded(5):
        e = torch.randn(3, 6, 2)
    z, log_det = f.push(e.reshape(-1, 2), None)
    normal = torch.distributions.Normal
    log_p = normal(z, 1.0).log_prob(x.repeat(3, 1)).sum(-1) + normal(0.0, 2.0).log_prob(z).sum(-1)
    log_q = normal(0.0, 1.0).log_prob(e.reshape(-1, 2)).sum(-1) - log_det
    by_hand = (log_p - log_q).mean()
    assert ours.item() == pytest.approx(by_hand.item(), abs=1e-12)
    for a, b in zip(gradients, torch.autograd.grad(by_hand, [*f.parameters()])):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)


def test_a_learned_prior_and_aggregates():
    prior = InverseTransformedDistribution(noise(), flow(), "p(z)")
    p = Bernoulli("p(x|z)", logits=nn.Linear(2, 4)) * prior
    q = Normal("q(z|x)", loc=nn.Linear(4, 2), scale=0.7)
    assert "p(x,z) = p(x|z)p(z)" in str(p)
    x = torch.rand(5, 4).round()
    for loss in (ELBO(p, q, num_samples=2), IWAE(p, q, num_samples=5), StickingTheLanding(p, q), KullbackLeibler(q, prior)):
        value = loss.mean().estimate({"x": x})
        value.backward()
        assert value.isfinite()
        assert all(w.grad is not None for w in prior.parameters())
        prior.zero_grad()


def test_sticking_the_landing_with_a_flow_posterior_has_the_value_of_the_bound():
    q = TransformedDistribution(Normal("q_0(e|x)", loc=nn.Linear(4, 2), scale=0.5), flow(context=4), "q(z|x)")
    p = Bernoulli("p(x|z)", logits=nn.Linear(2, 4)) * Normal("p(z)", loc=0.0, scale=1.0, features_shape=[2])
    x = torch.rand(5, 4).round()
    with seeded(0):
        a = StickingTheLanding(p, q).estimate({"x": x})
    with seeded(0):
        b = ELBO(p, q).estimate({"x": x})
    torch.testing.assert_close(a, b, rtol=0, atol=1e-9)


def test_renaming_products_and_conditions():
    p = InverseTransformedDistribution(noise(), flow(context=3), "p(x|y)")
    renamed = p.replace_var(x="w", y="v")
    w, v = torch.randn(4, 2), torch.randn(4, 3)
    assert torch.equal(renamed.log_likelihood({"w": w, "v": v}), p.log_likelihood({"x": w, "y": v}))
    joint = p * Categorical("p(y)", probs=torch.tensor([0.2, 0.3, 0.5]))
    y = torch.eye(3)[torch.tensor([0, 1, 2, 2])]
    expected = p.log_likelihood({"x": w, "y": y}) + torch.tensor([0.2, 0.3, 0.5, 0.5]).log()
    torch.testing.assert_close(joint.log_likelihood({"x": w, "y": y}), expected)
    marginal = joint.marginalize_var("y")
    each = torch.stack([p.log_likelihood({"x": w, "y": e.expand(4, 3)}) for e in torch.eye(3)], -1)
    torch.testing.assert_close(marginal.log_likelihood({"x": w}), (each + torch.tensor([0.2, 0.3, 0.5]).log()).logsumexp(-1))
    assert joint.sample(batch_size=7, sample_shape=[5])["x"].shape == (5, 7, 2)
    fixed = p.condition(y=torch.tensor([0.0, 1.0, 0.0]))
    torch.testing.assert_close(fixed.log_likelihood({"x": w}), p.log_likelihood({"x": w, "y": torch.eye(3)[1].expand(4, 3)}))


def test_sample_dims_are_folded():
    p = TransformedDistribution(noise(), flow(context=3), "p(x|y)")
    y = torch.randn(4, 3)
    x = p.sample({"y": y}, sample_shape=[5])["x"]
    scored = p.log_likelihood({"x": x, "y": y}, sample_dims={"x": 1})
    assert scored.shape == (5, 4)
    for i in range(5):
        torch.testing.assert_close(scored[i], p.log_likelihood({"x": x[i], "y": y}))


def test_several_variables_are_one_context():
    p = TransformedDistribution(noise(), flow(context=5), "p(x|y,h)")
    y, h = torch.randn(4, 2), torch.randn(4, 3)
    base = TransformedDistribution(noise(), p.generator, "p(x|c)")
    x = torch.randn(4, 2)
    assert torch.equal(p.log_likelihood({"x": x, "y": y, "h": h}), base.log_likelihood({"x": x, "c": torch.cat([y, h], 1)}))


def test_mixtures_of_flows_and_flows_of_flows():
    parts = [InverseTransformedDistribution(noise(), flow(), "p(x)") for _ in range(2)]
    mixed = MixtureModel(parts, Categorical("p(k)", probs=torch.tensor([0.3, 0.7])))
    x = torch.randn(6, 2)
    each = torch.stack([p.log_likelihood({"x": x}) for p in parts], -1) + torch.tensor([0.3, 0.7]).log()
    torch.testing.assert_close(mixed.log_likelihood({"x": x}), each.logsumexp(-1))
    inner = TransformedDistribution(noise(), flow(), "p(e)")
    outer = TransformedDistribution(inner, flow(), "p(x)")
    whole = TransformedDistribution(noise(), inner.generator >> outer.generator, "p(x)")
    torch.testing.assert_close(outer.log_likelihood({"x": x}), whole.log_likelihood({"x": x}))


def test_a_flow_in_a_sequence():
    step = TransformedDistribution(Normal("p_0(e|z)", loc="z", scale=0.5), flow(context=2), "p(z_next|z)")
    emission = Normal("p(x|z_next)", loc=nn.Linear(2, 3), scale=1.0)
    q = TransformedDistribution(noise(), flow(context=5), "q(z_next|x,z)")
    loss = IterativeLoss(ELBO(emission * step, q), max_iter=4, series_var=["x"], update_value={"z_next": "z"}).mean()
    value = loss.estimate({"x": torch.randn(6, 4, 3), "z": torch.zeros(6, 2)})
    value.backward()
    assert value.isfinite()
    assert all(w.grad is not None and w.grad.isfinite().all() for w in (*step.parameters(), *q.parameters()))


def test_copies_and_saved_weights():
    p = InverseTransformedDistribution(noise(4), stirred(Chain([ActNorm(4), Coupling(4), Permutation(4), Coupling(4)])), "p(x)")
    p.initialize({"x": torch.randn(100, 4) * 3 + 1})
    x = torch.randn(5, 4)
    other = InverseTransformedDistribution(noise(4), Chain([ActNorm(4), Coupling(4), Permutation(4), Coupling(4)]), "p(x)")
    other.load_state_dict(p.state_dict())
    for q in (copy.deepcopy(p), pickle.loads(pickle.dumps(p)), other):
        assert torch.equal(q.log_likelihood({"x": x}), p.log_likelihood({"x": x}))
        assert not q.needs_start
    assert "p(x).flow.layers.1.network.net.0.weight" in NLL(p).state_dict()


@BOTH
def test_what_starts_from_data_is_started_by_the_first_step(kind, tmp_path):
    def build():
        torch.manual_seed(0)
        return ML(kind(noise(), Chain([ActNorm(2), Coupling(2)]), "p(x)"), optimizer=optim.SGD, optimizer_params={"lr": 0.0})

    x = {"x": torch.randn(500, 2) * torch.tensor([2.0, 5.0]) + 3}
    model, other = build(), build()
    assert model.p.needs_start
    model.train(x)
    assert not model.p.needs_start
    z = model.p.generator.inverse_and_log_det(x["x"])[0]
    torch.testing.assert_close(z.std(0, correction=0), torch.ones(2), rtol=0.05, atol=0)
    model.save(tmp_path / "a")
    other.load(tmp_path / "a")
    model.train({"x": x["x"] * 10})
    other.train({"x": x["x"] * 10})
    for a, b in zip(model.loss.state_dict().values(), other.loss.state_dict().values()):
        assert torch.equal(a, b)
    third = build()
    third.fit(x, epochs=1, batch_size=500)
    for a, b in zip(model.loss.state_dict().values(), third.loss.state_dict().values()):
        torch.testing.assert_close(a, b)


@BOTH
@pytest.mark.parametrize("outer", [TransformedDistribution, InverseTransformedDistribution])
def test_the_noise_of_a_flow_may_be_a_flow(kind, outer):
    """It is the flow of both bijections, and starts as that does: each from what the one outside of it makes of the data."""

    def layers():
        torch.manual_seed(0)
        return Chain([ActNorm(2), stirred(Coupling(2))]), Chain([Coupling(2, swap=True), ActNorm(2)])

    first, second = layers()
    p = outer(kind(noise(), first, "p(y)"), second, "p(x)")
    first, second = layers()
    whole = [f if each is TransformedDistribution else f.inverse for each, f in ((kind, first), (outer, second))]
    one = TransformedDistribution(noise(), Chain(whole))
    x = torch.randn(100, 2) * 3 + 1
    assert p.needs_start
    p.initialize({"x": x})
    one.initialize({"x": x})
    assert not p.needs_start
    torch.testing.assert_close(p.log_likelihood({"x": x}), one.log_likelihood({"x": x}))
    started = outer(kind(noise(), layers()[0], "p(y)"), layers()[1], "p(x)")
    started.initialize(batch_size=100)
    assert not started.needs_start
    assert started.sample(batch_size=3)["x"].isfinite().all()


def normed(context=0):
    """Layers, the last of which gives what it starts from mean 0 and variance 1."""
    return Chain([Coupling(2, context=context), ActNorm(2)])


def is_standard(t, tolerance=1e-6):
    t = t.detach().flatten(0, -2)
    return bool(t.mean(0).abs().max() < tolerance and (t.std(0, correction=0) - 1).abs().max() < tolerance)


def test_a_posterior_starts_from_its_noise_and_a_prior_from_the_posterior():
    q = TransformedDistribution(Normal("q_0(e|x)", loc=nn.Linear(4, 2), scale=3.0), Chain([Coupling(2), ActNorm(2)]), "q(z|x)")
    prior = InverseTransformedDistribution(noise(), Chain([ActNorm(2), Coupling(2)]), "p(z)")
    p = Bernoulli("p(x|z)", logits=nn.Linear(2, 4)) * prior
    model = VI(p, q, num_samples=5)
    x = torch.rand(200, 4).round()
    assert model.needs_start
    assert model.loss.needs_start
    with seeded(0):
        model.initialize({"x": x})
    assert not model.loss.needs_start
    with seeded(0), torch.no_grad():
        z = q.sample({"x": x}, sample_shape=[5])["z"]
    assert is_standard(z)
    norm = prior.generator.inverse.layers[0]
    assert is_standard(norm.forward_and_log_det(z.flatten(0, 1))[0])
    model.train({"x": x})


def test_an_iaf_posterior_starts_and_costs_one_pass():
    flow = Counted(MaskedAutoregressive(2, context=4, hidden=[8])) >> ActNorm(2)
    q = TransformedDistribution(noise(), flow, "q(z|x)")
    p = Bernoulli("p(x|z)", logits=nn.Linear(2, 4)) * Normal("p(z)", loc=0.0, scale=1.0, features_shape=[2])
    loss = ELBO(p, q).mean()
    with seeded(0):
        loss.initialize({"x": torch.rand(50, 4).round()})
    assert not q.needs_start
    counted = flow.layers[0]
    counted.pushed = counted.pulled = 0
    loss.estimate({"x": torch.rand(50, 4).round()})
    assert (counted.pushed, counted.pulled) == (1, 0)


def test_a_flow_starts_under_other_names():
    x, y = torch.randn(60, 2) * 4 - 1, torch.randn(60, 3)
    for start in ("a distribution", "a product", "a loss", "a model"):
        p = InverseTransformedDistribution(noise(), Chain([ActNorm(2), Coupling(2, context=3)]), "p(x|y)")
        renamed = p.replace_var(x="w", y="v")
        values = {"w": x, "v": y}
        if start == "a distribution":
            renamed.initialize(values)
        elif start == "a product":
            (renamed * Normal("p(v)", loc=0.0, scale=1.0, features_shape=[3])).initialize(values)
        elif start == "a loss":
            NLL(renamed).mean().initialize(values)
        else:
            ML(renamed).train(values)
        assert not p.needs_start
        if start != "a model":
            assert is_standard(p.generator.inverse.layers[0].forward_and_log_det(x)[0])


def test_flows_in_mixtures_start():
    parts = [InverseTransformedDistribution(noise(), ActNorm(2), "p(x)") for _ in range(2)]
    loss = NLL(MixtureModel(parts, Categorical("p(k)", probs=torch.tensor([0.3, 0.7])))).mean()
    x = torch.randn(60, 2) * 4 - 1
    assert loss.needs_start
    loss.initialize({"x": x})
    assert not loss.needs_start
    assert all(is_standard(p.generator.inverse.forward_and_log_det(x)[0]) for p in parts)


def test_what_has_no_value_is_drawn():
    prior = TransformedDistribution(Normal(var=["e"], loc=3.0, scale=2.0, features_shape=[2]), normed(), "p(z)")
    joint = Normal("p(x|z)", loc=nn.Linear(2, 4), scale=1.0) * prior
    joint.initialize({"x": torch.randn(50, 4)})
    assert not joint.needs_start
    hidden = InverseTransformedDistribution(noise(), Chain([ActNorm(2), Coupling(2, context=2)]), "p(x|h)")
    loss = hidden.log_prob().expectation(Normal("q(h)", loc=0.0, scale=1.0, features_shape=[2]))
    Model(-loss.mean()).train({"x": torch.randn(5, 2)})
    assert not hidden.needs_start
    alone = TransformedDistribution(noise(), normed(), "p(z)")
    with pytest.raises(ShapeError, match="needs at least 2; the batch is 1"):
        alone.initialize()
    alone.initialize(batch_size=100)
    assert not alone.needs_start


def test_a_start_is_no_evaluation_that_counts():
    """It has no gradient, evaluations never start anything, and what has started is left alone."""
    p = InverseTransformedDistribution(noise(), Chain([ActNorm(2), Coupling(2, context=3)]), "p(x|y)")
    x, y = torch.randn(60, 2) * 4 - 1, torch.randn(60, 3)
    NLL(p).mean().estimate({"x": x, "y": y}).backward()
    p.sample({"y": y})
    assert p.needs_start
    with pytest.raises(MissingVariableError, match=r"p\(x\|y\)\.initialize needs y; got \{'x'\}"):
        p.initialize({"x": x})
    p.zero_grad()
    p.initialize({"x": x, "y": y})
    before = {name: t.clone() for name, t in p.state_dict().items()}
    p.initialize({"x": x * 9, "y": y})
    NLL(p).initialize({"x": x * 9, "y": y})
    assert all(torch.equal(t, before[name]) for name, t in p.state_dict().items())
    assert all(w.grad is None for w in p.parameters())


def test_maximum_likelihood_of_a_known_affine_map():
    """The linear flow of one layer fits a Gaussian: its likelihood is that of the fitted Gaussian."""
    x = torch.randn(400, 2) @ torch.tensor([[2.0, 1.0], [0.0, 0.5]]) + torch.tensor([1.0, -1.0])
    p = InverseTransformedDistribution(noise(), Chain([ActNorm(2), Coupling(2, hidden=[]), Reverse(), Coupling(2, hidden=[])]), "p(x)")
    loss = NLL(p).mean()
    p.initialize({"x": x})
    optimizer = optim.LBFGS(p.parameters(), max_iter=300, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        value = loss.estimate({"x": x})
        value.backward()
        return value

    optimizer.step(closure)
    covariance = torch.cov(x.T, correction=0)
    entropy = 0.5 * torch.logdet(2 * math.pi * math.e * covariance)
    assert loss.estimate({"x": x}).item() <= entropy.item() + 1e-6


class OneWay(Bijection):
    pull_passes = None

    def push(self, x, context):
        return 2 * x, x.new_full((), 2 * math.log(2))


def test_a_flow_without_an_inverse_says_which_way_it_goes():
    p = TransformedDistribution(noise(), OneWay(2), "p(x)")
    assert p.sample(batch_size=3)["x"].shape == (3, 2)
    with pytest.raises(IntractableError, match=r"p\(x\): the OneWay has no inverse in closed form; only its forward_and_log_det is known"):
        p.log_likelihood({"x": torch.zeros(3, 2)})
    assert (-p.log_prob()).expectation(p).mean().estimate(batch_size=5).isfinite()
    q = InverseTransformedDistribution(noise(), OneWay(2), "q(x)")
    assert q.log_likelihood({"x": torch.zeros(3, 2)}).shape == (3,)
    with pytest.raises(IntractableError, match=r"q\(x\): the OneWay has no inverse in closed form"):
        q.sample(batch_size=3)


BAD = {
    "no base": (lambda: TransformedDistribution(3, flow()), KindError, "takes the distribution of the noise; got a int"),
    "no flow": (lambda: TransformedDistribution(noise(), nn.Linear(2, 2)), KindError, "takes a bijection, .* got a Linear"),
    "a product": (
        lambda: TransformedDistribution(noise() * Normal("p(f)", loc=0.0, scale=1.0, dim=2), flow()),
        FormulaError,
        r"the noise is one conditional of one variable with a density; p\(e,f\) is not",
    ),
    "computed": (
        lambda: TransformedDistribution(Deterministic("f(e|x)", e=nn.Linear(2, 2)), flow()),
        FormulaError,
        r"f\(e\|x\) is not",
    ),
    "two variables": (lambda: TransformedDistribution(noise(), flow(), "p(x,y)"), FormulaError, r"p\(x,y\): a flow has one variable"),
    "unused": (
        lambda: TransformedDistribution(noise(), flow(), "p(x|y)"),
        FormulaError,
        r"p\(x\|y\): nothing depends on y: the Chain takes no context\. Make it with context=",
    ),
    "no condition": (
        lambda: TransformedDistribution(noise(), flow(context=3), "p(x)"),
        FormulaError,
        r"p\(x\): the Chain takes a context of 3 features; write the variables that it is behind the bar",
    ),
    "the noise's": (
        lambda: TransformedDistribution(Normal("q_0(e|h)", loc="h", scale=1.0), flow(context=3), "q(z|x)"),
        FormulaError,
        r"q\(z\|x\): its noise q_0\(e\|h\) depends on h; write h behind the bar",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_flow(case):
    make, error, words = BAD[case]
    with pytest.raises(error, match=words):
        make()


def test_values_that_do_not_fit():
    p = InverseTransformedDistribution(noise(), flow(context=3), "p(x|y)")
    x, y = torch.randn(4, 2), torch.randn(4, 3)
    with pytest.raises(ShapeError, match=r"p\(x\|y\): x has features \(3,\), but the Chain takes features \(2,\)"):
        p.log_likelihood({"x": y, "y": y})
    with pytest.raises(ShapeError, match=r"p\(x\|y\): the context has features \(2,\), but the Chain takes \(3,\)"):
        p.log_likelihood({"x": x, "y": x})
    with pytest.raises(ShapeError, match=r"x has batch 4, y has batch 2"):
        p.log_likelihood({"x": x, "y": y[:2]})
    with pytest.raises(KindError, match=r"p\(x\|y\): x is torch.float32 on cpu, the parameters of the Chain are torch.float64"):
        p.log_likelihood({"x": x.float(), "y": y.float()})
    with pytest.raises(SupportError, match=r"p\(x\|y\): x, which the Chain takes, must be a number, but 1 of 8 are not"):
        p.log_likelihood({"x": torch.where(torch.eye(4, 2) * torch.tensor([0, 1.0]) > 0, torch.nan, x), "y": y})
    with pytest.raises(MissingVariableError, match="needs y"):
        p.sample({"x": x})
