"""Transforms of torch.distributions, Pyro and zuko as bijections, and bijections as transforms: the same values on both sides."""

import copy
import pickle

import pyro.distributions.transforms as pyro
import pytest
import torch
import zuko
from torch import distributions as td
from torch import nn

from pixyz.core import IntractableError, KindError, ShapeError, SupportError
from pixyz.distributions import Normal
from pixyz.flows import (
    ActNorm,
    Chain,
    ContinuousFlow,
    Coupling,
    InverseTransformedDistribution,
    Logit,
    MaskedAutoregressive,
    Planar,
    Reverse,
    SplineMap,
    Squeeze,
    TransformedDistribution,
    from_transform,
    testing,
)
from pixyz.losses import ELBO, NLL


@pytest.fixture(autouse=True)
def in_float64():
    torch.set_default_dtype(torch.float64)


def zuko_unconditional(make, **options):
    return lambda: from_transform(make(3, transforms=2, hidden_features=[6], **options), 3)


AFFINE = td.AffineTransform(torch.tensor([0.0, 1.0, -1.0]).double(), torch.tensor([2.0, -0.5, 3.0]).double())
CASES = {
    # name: how it is made, the features, the context, whether its values must be in (0, 1), the options of the laws
    "affine": (lambda: from_transform(AFFINE, 3), (3,), 0, {"depth": None}),
    "affine, any features": (lambda: from_transform(td.AffineTransform(1.0, 2.0)), (2, 3), 0, {"depth": None}),
    "composed": (
        lambda: from_transform(td.ComposeTransform([AFFINE, td.SigmoidTransform(), td.PowerTransform(torch.tensor(2.0))]), 3),
        (3,),
        0,
        {"depth": None},
    ),
    "inverse": (lambda: from_transform(td.ComposeTransform([AFFINE, td.ExpTransform()]).inv.inv, 3), (3,), 0, {"depth": None}),
    "inverses inside": (lambda: from_transform(td.ComposeTransform([AFFINE.inv, td.ExpTransform()]), 3), (3,), 0, {"depth": None}),
    "independent": (lambda: from_transform(td.IndependentTransform(AFFINE, 1), 3), (3,), 0, {"depth": None}),
    "an inverse": (lambda: from_transform(td.ComposeTransform([td.ExpTransform(), AFFINE.inv]).inv.inv, 3), (3,), 0, {"depth": None}),
    "reshaped": (
        lambda: from_transform(td.ComposeTransform([td.ReshapeTransform((4,), (2, 2)), td.AffineTransform(1.0, 2.0)]), 4),
        (4,),
        0,
        {"depth": None},
    ),
    "Pyro, affine autoregressive": (
        lambda: from_transform(pyro.affine_autoregressive(3, hidden_dims=[7]), 3),
        (3,),
        0,
        {"traceable": False, "depth": None},
    ),
    "Pyro, affine coupling": (
        lambda: from_transform(pyro.affine_coupling(3, hidden_dims=[7]), 3),
        (3,),
        0,
        {"traceable": False, "depth": None},
    ),
    "Pyro, spline": (lambda: from_transform(pyro.Spline(3, count_bins=4), 3), (3,), 0, {"traceable": False, "depth": None}),
    "Pyro, matrix exponential": (
        lambda: from_transform(pyro.matrix_exponential(3), 3),
        (3,),
        0,
        {"tolerance": 1e-6, "traceable": False, "depth": None},
    ),
    "Pyro, conditional": (
        lambda: from_transform(pyro.conditional_affine_coupling(3, 2, hidden_dims=[7]), 3, context=2),
        (3,),
        2,
        {"traceable": False, "depth": None},
    ),
    "Pyro, composed": (
        lambda: from_transform(td.ComposeTransform([AFFINE, pyro.affine_coupling(3, hidden_dims=[7])]), 3),
        (3,),
        0,
        {"traceable": False, "depth": None},
    ),
    "zuko, MAF": (zuko_unconditional(zuko.flows.MAF), (3,), 0, {"traceable": False, "depth": None}),
    "zuko, NSF": (zuko_unconditional(zuko.flows.NSF, bins=4), (3,), 0, {"traceable": False, "depth": None}),
    "zuko, conditional": (
        lambda: from_transform(zuko.flows.MAF(3, 2, transforms=2, hidden_features=[6]), 3, context=2),
        (3,),
        2,
        {"traceable": False, "depth": None},
    ),
    "zuko, coupling": (
        lambda: from_transform(zuko.flows.NICE(3, 2, transforms=2, hidden_features=[6]).transform, 3, context=2),
        (3,),
        2,
        {"traceable": False, "depth": None},
    ),
    "zuko, one transform": (lambda: from_transform(zuko.transforms.SignedPowerTransform(torch.tensor(0.3)), 3), (3,), 0, {"depth": None}),
}


