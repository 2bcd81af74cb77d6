"""Models are built on the meta device, where numbers are not, and are the same once they have some."""

import pytest
import torch
from torch import nn

import pixyz.distributions as d
from pixyz.core import SupportError, seeded
from pixyz.flows import IAF, MAF, NSF, Glow, RealNVP, Scale
from pixyz.gan import GAN
from pixyz.losses import ELBO, IWAE, MMD, IterativeLoss, KullbackLeibler
from pixyz.models import VI


def vae():
    return d.Bernoulli("p(x|z)", logits=nn.Linear(2, 3)) * d.Normal("p(z)", loc=0.0, scale=1.0, dim=2), d.Normal(
        "q(z|x)", loc=nn.Linear(3, 2), scale=0.5
    )


def sequence():
    p = d.Normal("p(x|z)", loc="z", scale=1.0) * d.Normal("p(z|z_prev)", loc="z_prev", scale=1.0)
    q = d.Normal("q(z|x,z_prev)", loc=lambda x, z_prev: x + z_prev, scale=nn.Parameter(torch.ones(())))
    return IterativeLoss(ELBO(p, q), series_var=["x"], update_value={"z": "z_prev"})


def game():
    p = (d.Deterministic("p(x|z)", x=nn.Linear(2, 3)) * d.Normal("p(z)", loc=0.0, scale=1.0, dim=2)).marginalize_var("z")
    return GAN(p, d.Deterministic("d(t|x)", t=nn.Linear(3, 1)))


def bits():
    q = d.Bernoulli("q(b|x)", logits=nn.Linear(3, 2))
    return ELBO(
        d.Normal("p(x|b)", loc=nn.Linear(2, 3), scale=1.0) * d.Bernoulli("p(b)", probs=torch.ones(2) / 2),
        q,
        estimator="score",
        num_samples=2,
    )


BUILT = {
    "truncated": lambda: d.Truncated(d.Normal("p(x)", loc=0.0, scale=1.0), lower=0.0, upper=1.0),
    "zero-inflated": lambda: d.ZeroInflated(d.Poisson("p(x)", rate=2.0), gate=0.3),
    "mixture": lambda: d.MixtureModel([d.Normal(loc=m, scale=1.0) for m in (-2.0, 2.0)], d.Categorical("p(k)", probs=torch.ones(2) / 2)),
    "mixture of experts": lambda: d.MixtureOfNormal([d.Normal("q(z|x)", loc="x", scale=1.0), d.Normal("q(z)", loc=0.0, scale=0.5)]),
    "product of experts": lambda: d.ProductOfNormal([d.Normal("q(z|x)", loc="x", scale=1.0), d.Normal("q(z)", loc=0.0, scale=0.5)]),
    "data": lambda: d.Empirical("p(x)", x=torch.zeros(3, 2)),
    "codebook": lambda: d.VectorQuantizer("q(z|x)", nn.Linear(2, 2), num_codes=4, dim=2),
    "autoregressive": lambda: d.Autoregressive("p(x)", family=d.Bernoulli, dim=3),
    "fixed": lambda: (d.Normal("p(x|z)", loc="z", scale=1.0) * d.Normal("p(z)", loc=0.0, scale=1.0)).condition(z=0.3),
    "posterior": lambda: (d.Normal("p(x|z)", loc=nn.Linear(2, 2), scale=1.0) * d.Normal("p(z)", loc=0.0, scale=1.0, dim=2)).posterior("z"),
    "NSF": lambda: NSF("p(x)", features=4, transforms=2),
    "MAF": lambda: MAF("p(x)", features=4, transforms=2),
    "IAF": lambda: IAF("p(x)", features=4, transforms=2),
    "checkerboards": lambda: RealNVP("p(x)", features=(3, 4, 4), transforms=2, hidden=[4]),
    "Glow": lambda: Glow("p(x)", features=(3, 4, 4), levels=1),
    "scale": lambda: Scale(2.0),
    "bound": lambda: -ELBO(*vae()).mean(),
    "importance weights": lambda: IWAE(*vae(), num_samples=3),
    "divergence": lambda: KullbackLeibler(vae()[1], d.Normal("p(z)", loc=0.0, scale=1.0, dim=2)),
    "sets": lambda: MMD(vae()[1], d.Normal("p(z)", loc=0.0, scale=1.0, dim=2)),
    "score": bits,
    "constants": lambda: vae()[1].log_prob().constant_var({"x": torch.zeros(3, 3)}) * torch.ones(()) + torch.ones(3),
    "sequence": sequence,
    "model": lambda: VI(*vae()).loss,
    "game": lambda: game().loss,
}


@pytest.mark.parametrize("name", BUILT)
def test_it_is_built_and_printed_without_numbers(name):
    with torch.device("meta"):
        built = BUILT[name]()
    assert {t.device.type for t in (*built.parameters(), *built.buffers())} <= {"meta"}
    assert str(built)
    assert {k: v.shape for k, v in built.state_dict().items()} == {k: v.shape for k, v in BUILT[name]().state_dict().items()}


def test_with_the_weights_of_another_it_is_that():
    loss, x = -ELBO(*vae()).mean(), torch.ones(4, 3)
    with torch.device("meta"):
        built = -ELBO(*vae()).mean()
    built.load_state_dict(loss.state_dict(), assign=True)
    with seeded(1):
        found = built.estimate({"x": x})
    with seeded(1):
        assert found == loss.estimate({"x": x})


def test_a_constant_that_was_not_seen_when_it_was_built_is_checked_later():
    with torch.device("meta"):
        p = d.Normal("p(x)", loc=0.0, scale=1.0)
    p.load_state_dict({"loc": torch.tensor(0.0), "scale": torch.tensor(-1.0)}, assign=True)
    with pytest.raises(SupportError, match=r"p\(x\): scale must be positive"):
        p.log_likelihood({"x": torch.zeros(2)})
