"""Faults of the flows in the published library, each as a test that they are none here."""

import math

import pytest
import torch

from pixyz.distributions import Normal
from pixyz.flows import (
    ActNorm,
    Coupling,
    InverseTransformedDistribution,
    Logit,
    LULinear,
    MaskedAutoregressive,
    Permutation,
    Scale,
    dequantize,
)


def test_the_log_determinant_is_not_that_of_an_earlier_evaluation():
    torch.manual_seed(0)
    f = Coupling(4).double()
    with torch.no_grad():
        for p in f.parameters():
            p.add_(0.1 * torch.randn_like(p))
    x, other = torch.randn(2, 3, 4, dtype=torch.float64)
    _, before = f.forward_and_log_det(x)
    _, between = f.forward_and_log_det(other)
    _, after = f.forward_and_log_det(x)
    assert torch.equal(before, after)
    assert not torch.allclose(before, between)
    jacobian = torch.func.vmap(torch.func.jacrev(lambda t: f.push(t[None], None)[0][0]))(x)
    torch.testing.assert_close(before, torch.linalg.slogdet(jacobian)[1])


def test_a_density_is_not_that_of_an_earlier_evaluation():
    noise = Normal(var=["z"], loc=0.0, scale=1.0, features_shape=[2])
    p = InverseTransformedDistribution(noise, Logit(), "p(x)")
    x, other = torch.full((1, 2), 0.5), torch.full((1, 2), 0.9)
    before = p.log_likelihood({"x": x})
    p.log_likelihood({"x": other})
    p.sample(batch_size=7)
    assert torch.equal(p.log_likelihood({"x": x}), before)
    # At 1/2, of which the logit is 0 with slope 4.
    assert before.item() == pytest.approx(2 * (math.log(4) - 0.5 * math.log(2 * math.pi)), abs=1e-6)


def test_act_norm_is_not_started_again_after_load():
    torch.manual_seed(0)
    trained = ActNorm(3)
    trained.initialize(3 + 2 * torch.randn(50, 3))
    loaded = ActNorm(3)
    loaded.load_state_dict(trained.state_dict())
    assert not loaded.needs_start
    loaded.initialize(torch.randn(50, 3) - 9)
    x = torch.randn(4, 3)
    assert torch.equal(loaded.forward_and_log_det(x)[0], trained.forward_and_log_det(x)[0])


@pytest.mark.parametrize("make", [lambda: Permutation(16), lambda: LULinear(16)], ids=["Permutation", "LULinear"])
def test_the_permutation_is_saved(make):
    torch.manual_seed(0)
    saved, loaded = make(), make()
    x = torch.randn(4, 16)
    y = saved.forward_and_log_det(x)[0]
    assert not torch.allclose(loaded.forward_and_log_det(x)[0], y)
    loaded.load_state_dict(saved.state_dict())
    assert torch.equal(loaded.forward_and_log_det(x)[0], y)
    torch.testing.assert_close(loaded.inverse_and_log_det(y)[0], x)


def test_the_order_of_a_masked_autoregressive_layer_is_saved():
    torch.manual_seed(0)
    saved, loaded = MaskedAutoregressive(4, order=[2, 0, 3, 1]), MaskedAutoregressive(4)
    loaded.load_state_dict(saved.state_dict())
    x = torch.randn(5, 4)
    y = saved.forward_and_log_det(x)[0]
    assert torch.equal(loaded.forward_and_log_det(x)[0], y)
    torch.testing.assert_close(loaded.inverse_and_log_det(y)[0], x)


@pytest.mark.parametrize("alpha", [0.0, 0.05])
def test_preprocess_is_inverted(alpha):
    """From bytes to numbers without bounds and back: the noise, the scale and the logit."""
    torch.manual_seed(0)
    v = torch.arange(256.0, dtype=torch.float64).reshape(2, 128)
    x = dequantize(v, 256)
    preprocess = Scale(256.0, bounds=(0.0, 1.0)).inverse >> Logit(alpha)
    y, log_det = preprocess.forward_and_log_det(256 * x)
    back, log_det_back = preprocess.inverse_and_log_det(y)
    torch.testing.assert_close(back, 256 * x)
    torch.testing.assert_close(log_det_back, -log_det)
    assert torch.equal(back.floor(), v)
    p = alpha + (1 - 2 * alpha) * x
    torch.testing.assert_close(log_det, ((1 - 2 * alpha) / (256 * p * (1 - p))).log().sum(1))


@pytest.mark.parametrize("convert", [lambda f: f, lambda f: f.double()], ids=["as built", "double"])
def test_numbers_of_a_scale_have_all_their_digits_in_float64(convert):
    """In float32, 0.1 and 0.3 are off by 1.5e-9 and 1.2e-8."""
    f, x = convert(Scale(0.1, 0.3)), torch.tensor([[0.7, -2.3]], dtype=torch.float64)
    y, log_det = f.forward_and_log_det(x)
    torch.testing.assert_close(y, torch.tensor([[0.37, 0.07]], dtype=torch.float64), rtol=0, atol=1e-15)
    torch.testing.assert_close(log_det.item(), 2 * math.log(0.1), rtol=1e-15, atol=0)
    torch.testing.assert_close(f.inverse_and_log_det(y)[0], x, rtol=1e-15, atol=0)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64])
def test_whole_numbers_are_scaled(dtype):
    y, log_det = Scale(0.5, 0.25).forward_and_log_det(torch.tensor([[3, 5]], dtype=dtype))
    assert y.tolist() == [[1.75, 2.75]]
    assert log_det.tolist() == pytest.approx([2 * math.log(0.5)])


def test_a_scale_is_built_on_the_meta_device():
    with torch.device("meta"):
        assert Scale(2.0, 1.0).shift.is_meta


@pytest.mark.parametrize("levels", [2, 3, 17, 256])
@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.int64])
def test_dequantised_values_are_found_again(levels, kind):
    torch.manual_seed(0)
    v = torch.randint(0, levels, (200_000,))
    x = dequantize(v.to(kind), levels)
    assert x.min() > 0
    assert x.max() < 1
    assert torch.equal((x * levels).floor().to(torch.int64), v)
    # Uniform within a level: mean 1/2, with the standard error of 200,000 uniform numbers.
    within = (x * levels - v).double()
    assert within.mean().item() == pytest.approx(0.5, abs=4 * math.sqrt(1 / 12 / len(v)))
