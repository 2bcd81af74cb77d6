"""What the package adds, on the device of the tests: batches go there, networks run in half precision, memory and obstacles are found."""

import pytest
import torch
from torch import nn, optim

from pixyz.cuda_utils import Prefetched, capturable, memory_report, precision
from pixyz.distributions import Bernoulli, Normal
from pixyz.losses import ELBO
from pixyz.models import Model

pytestmark = pytest.mark.gpu
X = torch.rand(12, 6, generator=torch.Generator().manual_seed(0)).round()


def vae(device):
    torch.manual_seed(0)
    p = Bernoulli("p(x|z)", logits=nn.Linear(2, 6)) * Normal("p(z)", loc=0.0, scale=1.0, dim=2)
    q = Normal("q(z|x)", loc=nn.Linear(6, 2), scale=0.5)
    return Model(-ELBO(p, q).mean().to(device), optimizer=optim.Adam, optimizer_params={"lr": 1e-2})


def test_batches_arrive_on_the_device_as_they_were(device):
    batches = [{"x": part} for part in X.split(4)]
    found = [*Prefetched(batches, device)]
    assert all(b["x"].device.type == device.type for b in found)
    assert torch.equal(torch.cat([b["x"].cpu() for b in found]), X)


def test_a_model_learns_there_from_batches_that_are_fetched_ahead(device):
    model = vae(device)
    losses = [model.train(batch).item() for _ in range(20) for batch in Prefetched([{"x": X}], device)]
    assert sum(losses[-5:]) < sum(losses[:5])


def test_a_step_of_a_model_there_has_no_obstacles(device):
    assert list(capturable(vae(device), {"x": X.to(device)})) == []


def test_memory_by_term_is_found_there(device):
    if device.type == "elsewhere":
        pytest.skip("a tensor of elsewhere has no storage of its own, whose bytes could be counted")
    report = memory_report(vae(device), {"x": X.to(device)})
    assert "log p(x|z)" in str(report)


@pytest.mark.parametrize("kind", ["bf16", "f32"])
def test_networks_in_half_precision_and_densities_in_float32(kind, device):
    if device.type == "elsewhere":
        pytest.skip("torch has no autocast for elsewhere")
    model, x = vae(device), X.to(device)
    with precision(kind):
        loss = model.train({"x": x})
    assert loss.dtype == torch.float32
    assert bool(loss.isfinite())
    assert {w.dtype for w in model.trained_parameters} == {torch.float32}
