"""Joints that are conditioned on values, divided by a marginal, or estimated by importance sampling."""

import pytest
import torch
from graphical import Prior, linear_pair, one_hot, switching
from torch import nn

from pixyz.core import FormulaError, IntractableError
from pixyz.distributions import Bernoulli, Laplace, Normal

pytestmark = pytest.mark.usefixtures("float64")


def test_dividing_by_a_marginal_or_a_factor():
    see, prior = linear_pair()
    p = see * prior
    assert (p / prior).factors == see.factors
    assert (p / see).factors == prior.factors
    x = torch.randn(4, 3)
    q = p / p.marginalize_var("z")
    assert str(q.formula) == "p(z|x) = p(x,z)/p(x)"
    torch.testing.assert_close(q.mean({"x": x}), p.posterior("z").mean({"x": x}))
    with pytest.raises(FormulaError, match=r"p\(x,z\)/q\(z\) is a distribution only where .* marginalize_var.*LogRatio"):
        p / Normal("q(z)", loc=0.0, scale=1.0, dim=2)


def test_conditioning_on_a_number():
    """Both are numbers, and the precisions add."""
    p = Normal("p(x|z)", loc="z", scale=0.5) * Normal("p(z)", loc=1.0, scale=2.0)
    q = p.condition(x=3.0)
    variance = 1 / (1 / 0.25 + 1 / 4)
    mean = torch.tensor([variance * (3.0 / 0.25 + 1.0 / 4)])
    torch.testing.assert_close(q.mean(), mean)
    z = torch.randn(4)
    torch.testing.assert_close(q.log_likelihood({"z": z}), torch.distributions.Normal(mean, variance**0.5).log_prob(z))
    assert q.sample(batch_size=2, sample_shape=[3])["z"].shape == (3, 2)


def test_what_is_hidden_is_no_divisor():
    """p(x) = ∫p(x|z)p(z)dz is not p(z) times something."""
    see, prior = linear_pair()
    other = Normal("p(y|z)", loc=nn.Linear(2, 1), scale=1.0)
    p = (see * other * prior).marginalize_var("z")
    for q in (prior, see):
        with pytest.raises(FormulaError, match="is a distribution only where"):
            p / q


def test_a_posterior_of_several_variables_is_taken_apart():
    """Conditioned twice, marginalised after it was conditioned, a posterior of a posterior, renamed: all as if done at once."""
    torch.manual_seed(10)
    see, other = Normal("p(x|z)", loc=nn.Linear(2, 3), scale=0.7), Normal("p(y|z)", loc=nn.Linear(2, 2), scale=1.0)
    p = see * other * Normal("p(z|k)", loc=nn.Linear(3, 2), scale=0.5) * Prior("k", 3)
    x, y, z, k = torch.randn(1, 3), torch.randn(1, 2), torch.randn(1, 2), one_hot([1], 3)
    values = {"x": x, "y": y, "z": z, "k": k}
    once, twice = p.condition(x=x[0], y=y[0]), p.condition(x=x[0]).condition(y=y[0])
    assert twice.prob_text == once.prob_text
    assert twice.var == once.var == ("z", "k")
    torch.testing.assert_close(twice.log_likelihood(values), once.log_likelihood(values))
    of_k, of_z = p.posterior("k").mean(values), p.marginalize_var("k").posterior("z").mean(values)
    torch.testing.assert_close(twice.condition(z=z[0]).mean(), of_k)
    torch.testing.assert_close(once.posterior("k").mean({"z": z}), of_k)
    torch.testing.assert_close(twice.marginalize_var("k").mean(), of_z)
    both = p.posterior(["z", "k"]).replace_var(x="k", k="x", y="z", z="y")
    renamed = {"k": x, "z": y, "y": z}
    torch.testing.assert_close(both.marginalize_var("x").mean(renamed), of_z)
    torch.testing.assert_close(both.posterior("x").mean(renamed), of_k)
    # What depends on it keeps it whole where it must, and does not where it need not.
    below = p.posterior(["z", "k"]) * Normal("p(u|z)", loc=nn.Linear(2, 1), scale=1.0)
    u = {**values, "u": torch.zeros(1, 1)}
    truth = p.marginalize_var("k").posterior("z").log_likelihood(values) + below.factors[1].dist.log_likelihood(u)
    torch.testing.assert_close(below.marginalize_var("k").log_likelihood(u), truth)
    with pytest.raises(IntractableError, match="neither finitely many values"):
        below.marginalize_var("z").log_prob()


