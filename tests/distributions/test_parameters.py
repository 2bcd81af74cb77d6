# ruff: noqa: E501
"""The ways to give parameters: a forward, constants, variables, networks, mixed; and the form that reads like the paper."""

import copy
import pickle
import re

import pytest
import torch
from torch import nn

import pixyz.distributions as d
from pixyz.core import DeferredChecks, FormulaError, IntractableError, KindError, ParameterError, ShapeError, SupportError
from pixyz.distributions import Bernoulli, Categorical, Deterministic, Family, Interval, Normal, from_torch
from pixyz.losses import ELBO


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 4)
        self.calls = 0

    def forward(self, inputs):
        self.calls += 1
        loc, scale = self.fc(inputs).chunk(2, -1)
        return {"loc": loc, "scale": scale.exp()}


class ByName(nn.Module):
    def forward(self, y, x):
        return x + 10 * y


X, Y, Z = torch.randn(5, 3), torch.randn(5, 3), torch.randn(5, 2)


def normal(loc, scale, z):
    return torch.distributions.Normal(loc, scale).log_prob(z).sum(-1)


def test_the_form_that_reads_like_the_paper():
    encoder = Encoder()
    q = Normal("q(z|x)", encoder)
    assert (q.name, q.var, q.cond_var) == ("q", ("z",), ("x",))
    given = encoder(X)
    torch.testing.assert_close(q.log_likelihood({"x": X, "z": Z}), normal(given["loc"], given["scale"], Z))
    prior = Normal("p_prior(z)", loc=0.0, scale=1.0, dim=2)
    assert str(prior * Bernoulli("p(x|z)", logits=nn.Linear(2, 3))).splitlines()[1].strip() == "p(z,x) = p_prior(z)p(x|z)"
    assert q.prob_text == "q(z|x)"


def test_a_given_network_runs_once_in_an_elbo():
    encoder, decoder = Encoder(), nn.Linear(2, 3)
    q, p, prior = Normal("q(z|x)", encoder), Bernoulli("p(x|z)", logits=decoder), Normal("p(z)", loc=0.0, scale=1.0, dim=2)
    loss = -ELBO(p * prior, q, num_samples=4).mean()
    loss.estimate({"x": (X > 0).float()}).backward()
    assert encoder.calls == 1
    assert all(w.grad is not None for w in (*encoder.parameters(), *decoder.parameters()))
    assert {k.split(".")[0] for k in loss.state_dict()} == {"q(z|x)", "p(x|z)", "p(z)"}


def test_a_variable_as_a_parameter():
    p = Normal(var=["z"], cond_var=["m"], loc="m", scale=2.0)
    m = torch.randn(5, 2)
    torch.testing.assert_close(p.log_likelihood({"z": Z, "m": m}), normal(m, 2.0, Z))
    renamed = p.replace_var(m="y", z="w")
    torch.testing.assert_close(renamed.log_likelihood({"w": Z, "y": m}), normal(m, 2.0, Z))
    chain = Normal("p(z|m)", loc="m", scale=1e-3) * Normal("p(m)", loc=torch.tensor([5.0, -5.0]), scale=1e-3)
    torch.testing.assert_close(chain.sample(batch_size=4)["z"], torch.tensor([5.0, -5.0]).expand(4, 2), atol=0.02, rtol=0)


def test_networks_by_name_and_by_position():
    p = Normal("p(z|x,y)", loc=ByName(), scale=lambda x: x.exp())
    torch.testing.assert_close(p.log_likelihood({"x": X, "y": Y, "z": Z.new_ones(5, 3)}), normal(X + 10 * Y, X.exp(), torch.ones(5, 3)))
    by_position = Normal("p(z|x,y)", loc=lambda a, b: a + 10 * b, scale=1.0)
    torch.testing.assert_close(by_position.get_params({"x": X, "y": Y})["loc"], X + 10 * Y)


def test_all_ways_mixed():
    class Mixed(d.StudentT):
        def forward(self, x):
            return {"loc": 2 * x}

    df = nn.Parameter(torch.tensor(5.0))
    p = (
        Mixed(var=["z"], cond_var=["x", "s"], scale="s", df=df)
        if False
        else Mixed(var=["z"], cond_var=["x"], scale=lambda x: x.exp(), df=df)
    )
    params = p.get_params({"x": X})
    torch.testing.assert_close(params["loc"], 2 * X)
    torch.testing.assert_close(params["scale"], X.exp())
    assert params["df"] is df
    assert df in {*p.parameters()}


