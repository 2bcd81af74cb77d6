"""Under autocast the networks of a flow are in half precision; its linear algebra and its log-determinants are not."""

import pytest
import torch
from torch import nn

from pixyz.distributions import Normal
from pixyz.flows import ContinuousFlow, Coupling, InverseTransformedDistribution, LULinear, MaskedAutoregressive, Planar, SplineMap

D = 6


class Seen(nn.Linear):
    """A layer that keeps the dtypes of its products."""

    def forward(self, input):
        y = super().forward(input)
        self.__dict__.setdefault("dtypes", set()).add(y.dtype)
        return y


WITHOUT_A_NETWORK = {
    "linear": lambda: LULinear(D),
    "planar": lambda: Planar(D),
    "continuous": lambda: ContinuousFlow(2, hidden=[4], steps=2),
}


def density_of(flow, count):
    noise = Normal(var=["z"], loc=0.0, scale=1.0, features_shape=[count])
    return InverseTransformedDistribution(noise, flow, "p(x)").log_prob()


@pytest.mark.parametrize("name", WITHOUT_A_NETWORK)
def test_linear_algebra_and_fields_are_in_float32(name):
    torch.manual_seed(0)
    flow = WITHOUT_A_NETWORK[name]()
    with torch.no_grad():
        for w in flow.parameters():
            w.add_(0.1 * torch.randn_like(w))
    loss, x = density_of(flow, flow.in_shape[0]), torch.randn(16, flow.in_shape[0])
    expected = loss.estimate({"x": x})
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(loss.estimate({"x": x}), expected)


def test_the_network_of_a_coupling_is_in_half_precision():
    torch.manual_seed(0)
    flow = Coupling(D, map=SplineMap(), network=lambda n, m: Seen(n, m))
    loss, x = density_of(flow >> LULinear(D), D), torch.randn(16, D)
    expected = loss.estimate({"x": x})
    with torch.autocast("cpu", torch.bfloat16):
        found = loss.estimate({"x": x})
    (layer,) = [m for m in flow.modules() if isinstance(m, Seen)]
    assert layer.dtypes == {torch.float32, torch.bfloat16}
    assert found.dtype == torch.float32
    # The parameters of the spline are rounded to 8 bits, and no more than they.
    assert 0 < (found - expected).abs().max() < 0.1


def test_both_directions_of_a_masked_flow_take_the_network_in_half_precision():
    torch.manual_seed(0)
    flow = MaskedAutoregressive(D)
    p, x = InverseTransformedDistribution(Normal(var=["z"], loc=0.0, scale=1.0, features_shape=[D]), flow, "p(x)"), torch.randn(16, D)
    expected = p.log_likelihood({"x": x})
    torch.manual_seed(1)
    drawn = p.sample(batch_size=4)["x"]
    with torch.autocast("cpu", torch.bfloat16):
        assert not torch.equal(p.log_likelihood({"x": x}), expected)
        torch.manual_seed(1)
        rounded = p.sample(batch_size=4)["x"]
    assert rounded.dtype == torch.float32
    assert not torch.equal(rounded, drawn)
    torch.testing.assert_close(rounded, drawn, rtol=0.05, atol=0.05)
