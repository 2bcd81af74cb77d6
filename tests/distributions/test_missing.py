"""Missing data: `p.log_prob(mask="m")` scores what was seen, whatever stands where nothing was."""

import re

import pytest
import torch
from distributions.test_laws import CASES
from torch import nn
from zoo import Encoder, Label, prior

import pixyz.distributions as d
from pixyz.core import FormulaError, KindError, PixyzError, ShapeError, SupportError

FEATURES, BATCH = 3, 4


def trained(params):
    """Constants as parameters to be trained, so that their gradients are seen; numbers of trials and levels stay."""
    whole = ("total_count", "levels")
    return {k: v if k in whole else nn.Parameter(torch.as_tensor(v, dtype=torch.float64).clone()) for k, v in params.items()}


def composed():
    """Families made of another: over one event, and over three."""
    n = lambda dim, **p: d.Normal(var=["x"], dim=dim, **p)  # noqa: E731
    c = lambda dim, **p: d.Poisson(var=["x"], dim=dim, **p)  # noqa: E731
    return {
        "Truncated": (lambda dim, **p: d.Truncated(n(dim, **p), lower=0.5, upper=2.0), {"loc": 0.3, "scale": 1.0}),
        "ZeroInflated": (lambda dim, **p: d.ZeroInflated(c(dim, **p), gate=0.3), {"rate": 2.0}),
        "ProductOfNormal": (lambda dim, **p: d.ProductOfNormal([n(dim, **p)]), {"loc": 0.3, "scale": 1.0}),
        "from_torch": (
            lambda dim, **p: d.from_torch(torch.distributions.Gamma)(var=["x"], dim=dim, **p),
            {"concentration": 5.0, "rate": 4.0},
        ),
        "from_torch, counts": (
            lambda dim, **p: d.from_torch(torch.distributions.Poisson)(var=["x"], dim=dim, **p),
            {"rate": 2.0},
        ),
    }


def family(make, params):
    """The same family over one event, and over three features."""
    event = make(var=["x"], **params).features_shape or make(var=["x"], **params).constant_features
    return make(var=["x"], **params), make(var=["x"], features_shape=(FEATURES, *event), **params)


def both(name):
    torch.set_default_dtype(torch.float64)
    if name in CASES:
        make, given, *_ = CASES[name]
        params = trained(given)
        return params, *family(make, params)
    make, given = composed()[name]
    params = trained(given)
    return params, make(1, **params), make(FEATURES, **params)


def gradients(loss, params):
    return torch.autograd.grad(loss.sum(), [p for p in params.values() if isinstance(p, nn.Parameter)], allow_unused=True)


@pytest.mark.parametrize("name", [*CASES, *composed()])
def test_what_was_seen_is_scored_and_what_was_not_is_never_felt(name):
    params, one, p = both(name)
    event = one.sample()["x"].shape[1:]
    with torch.no_grad():
        x = p.sample(batch_size=BATCH)["x"]
    m = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0], [1.0, 1.0, 1.0], [0.0, 1.0, 0.0]])
    shaped = m.reshape(*m.shape, *[1] * (x.ndim - 2))
    loss = p.log_prob(mask="m")
    assert str(loss) == f"log {p.name}(x[m])"
    for missing, seen in ((torch.nan, m), (-1e30, m), (torch.nan, m.bool())):
        events = [one.log_likelihood({"x": x[:, i].reshape(BATCH, *event)}) for i in range(FEATURES)]
        truth = (m * torch.stack(events, -1)).sum(-1)
        value = loss.estimate({"x": torch.where(shaped > 0, x, missing), "m": seen})
        torch.testing.assert_close(value, truth)
        for a, b in zip(gradients(value, params), gradients(truth, params)):
            assert (a is None) == (b is None)
            assert a is None or torch.allclose(a, b)


# A family for each support, whose values stand where nothing was seen: what a mask adds to a graph depends on nothing else.
OF_EACH_SUPPORT = {case[0].value_support: name for name, case in CASES.items()}.values()