def test_networks_see_samples_folded_into_the_batch():
    seen = []

    def loc(z):
        seen.append(z.shape)
        return z

    p, q = Normal("p(x|z)", loc=loc, scale=1.0), Normal("q(z|x)", loc="x", scale=1.0)
    p.log_prob().expectation(q, num_samples=7).estimate({"x": X})
    assert seen == [(35, 3)]


def test_copies_of_a_model_with_given_networks():
    q = Normal("q(z|x)", Encoder())
    expected = q.log_likelihood({"x": X, "z": Z})
    for twin in (copy.deepcopy(q), pickle.loads(pickle.dumps(q))):
        assert torch.equal(twin.log_likelihood({"x": X, "z": Z}), expected)
    other = Normal("q(z|x)", Encoder())
    other.load_state_dict(q.state_dict())
    assert torch.equal(other.log_likelihood({"x": X, "z": Z}), expected)


def test_given_networks_are_one_graph():
    loss = -ELBO(
        Bernoulli("p(x|z)", logits=nn.Linear(2, 3)) * Normal("p(z)", loc=0.0, scale=1.0, dim=2), Normal("q(z|x)", Encoder())
    ).mean()
    x = (X > 0).float()
    torch.manual_seed(0)
    expected = loss.estimate({"x": x})
    loss.compile(backend="eager", fullgraph=True)
    torch.manual_seed(0)
    torch.testing.assert_close(loss.estimate({"x": x}), expected)


def test_a_deterministic_with_a_network():
    f = Deterministic("f(h|z)", h=nn.Linear(2, 4))
    assert f.sample({"z": Z})["h"].shape == (5, 4)
    assert Deterministic("f(h|z)", lambda z: {"h": 2 * z}).mean({"z": Z}).equal(2 * Z)


def test_statistics_of_conditionals():
    encoder = Encoder()
    q = Normal("q(z|x)", encoder)
    given = encoder(X)
    torch.testing.assert_close(q.mean({"x": X}), given["loc"])
    torch.testing.assert_close(q.variance({"x": X}), given["scale"].square())
    torch.testing.assert_close(q.entropy({"x": X}), torch.distributions.Normal(given["loc"], given["scale"]).entropy().sum(-1))
    torch.testing.assert_close(q.replace_var(x="y").mode({"y": X}), given["loc"])
    assert Normal("p(z)", loc=0.0, scale=2.0, dim=3).entropy().shape == (1,)


def test_the_mean_of_a_model_variable_by_variable():
    decoder = nn.Linear(2, 3)
    p, q = Bernoulli("p(x|z)", logits=decoder), Normal("q(z|y)", loc=lambda y: y[:, :2], scale=1.0)
    means = (p * q).sample_mean({"y": Y})
    torch.testing.assert_close(means["z"], Y[:, :2])
    torch.testing.assert_close(means["x"], decoder(Y[:, :2]).sigmoid())


def test_any_class_of_torch_in_one_line():
    Fisher = from_torch(torch.distributions.FisherSnedecor)
    assert issubclass(Fisher, Family)
    p = Fisher("p(x|z)", df1=lambda z: z.exp(), df2=4.0)
    z, x = torch.zeros(5, 2), torch.rand(5, 2) + 0.5
    expected = torch.distributions.FisherSnedecor(torch.ones(5, 2), torch.full((5, 2), 4.0)).log_prob(x).sum(-1)
    torch.testing.assert_close(p.log_likelihood({"x": x, "z": z}), expected)
    OneHot = from_torch(torch.distributions.OneHotCategorical)
    assert OneHot.parametrisations == (("probs",), ("logits",))
    assert OneHot("p(y)", logits=torch.zeros(4)).sample(batch_size=3)["y"].shape == (3, 4)


class Moved(torch.distributions.Uniform):
    """A class whose parameters are limited by one another."""

    arg_constraints = {name: torch.distributions.constraints.dependent(is_discrete=False, event_dim=0) for name in ("low", "high")}


def test_limits_of_torch_that_depend_on_parameters_are_left_to_the_density():
    p = from_torch(Moved)("p(x)", low=torch.tensor([1.0]), high=3.0)
    torch.testing.assert_close(p.log_likelihood({"x": torch.full((5, 1), 2.0)}), -torch.full((5,), 2.0).log())
    with pytest.raises(SupportError, match=re.escape("low must be a number, but 1 of 1 are not")):
        from_torch(Moved)("p(x)", low=torch.nan, high=3.0)


def declared(**declarations):
    """A family of one's own, with as much as it declares."""
    return type("Squares", (Family,), {"log_density": staticmethod(lambda params, x: -((x - params["a"]) ** 2)), **declarations})