def data(shape, context):
    return torch.randn(5, *shape), torch.randn(5, context) if context else None


@pytest.mark.parametrize("name", CASES)
def test_a_transform_obeys_the_laws(name):
    make, shape, context, options = CASES[name]
    testing.check(make, *data(shape, context), sizes=(), **options)


def test_the_values_are_the_transforms():
    x = torch.randn(5, 3)
    transform = td.ComposeTransform([AFFINE, td.SigmoidTransform()])
    y, log_det = from_transform(transform, 3).forward_and_log_det(x)
    assert torch.equal(y, transform(x))
    assert torch.equal(log_det, transform.log_abs_det_jacobian(x, transform(x)).sum(-1))
    theirs = pyro.affine_autoregressive(3, hidden_dims=[7])
    y, log_det = from_transform(theirs, 3).forward_and_log_det(x)
    torch.testing.assert_close(y, theirs(x))
    torch.testing.assert_close(log_det, theirs.log_abs_det_jacobian(x, y))


def test_a_zuko_flow_is_a_factor():
    """Data to noise; conditional; its parameters are trained in a bound."""
    theirs = zuko.flows.NSF(2, 3, transforms=2, bins=4, hidden_features=[6])
    prior = InverseTransformedDistribution(noise(), from_transform(theirs, 2, context=3), "p(z|y)")
    z, y = torch.randn(6, 2), torch.randn(6, 3)
    torch.testing.assert_close(prior.log_likelihood({"z": z, "y": y}), theirs(y).log_prob(z))
    p = Normal("p(x|z)", loc=nn.Linear(2, 4), scale=1.0) * prior
    q = Normal("q(z|x)", loc=nn.Linear(4, 2), scale=0.7)
    ELBO(p, q).mean().estimate({"x": torch.randn(6, 4), "y": y}).backward()
    assert all(w.grad is not None for w in theirs.transform.parameters())
    assert prior.sample({"y": y})["z"].shape == (6, 2)


def test_a_pyro_transform_is_a_factor():
    """Noise to data."""
    theirs = pyro.spline_coupling(2, hidden_dims=[7], count_bins=4)
    base = td.Independent(td.Normal(torch.zeros(2), torch.ones(2)), 1)
    x = torch.randn(6, 2)
    p = TransformedDistribution(noise(), from_transform(theirs, 2), "p(x)")
    assert copy.deepcopy(p).log_likelihood({"x": x}).equal(p.log_likelihood({"x": x}))
    torch.testing.assert_close(p.log_likelihood({"x": x}), td.TransformedDistribution(base, [theirs]).log_prob(x))
    NLL(p).mean().estimate({"x": x}).backward()
    assert all(w.grad is not None for w in theirs.parameters())
    planar = TransformedDistribution(noise(), from_transform(pyro.planar(2), 2), "p(x)")
    assert (-planar.log_prob()).expectation(planar).mean().estimate(batch_size=5).isfinite()
    with pytest.raises(IntractableError, match="the Planar has no inverse in closed form"):
        planar.log_likelihood({"x": x})


def test_transforms_chain_with_layers():
    f = from_transform(td.SigmoidTransform()) >> Logit(0.1) >> Coupling(3, hidden=[5])
    testing.check(lambda: f, *data((3,), 0), depth=None, sizes=())
    with pytest.raises(SupportError, match="layer 1, the Logit, takes what is in .*, but what comes from before it is a number"):
        from_transform(AFFINE, 3) >> Logit(0.1)
    with pytest.raises(SupportError, match=r"x, which the ExpTransform gives, must be greater than 0, but 1 of 3 are not"):
        from_transform(td.ExpTransform().inv).forward_and_log_det(torch.tensor([[1.0, -1.0, 2.0]]))