@pytest.mark.parametrize("name", [*OF_EACH_SUPPORT, *composed()])
def test_a_masked_density_is_one_graph(name):
    params, _, p = both(name)
    with torch.no_grad():
        x = p.sample(batch_size=BATCH)["x"]
    x[2:] = torch.nan
    values = {"x": x, "m": torch.tensor([1.0, 1.0, 0.0, 0.0])}
    loss = p.log_prob(mask="m")
    expected = loss.estimate(values)
    torch._dynamo.reset()
    loss.compile(fullgraph=True, backend="eager")
    torch.testing.assert_close(loss.estimate(values), expected)


@pytest.mark.parametrize("name", ["Normal", "Bernoulli(logits)", "Categorical(probs)", "MultivariateNormal(covariance)"])
def test_a_mask_of_whole_data(name):
    params, _, p = both(name)
    with torch.no_grad():
        x = p.sample(batch_size=BATCH)["x"]
    m = torch.tensor([1.0, 0.0, 0.0, 1.0])
    truth = m * p.log_likelihood({"x": x})
    x[1:3] = torch.nan
    value = p.log_prob(mask="m").estimate({"x": x, "m": m})
    torch.testing.assert_close(value, truth)
    assert all(g is None or g.isfinite().all() for g in gradients(value, params))


def test_a_gradient_through_what_is_missing_is_zero():
    x = torch.tensor([[0.5, torch.nan]], requires_grad=True)
    p = d.Normal(var=["x"], loc=0.0, scale=1.0, dim=2)
    (gradient,) = torch.autograd.grad(p.log_prob(mask="m").estimate({"x": x, "m": torch.tensor([[1.0, 0.0]])}).sum(), x)
    assert torch.equal(gradient, torch.tensor([[-0.5, 0.0]]))


def test_a_mask_in_an_expectation_over_a_network():
    """E_q[log p(x[m]|z)], K draws, against the same network's parameters by hand; in one graph."""
    torch.set_default_dtype(torch.float64)
    net = nn.Linear(2, 3)
    p = d.Normal("p(x|z)", loc=net, scale=0.5)
    q = d.Normal("q(z)", loc=0.0, scale=1.0, dim=2)
    loss = p.log_prob(mask="m").expectation(q, num_samples=5)
    assert str(loss) == "E_q(z)[log p(x[m]|z)]"
    assert loss.latex() == r"\mathbb{E}_{q(z)}\left[\log p(x[m]|z)\right]"
    x, m = torch.randn(4, 3), (torch.rand(4, 3) > 0.5).double()
    holes = torch.where(m > 0, x, torch.nan)
    torch.manual_seed(1)
    value = loss.estimate({"x": holes, "m": m})
    torch.manual_seed(1)
    z = q.sample(batch_size=4, sample_shape=[5])["z"]
    truth = (m * torch.distributions.Normal(net(z), 0.5).log_prob(x)).sum(-1).mean(0)
    torch.testing.assert_close(value, truth)
    loss.compile(fullgraph=True, backend="eager")
    torch.manual_seed(1)
    torch.testing.assert_close(loss.estimate({"x": holes, "m": m}), truth)


def test_a_mask_that_is_drawn():
    """E over a Bernoulli mask of log p(x[m]) is the sum of the features' scores, each times its probability."""
    torch.set_default_dtype(torch.float64)
    p, rate = d.Normal(var=["x"], loc=0.0, scale=1.0, dim=3), torch.tensor([0.2, 0.5, 0.9])
    loss = p.log_prob(mask="m").expectation(d.Bernoulli(var=["m"], probs=rate, name="q"), estimator="enumerate")
    x = torch.randn(4, 3)
    torch.testing.assert_close(loss.estimate({"x": x}), (rate * torch.distributions.Normal(0.0, 1.0).log_prob(x)).sum(-1))


def test_the_conditional_of_a_computed_variable_takes_a_mask():
    z = torch.randn(4, 2)
    p = d.Normal("p(x|h)", loc="h", scale=1.0) * d.Deterministic("f(h|z)", h=nn.Tanh())
    x, m = torch.randn(4, 2), torch.tensor([[1.0, 0.0]] * 4)
    value = p.marginalize_var("h").log_prob(mask="m").estimate({"x": x, "z": z, "m": m})
    torch.testing.assert_close(value, torch.distributions.Normal(z.tanh(), 1.0).log_prob(x)[:, 0])