def test_conditioning_on_values():
    see, prior = linear_pair()
    p = see * prior
    x = torch.randn(3)
    q = p.condition(x=x)
    z = torch.randn(5, 2)
    torch.testing.assert_close(q.log_likelihood({"z": z}), p.posterior("z").log_likelihood({"z": z, "x": x.expand(5, 3)}))
    torch.testing.assert_close(q.mean(), p.posterior("z").mean({"x": x[None]}))
    forward = p.condition(z=z[0])
    assert forward.prob_text == f"p(x|z=[{z[0, 0].item():.6g},{z[0, 1].item():.6g}])"
    torch.testing.assert_close(forward.mean()[0], see.mean({"z": z[:1]})[0])
    assert forward.sample(batch_size=6)["x"].shape == (6, 3)
    assert set(forward.sample(batch_size=6)) == {"x"}
    # Two values of one variable in one formula.
    gap = p.condition(z=z[0]).log_prob() - p.condition(z=z[1]).log_prob()
    xs = torch.randn(4, 3)
    truth = see.log_likelihood({"x": xs, "z": z[:1].expand(4, 2)}) - see.log_likelihood({"x": xs, "z": z[1:2].expand(4, 2)})
    torch.testing.assert_close(gap.estimate({"x": xs}), truth)
    assert str(Normal("p(x|y)", loc="y", scale=1.0).condition(y=2).formula) == "p(x|y=2)"
    joint = Normal("p(x|z,y)", loc=lambda z, y: z + y, scale=1.0) * Normal("p(z|y)", loc="y", scale=1.0)
    assert str(joint.condition(y=1.5).formula) == "p(x,z|y=1.5) = p(x|z,y=1.5)p(z|y=1.5)"


def test_a_posterior_asks_only_for_what_tells_it_something():
    """What is independent of z, given what is given, may be as intractable as it likes."""
    see, prior = linear_pair()
    apart = (Normal("p(v|w)", loc=nn.Linear(2, 2), scale=1.0) * Laplace("p(w)", loc=0.0, scale=1.0, dim=2)).marginalize_var("w")
    x = torch.randn(4, 3)
    q = (see * prior * apart).posterior("z")
    assert q.prob_text == "p(z|x)"
    torch.testing.assert_close(q.mean({"x": x}), (see * prior).posterior("z").mean({"x": x}))


def test_posteriors_that_need_no_elimination():
    see, prior = linear_pair()
    assert (see * prior).posterior("x").factors == see.factors
    assert (Bernoulli("p(t|x)", probs=torch.sigmoid) * see * prior).posterior(["t", "x"]).prob_text == "p(t,x|z)"


@pytest.mark.parametrize("proposal", ["prior", "posterior", "wide"])
def test_importance_sampling_against_the_exact_likelihood(proposal):
    see, prior = linear_pair()
    p = (see * prior).marginalize_var("z")
    torch.manual_seed(0)
    x = p.sample(batch_size=3)["x"].detach()
    posterior = p.posterior()
    wide = Normal("q(z|x)", loc=lambda x: posterior.mean({"x": x}).detach(), scale=1.0)
    q = {"prior": prior, "posterior": posterior, "wide": wide}[proposal]
    exact = p.log_likelihood({"x": x})
    for model in (p, see * prior):  # z hidden, or merely without a value
        estimate = model.log_likelihood({"x": x}, proposal=q, num_samples=40_000)
        torch.testing.assert_close(estimate, exact, rtol=0, atol=1e-9 if proposal == "posterior" else 0.1)


def test_a_proposal_for_some_variables_leaves_the_others_to_exact_sums():
    p, *_ = switching()
    marginal = p.marginalize_var(["z", "k"])
    x = torch.randn(4, 2)
    exact = marginal.log_likelihood({"x": x})
    q = p.marginalize_var("k").posterior("z")
    torch.testing.assert_close(marginal.log_likelihood({"x": x}, proposal=q, num_samples=3), exact)