BAD = {
    "no transform": (
        lambda: from_transform(3),
        KindError,
        "from_transform takes a transform of torch.distributions, Pyro or zuko; got a int",
    ),
    "a network": (lambda: from_transform(nn.Identity(), 2, context=2), KindError, "the Identity gives a Tensor, where a transform"),
    "not bijective": (
        lambda: from_transform(td.AbsTransform()),
        KindError,
        "from_transform: the AbsTransform is not bijective, so it has no density",
    ),
    "events of more dims": (
        lambda: from_transform(td.LowerCholeskyTransform().inv, 3),
        KindError,
        "is not bijective",
    ),
    "features of too few dims": (
        lambda: from_transform(td.IndependentTransform(td.ExpTransform(), 2), 3),
        ShapeError,
        r"the IndependentTransform maps events of 2 dims, but the features are \(3,\)",
    ),
    "features that are not known": (
        lambda: from_transform(td.StickBreakingTransform()),
        ShapeError,
        "the StickBreakingTransform changes the shape of what it maps, so the features of x must be given",
    ),
    "features that do not fit": (
        lambda: from_transform(td.ReshapeTransform((4,), (2, 2)), 5),
        ShapeError,
        r"the ReshapeTransform cannot map features \(5,\)",
    ),
    "a context for none": (
        lambda: from_transform(AFFINE, 3, context=2),
        KindError,
        "the AffineTransform takes no context; leave context= out",
    ),
    "no context": (
        lambda: from_transform(pyro.conditional_planar(3, 2), 3),
        KindError,
        "the ConditionalPlanar takes a context; say how many features it has, with context=",
    ),
    "values of too few dims": (
        lambda: from_transform(td.IndependentTransform(td.ExpTransform(), 2))(torch.zeros(3, 4)),
        ShapeError,
        r"x has features \(4,\), but an event of the IndependentTransform has 2 dims",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_bijection(case):
    make, error, words = BAD[case]
    with pytest.raises(error, match=words):
        make()


def test_a_stick_is_broken():
    """One number more comes out than goes in."""
    f = from_transform(td.StickBreakingTransform(), 3)
    x = torch.randn(5, 3)
    y, log_det = f.forward_and_log_det(x)
    assert f.out_shape == (4,)
    torch.testing.assert_close(y.sum(1), torch.ones(5))
    torch.testing.assert_close(f.inverse_and_log_det(y)[0], x)
    p = TransformedDistribution(Normal(var=["e"], loc=0.0, scale=1.0, features_shape=[3]), f, "p(x)")
    by_torch = td.TransformedDistribution(td.Independent(td.Normal(torch.zeros(3), torch.ones(3)), 1), [td.StickBreakingTransform()])
    torch.testing.assert_close(p.log_likelihood({"x": y}), by_torch.log_prob(y))


def noise():
    return Normal(var=["e"], loc=0.0, scale=1.0, features_shape=[2])


def standard(*shape):
    return td.Independent(td.Normal(torch.zeros(shape), torch.ones(shape)), len(shape))


OURS = {
    "Coupling": (lambda: Coupling(3, map=SplineMap(4), hidden=[6]), 0),
    "Coupling(context)": (lambda: Coupling(3, context=2, hidden=[6]), 2),
    "Chain": (lambda: ActNorm(3) >> Coupling(3, context=2, hidden=[6]) >> Reverse(3), 2),
    "MaskedAutoregressive": (lambda: MaskedAutoregressive(3, hidden=[6]), 0),
    "MaskedAutoregressive(inverse)": (lambda: MaskedAutoregressive(3, context=2, hidden=[6]).inverse, 2),
    "image": (lambda: Squeeze((1, 2, 2)) >> ActNorm((4, 1, 1)), 0),
    "ContinuousFlow": (lambda: ContinuousFlow(2, hidden=[4], steps=4), 0),
}


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("cache_size", [0, 1])
def test_ours_in_a_distribution_of_torchs(name, cache_size):
    make, context = OURS[name]
    f = testing.moved(make())
    c = torch.randn(4, context) if context else None
    shape = f.in_shape
    transform = f.as_transform(c, cache_size=cache_size)
    assert transform.domain.event_dim == len(shape)
    assert transform.codomain.event_dim == len(f.out_shape)
    p = td.TransformedDistribution(standard(*shape).expand((4,)), [transform], validate_args=True)
    assert (p.batch_shape, p.event_shape) == ((4,), f.out_shape)
    ours = TransformedDistribution(Normal(var=["e"], loc=0.0, scale=1.0, features_shape=list(shape)), f, "p(x|y)" if context else "p(x)")
    for x in (torch.randn(4, *f.out_shape), p.rsample((5,))):
        found = p.log_prob(x)
        each = x.reshape(-1, 4, *f.out_shape)
        expected = torch.stack([ours.log_likelihood({"x": one, "y": c}) for one in each]).reshape(found.shape)
        torch.testing.assert_close(
            found, expected, rtol=1e-4 if name == "ContinuousFlow" else 1e-8, atol=1e-4 if name == "ContinuousFlow" else 1e-8
        )
    if any(True for _ in f.parameters()):
        p.log_prob(p.rsample()).sum().backward()
    assert pickle.loads(pickle.dumps(f)).as_transform(c).domain.event_dim == len(shape)
    assert transform.inv.log_abs_det_jacobian(x, transform.inv(x)).shape == x.shape[: x.ndim - len(f.out_shape)]
    composed = td.ComposeTransform([transform, td.ExpTransform()])
    assert composed(torch.zeros(4, *shape)).shape == (4, *f.out_shape)


class Counted(Coupling):
    passes = 0

    def push(self, x, context):
        Counted.passes += 1
        return super().push(x, context)


def test_a_cache_saves_a_pass():
    f = Counted(3, hidden=[5])
    x = torch.randn(4, 3)
    for cache_size, passes in ((0, 2), (1, 1)):
        Counted.passes = 0
        transform = f.as_transform().with_cache(cache_size)
        y = transform(x)
        log_det = transform.log_abs_det_jacobian(x, y)
        assert Counted.passes == passes
        assert transform(x).equal(y)
        assert Counted.passes == passes + (cache_size == 0)
        with torch.no_grad():
            f.layers = None  # an attribute of ours changes nothing
        torch.testing.assert_close(log_det, f.forward_and_log_det(x)[1])
        z = torch.randn(4, 3)
        torch.testing.assert_close(transform.log_abs_det_jacobian(z, transform(z)), f.forward_and_log_det(z)[1])
        torch.testing.assert_close(transform.log_abs_det_jacobian(x, y), log_det)


def test_there_and_back_again():
    f = testing.moved(Coupling(3, map=SplineMap(4), hidden=[6]))
    back = from_transform(f.as_transform(), 3)
    x = torch.randn(5, 3)
    for a, b in zip(back.forward_and_log_det(x), f.forward_and_log_det(x)):
        assert torch.equal(a, b)


def test_what_is_no_transform():
    with pytest.raises(ShapeError, match="as_transform: the Reverse takes any features, of which an event is not known"):
        Reverse().as_transform()
    with pytest.raises(ShapeError, match="needs a context of 2 features; none is given"):
        Coupling(3, context=2).as_transform()(torch.zeros(3))
    with pytest.raises(IntractableError, match="the Planar has no inverse in closed form"):
        Planar(3).as_transform().inv(torch.zeros(2, 3))
    with pytest.raises(ShapeError, match=r"The shape \(2, 4\) does not end in the features \(3,\)"):
        Coupling(3).as_transform().forward_shape((2, 4))
    support = (Chain([Logit()]).inverse >> from_transform(AFFINE, 3)).as_transform().codomain
    assert support.event_dim == 1
    assert Logit(shape=2).as_transform().domain.check(torch.tensor([[0.5, 1.5], [0.1, 0.2]])).tolist() == [False, True]