def test_a_mask_of_directions():
    """A direction is one event, whatever its length: it is seen as a whole."""
    torch.manual_seed(0)
    p = d.PowerSpherical("p(x)", loc=torch.nn.functional.normalize(torch.ones(2, 3), dim=-1), concentration=torch.tensor([2.0, 5.0]))
    x, m = p.sample(batch_size=4)["x"], torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [0.0, 0.0]])
    each = torch.stack(
        [d.PowerSpherical("p(x)", loc=p.loc[i], concentration=c).log_likelihood({"x": x[:, i]}) for i, c in enumerate((2.0, 5.0))],
        -1,
    )
    torch.testing.assert_close(p.log_likelihood({"x": x}), each.sum(-1))
    hidden = torch.where(m[..., None] == 1, x, torch.nan)
    torch.testing.assert_close(p.log_prob(mask="m").estimate({"x": hidden, "m": m}), (m * each).sum(-1))


def normal(dim=2):
    return d.Normal(var=["x"], loc=0.0, scale=1.0, dim=dim)


def masked(x, m, p=None):
    return lambda: (p or normal()).log_prob(mask="m").estimate({"x": x, "m": m})


X = torch.zeros(4, 2)
BAD = {
    "a product": (
        lambda: (Encoder() * prior().replace_var(z="w")).log_prob(mask="m"),
        FormulaError,
        "LogProb(p(z,w|x), mask='m'): a mask says what was seen of one conditional",
    ),
    "a marginal": (
        lambda: (d.Normal("p(x|z)", loc="z", scale=1.0) * normal().replace_var(x="z")).marginalize_var("z").log_prob(mask="m"),
        FormulaError,
        "this is a product or a marginal",
    ),
    "dependent features": (
        lambda: d.Autoregressive(var=["x"], dim=4, family=d.Bernoulli).log_prob(mask="m"),
        FormulaError,
        "is not known to be independent over the features of x",
    ),
    "the variable itself": (lambda: Label().log_prob(mask="y"), FormulaError, "y is a variable of p(y|x) itself"),
    "no name": (lambda: Label().log_prob(mask="1"), FormulaError, "'1' in mask is no name of a variable"),
    "a tensor": (lambda: Label().log_prob(mask=torch.ones(2)), KindError, "mask takes names; got tensor"),
    "features": (masked(X, torch.ones(4, 3)), ShapeError, "the mask m has features (3,), but x has events of shape (2,)"),
    "an event": (
        masked(torch.eye(3), torch.ones(3, 3), d.Categorical(var=["x"], probs=torch.ones(3) / 3)),
        ShapeError,
        "the mask m has features (3,), but x has events of shape ()",
    ),
    "batch": (masked(X, torch.ones(3, 2)), ShapeError, "log p(x) at m: x has batch 4, but the mask m has batch 3."),
    "values": (masked(X, torch.full((4, 2), 0.5)), SupportError, "the mask m must be 1 for what was seen and 0 for what was not"),
    "a value above 1": (masked(X, torch.full((4, 2), 2.0)), SupportError, "the mask m must be 1 for what was seen and 0 for what was not"),
    "a negative value": (
        masked(X, torch.full((4, 2), -1.0)),
        SupportError,
        "the mask m must be 1 for what was seen and 0 for what was not",
    ),
    "nan": (masked(X, torch.full((4, 2), torch.nan)), SupportError, "the mask m must be 1"),
    "a seen nan": (masked(X * torch.nan, torch.ones(4, 2)), SupportError, "x must be a number, but 8 of 8 are not"),
}


@pytest.mark.parametrize(("misuse", "error", "words"), BAD.values(), ids=BAD)
def test_bad_masks(misuse, error, words):
    with pytest.raises(error, match=re.escape(words)) as caught:
        misuse()
    assert isinstance(caught.value, PixyzError)