Squares = declared(parametrisations=(("a",),), supports={"a": Interval("a number")}, value_support=Interval("a number"))


@pytest.mark.parametrize(
    ("misuse", "error", "words"),
    [
        (lambda: Normal("q z|x", Encoder()), FormulaError, "'q z|x' does not read as a density; write a name and variables"),
        (lambda: Normal("q(z|x)", Encoder(), var=["z"]), FormulaError, "'q(z|x)' says what var, cond_var and name would; give either."),
        (lambda: Normal(Encoder()), KindError, 'The text of a distribution is a string like "q(z|x)"; got a Encoder.'),
        (lambda: Normal("q(z|x)", nn.Linear(3, 2)).sample({"x": X}), KindError, 'q(z|x): the network must return a dict of parameters, like {"loc": ..., "scale": ...}; it returned a tensor of shape (5, 2). Or give each parameter a network of its own: "q(z|x)", loc=network1, scale=network2.'),
        (lambda: Normal("q(z|x)", loc="y", scale=1.0), ParameterError, "q(z|x): loc='y' says that loc is the variable y, which is not in cond_var"),
        (lambda: Normal("q(z)", loc=Encoder(), scale=1.0), FormulaError, "q(z) depends on nothing, so loc cannot be a network"),
        (lambda: Normal("q(z|x)", Encoder(), scale=1.0).sample({"x": X}), ParameterError, "q(z|x): scale is given and returned by a network as well; drop one."),
        (lambda: Normal("q(z|x)", loc=nn.Linear(3, 2)), ParameterError, "q(z|x): a Normal takes loc and scale; got loc."),
        (lambda: Normal("q(z|x)", loc=nn.Linear(3, 2), skale=1.0), ParameterError, "a Normal has no parameter 'skale'; it takes loc and scale. Did you mean 'scale'?"),
        (lambda: Normal("q(z)", loc=0.0, scale=-1.0), SupportError, "q(z): scale must be positive, but 1 of 1 are not (from -1 to -1)."),
        (lambda: d.RelaxedBernoulli("q(z)", logits=0.0, temperature=float("inf")), SupportError, "q(z): temperature must be positive and finite, but 1 of 1 are not (from inf to inf)."),
        (lambda: d.RelaxedCategorical("q(z)", logits=torch.zeros(2, 3), temperature=torch.tensor([1.0, torch.inf])), SupportError, "q(z): temperature must be positive and finite, but 1 of 2 are not (from 1 to inf)."),
        (lambda: d.RelaxedBernoulli("q(z)", logits=0.0, temperature=0.0), SupportError, "q(z): temperature must be positive and finite, but 1 of 1 are not (from 0 to 0)."),
        (lambda: d.RelaxedBernoulli("q(z)", logits=0.0, temperature=float("nan")), SupportError, "q(z): temperature must be positive and finite, but 1 of 1 are not (none is a number, 1 nan)."),
        (lambda: d.DiscretizedLogistic("q(z)", loc=0.0, scale=1.0, levels=2.5), SupportError, "q(z): levels must be a whole number, at least 2, but 1 of 1 are not (from 2.5 to 2.5)."),
        (lambda: d.DiscretizedLogistic("q(z)", loc=0.0, scale=1.0, levels=1), SupportError, "q(z): levels must be a whole number, at least 2, but 1 of 1 are not (from 1 to 1)."),
        (lambda: d.DiscretizedLogistic("q(z)", loc=0.0, scale=1.0, levels=3).log_likelihood({"z": torch.tensor([1.5])}), SupportError, "z must be in [0, 1], but 1 of 1 are not (from 1.5 to 1.5)."),
        (lambda: d.Poisson("q(z)", rate=1.0).log_likelihood({"z": torch.tensor([torch.inf])}), SupportError, "z must be a whole number, at least 0, but 1 of 1 are not (from inf to inf)."),
        (lambda: d.Gamma("q(z)", concentration=1.0, rate=1.0).log_likelihood({"z": torch.tensor([-1.5])}), SupportError, "(from -1.5 to -1.5). Families that take such values: Cauchy, Gumbel, Laplace, Logistic, Normal, StudentT, Uniform, VonMises."),
        (lambda: Bernoulli("q(z)", probs=0.5).log_likelihood({"z": torch.tensor([0.5])}), SupportError, "(from 0.5 to 0.5). Families that take such values: Beta, ContinuousBernoulli, DiscretizedLogistic, DiscretizedLogisticMixture, Kumaraswamy, Normal, RelaxedBernoulli."),
        (lambda: d.Uniform("q(z)", low=1.0, high=torch.tensor([0.5, 2.0])), SupportError, "q(z): it must be that low < high, but for 1 of 2 it is not."),
        (lambda: d.Gamma("q(z)", concentration=1.0, rate=1.0, scale=1.0), ParameterError, "q(z): a Gamma takes concentration and rate or concentration and scale; got"),
        (lambda: d.Dirichlet("q(z)", concentration=1.0), ShapeError, "q(z): concentration has features (); one concentration is a tensor of rank 1."),
        (lambda: d.MultivariateNormal("q(z)", loc=torch.zeros(2), covariance_matrix=torch.eye(3)), ShapeError, "q(z): its parameters are of events of different lengths: loc (2,), covariance_matrix (3, 3)."),
        (lambda: d.MultivariateNormal("q(z)", loc=torch.zeros(2), covariance_matrix=-torch.eye(2)), SupportError, "q(z): covariance_matrix must be"),
        (lambda: d.Poisson("p(x)", rate=1.0).log_likelihood({"x": torch.tensor([0.5])}), SupportError, "x must be a whole number, at least 0, but 1 of 1 are not (from 0.5 to 0.5)."),
        (lambda: d.Normal("p(x)", loc=0.0, scale=1.0).log_likelihood({"x": torch.tensor([1])}), KindError, "x is torch.int64"),
        (lambda: d.Cauchy("p(x)", loc=0.0, scale=1.0).mean(), IntractableError, "p(x) (Cauchy) has no mean in closed form here; estimate it by p.sample(values, sample_shape=[1000])['x'].mean(0)."),
        (lambda: (Normal("p(x|z)", loc="z", scale=1.0) * Normal("p(z)", loc=0.0, scale=1.0)).entropy(), IntractableError, "p(x,z): the entropy of a joint is not known in closed form"),
        (lambda: Deterministic("d(h|x)", h=nn.Linear(3, 2)).variance({"x": X}), IntractableError, "d(h|x) (Deterministic) has no variance in closed form here; estimate it by d.sample(values, sample_shape=[1000])['h'].var(0)."),
        (lambda: d.ZeroInflated(d.Poisson("p(x)", rate=2.0), gate=0.5).mode(), IntractableError, "p(x) (ZeroInflated) has no mode in closed form here; estimate it by the best of p.sample("),
        (lambda: d.Truncated(Normal("p(x)", loc=0.0, scale=1.0), lower=0.5).mean(), IntractableError, "p(x) (Truncated) has no mean in closed form here; estimate it by p.sample("),
        (lambda: Squares("p(x)", a=0.0).sample(), IntractableError, "A family that can be sampled must write draw, rsample or icdf."),
        (lambda: declared(parametrisations=(("a", "b"),), supports={"a": Interval("a number")}, value_support=Interval("a number")), FormulaError, "Squares: supports must say where b lies, such as pixyz.distributions.Interval(...)."),
        (lambda: declared(parametrisations=(("a",),), supports={"a": Interval("a number")}), FormulaError, "Squares: value_support must say where the value lies, such as pixyz.distributions.Interval(...)."),
        (lambda: declared()("p(x)"), FormulaError, 'p(x): Squares declares no parametrisations, such as (("loc", "scale"),).'),
        (lambda: from_torch(Normal), KindError, "from_torch takes a class of torch.distributions"),
        (lambda: Categorical("p(y|x)", logits=nn.Linear(3, 4)).log_likelihood({"x": X, "y": torch.zeros(5, 4)}), SupportError, "y must be one-hot over the last dim"),
    ],
)  # fmt: skip
def test_misuse(misuse, error, words):
    with pytest.raises(error, match=re.escape(words)):
        misuse()


@pytest.mark.parametrize("family", [d.RelaxedBernoulli, d.RelaxedCategorical])
@pytest.mark.parametrize(("temperature", "is_bad"), [(torch.inf, True), (0.0, True), (torch.nan, True), (0.5, False)])
def test_a_temperature_of_a_network_is_checked_on_the_device_too(family, temperature, is_bad):
    q = family("q(y|t)", logits=torch.zeros(2, dtype=torch.float16), temperature=lambda t: t)
    shape = (5,) if family is d.RelaxedCategorical else (5, 2)
    values = {"y": torch.full((5, 2), 0.5, dtype=torch.float16), "t": torch.full(shape, temperature, dtype=torch.float16)}
    checks = DeferredChecks()
    q.log_prob().mean().estimate(values, validate=checks)
    assert bool(checks.failed().any()) is is_bad
    if is_bad:
        with pytest.raises(SupportError, match=re.escape("q(y|t): temperature must be positive and finite")):
            q.log_prob().mean().estimate(values)
