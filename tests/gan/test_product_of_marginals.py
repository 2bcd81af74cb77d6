"""The product of the marginals: each feature as it was, and nothing of one another."""

import math

import pytest
import torch
from torch import nn

from pixyz.core import FormulaError, IntractableError, seeded
from pixyz.distributions import Deterministic, Normal
from pixyz.gan import AdversarialKullbackLeibler, ProductOfMarginals
from pixyz.models import Model


def correlated(rho=0.8):
    """q(z|x), in which z is x; and data of a correlation."""
    q = Deterministic("q(z|x)", z=lambda x: x)
    noise = torch.randn(4000, 2, dtype=torch.float64)
    return q, torch.stack([noise[:, 0], rho * noise[:, 0] + math.sqrt(1 - rho**2) * noise[:, 1]], 1)


def test_each_feature_is_permuted_by_itself():
    torch.manual_seed(0)
    q, x = correlated()
    z = ProductOfMarginals(q).sample({"x": x})["z"]
    assert torch.equal(z.sort(0).values, x.sort(0).values)
    assert torch.corrcoef(x.T)[0, 1] > 0.75
    assert torch.corrcoef(z.T)[0, 1].abs() < 4 / math.sqrt(4000)
    assert torch.corrcoef(torch.stack([z[:, 0], x[:, 0]]))[0, 1].abs() < 4 / math.sqrt(4000)


def test_images_and_several_draws():
    torch.manual_seed(0)
    q = Deterministic("q(z|x)", z=lambda x: x)
    x = torch.randn(7, 3, 4)
    z = ProductOfMarginals(q).sample({"x": x}, sample_shape=[5])["z"]
    assert z.shape == (5, 7, 3, 4)
    for one in z:
        assert torch.equal(one.sort(0).values, x.sort(0).values)
    assert not torch.equal(z[0], z[1])


def test_the_gradient_goes_to_where_a_feature_came_from():
    q = Normal("q(z|x)", loc=nn.Linear(3, 2).double(), scale=torch.tensor(0.1, dtype=torch.float64))
    x = torch.randn(6, 3, dtype=torch.float64)
    with seeded(0):
        z = ProductOfMarginals(q).sample({"x": x})["z"]
    (slope,) = torch.autograd.grad(z.sum(), q.given_networks.loc.bias)
    assert torch.equal(slope, torch.full((2,), 6.0, dtype=torch.float64))


def test_at_the_best_discriminator_the_loss_is_the_total_correlation():
    torch.manual_seed(0)
    rho = 0.8
    _, x = correlated(rho)
    gain = nn.Parameter(torch.ones(1, dtype=torch.float64))
    q = Deterministic("q(z|x)", z=lambda x: gain * x)
    q.register_parameter("gain", gain)

    def logit(z):
        """log q_bar(z)/q(z), for normal distributions of correlation rho."""
        a, b = z.unbind(-1)
        return 0.5 * math.log(1 - rho**2) + (rho**2 * (a**2 + b**2) - 2 * rho * a * b) / (2 * (1 - rho**2))

    d = Deterministic("d(t|z)", t=lambda z: scale * logit(z))
    scale = nn.Parameter(torch.ones(1, dtype=torch.float64))
    d.register_parameter("scale", scale)
    game = AdversarialKullbackLeibler(q, d, real=ProductOfMarginals(q))
    found = game.for_player(q).estimate({"x": x}).item()
    assert found == pytest.approx(-0.5 * math.log(1 - rho**2), abs=0.06)
    (slope,) = torch.autograd.grad(game.for_player(d).estimate({"x": x}), scale)
    assert abs(slope.item()) < 0.03  # the discriminator has nothing more to gain


def test_its_formula_and_who_plays():
    q = Normal("q(z|x)", loc=nn.Linear(3, 2), scale=1.0)
    d = Deterministic("d(t|z)", t=nn.Linear(2, 1))
    game = AdversarialKullbackLeibler(q, d, real=ProductOfMarginals(q))
    assert str(game) == (
        "min_q E_p_data(x)q(z|x)[log (1 - d(z))/d(z)]; max_d E_p_data(x)q_bar(z|x)[log d(z)] + E_p_data(x)q(z|x)[log (1 - d(z))]"
    )
    renamed = ProductOfMarginals(q.replace_var(x="u", z="v"), name="r")
    assert (renamed.prob_text, renamed.var, renamed.cond_var) == ("r(v|u)", ("v",), ("u",))
    assert renamed.sample({"u": torch.zeros(4, 3)})["v"].shape == (4, 2)


@pytest.mark.parametrize("compile", [False, {"backend": "eager"}])
def test_it_trains(compile):
    torch.manual_seed(0)
    q = Normal("q(z|x)", loc=nn.Linear(3, 2), scale=1.0)
    d = Deterministic("d(t|z)", t=nn.Linear(2, 1))
    model = Model(AdversarialKullbackLeibler(q, d, real=ProductOfMarginals(q)), compile=compile)
    before = [w.clone() for w in (*q.parameters(), *d.parameters())]
    assert model.train({"x": torch.randn(16, 3)}).isfinite().all()
    assert all(not torch.equal(a, b) for a, b in zip(before, (*q.parameters(), *d.parameters()), strict=True))


def test_what_has_no_product_of_marginals():
    q = Normal("q(z|x)", loc=nn.Linear(3, 2), scale=1.0)
    with pytest.raises(FormulaError, match=r"takes one conditional of one variable, like q\(z\|x\); q\(z,y\|x\) is not"):
        ProductOfMarginals(q * Normal("q(y)", loc=0.0, scale=1.0))
    with pytest.raises(IntractableError, match=r"log q_bar\(z\|x\): a product of marginals over the batch has draws, and no density"):
        ProductOfMarginals(q).log_likelihood({"x": torch.zeros(2, 3), "z": torch.zeros(2, 2)})
