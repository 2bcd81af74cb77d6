"""Networks that are given as arguments stand beside the words of the module that keeps them."""

import pytest
import torch
from torch import nn

from pixyz.core import FormulaError
from pixyz.distributions import Deterministic, Normal


class Heads(nn.Module):
    """One network for both parameters."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 4)

    def forward(self, x):
        loc, scale = self.layer(x).chunk(2, -1)
        return {"loc": loc, "scale": scale.exp()}


def test_one_network_gives_all_parameters():
    heads = Heads()
    q = Normal("q(z|x)", heads)
    x, z = torch.randn(5, 3), torch.randn(5, 2)
    loc, scale = heads.layer(x).chunk(2, -1)
    truth = torch.distributions.Normal(loc, scale.exp()).log_prob(z).sum(-1)
    torch.testing.assert_close(q.log_prob().estimate({"x": x, "z": z}), truth)
    assert [*q.state_dict()] == ["given_networks.network.layer.weight", "given_networks.network.layer.bias"]


@pytest.mark.parametrize("name", ["forward", "names", "takes", "training"])
def test_a_word_of_the_module_that_keeps_networks_is_no_name(name):
    with pytest.raises(FormulaError, match=f"{name} is a word of"):
        Deterministic(f"d({name}|x)", **{name: nn.Linear(2, 1)})
