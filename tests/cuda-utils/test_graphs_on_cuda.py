"""Graphs of CUDA: what no recording on the CPU can show."""

import pytest
import torch
from torch import nn, optim

from pixyz.core import NonFiniteLossError
from pixyz.cuda_utils import graph_report, graphed
from pixyz.distributions import Bernoulli, Normal
from pixyz.models import VAE

pytestmark = pytest.mark.gpu

# A power of two, for the kernels read the rate as float32.
SGD = {"optimizer": optim.SGD, "optimizer_params": {"lr": 0.125, "momentum": 0.5}}
ADAM = {"optimizer": optim.Adam, "optimizer_params": {"lr": 0.01}}


@pytest.fixture(autouse=True)
def _waiting_is_allowed_again():
    yield
    if torch.cuda.is_available():
        torch.cuda.set_sync_debug_mode("default")


def autoencoder(device, **options):
    torch.manual_seed(0)
    hidden = nn.Sequential(nn.Linear(32, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 4))
    q = Normal("q(z|x)", loc=hidden, scale=nn.Sequential(nn.Linear(32, 4), nn.Softplus()))
    p = Bernoulli("p(x|z)", logits=nn.Linear(4, 32))
    prior = Normal("p(z)", loc=torch.zeros(4), scale=torch.ones(4))
    for part in (q, p, prior):
        part.to(device)
    return VAE(q, p, prior, **options)


def data(device, count):
    generator = torch.Generator().manual_seed(1)
    return [{"x": torch.randint(2, (64, 32), generator=generator).float().to(device)} for _ in range(count)]


def trained(model, values):
    torch.manual_seed(3)
    return torch.stack([model.train(v) for v in values])


@pytest.mark.parametrize(("options", "tolerance"), [(SGD, 0.0), (ADAM, 1e-6)], ids=["SGD", "Adam"])
def test_fifty_graphed_steps_are_fifty_eager_ones(cuda, options, tolerance):
    values = data(cuda, 50)
    eager = autoencoder(cuda, **options, ema=0.9, clip_grad_norm=1.0)
    expected = trained(eager, values)
    after = torch.cuda.get_rng_state(cuda)
    model = graphed(autoencoder(cuda, **options, ema=0.9, clip_grad_norm=1.0), values[0])
    losses = trained(model, values)
    torch.testing.assert_close(losses, expected, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(model.loss.state_dict(), eager.loss.state_dict(), rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(model.ema.state_dict(), eager.ema.state_dict(), rtol=tolerance, atol=tolerance)
    assert torch.equal(torch.cuda.get_rng_state(cuda), after)
    assert graph_report(model).replays == 49


def test_a_capture_leaves_weights_optimisers_and_generators_as_they_were(cuda):
    values = data(cuda, 3)
    model = autoencoder(cuda, **ADAM)
    trained(model, values)
    before = {name: t.clone() for name, t in model.loss.state_dict().items()}
    moments = [t.clone() for entry in model.optimizer.state.values() for t in entry.values()]
    random = torch.cuda.get_rng_state(cuda)
    graphed(model, values[0])
    torch.testing.assert_close(model.loss.state_dict(), before, rtol=0, atol=0)
    torch.testing.assert_close([t for entry in model.optimizer.state.values() for t in entry.values()], moments, rtol=0, atol=0)
    assert torch.equal(torch.cuda.get_rng_state(cuda), random)


def test_a_hundred_steps_wait_for_nothing(cuda):
    values = data(cuda, 2)
    scheduler = {"scheduler": optim.lr_scheduler.CosineAnnealingLR, "scheduler_params": {"T_max": 50}}
    model = graphed(autoencoder(cuda, **ADAM, **scheduler, ema=0.9), values[0])
    trained(model, values)
    torch.cuda.set_sync_debug_mode("error")
    for i in range(100):
        model.train(values[i % 2])
    torch.cuda.set_sync_debug_mode("default")
    model.check()
    assert graph_report(model).replays == 101


def test_noise_differs_from_replay_to_replay(cuda):
    values = data(cuda, 1)
    model = graphed(autoencoder(cuda, optimizer_params={"lr": 0.0}), values[0])
    assert len(set(trained(model, values * 8).tolist())) == 8


def test_a_nan_step_leaves_the_weights_and_is_an_error_within_one_step(cuda):
    values = data(cuda, 4)
    model = graphed(autoencoder(cuda, **ADAM), values[0])
    trained(model, values)
    before = [w.detach().clone() for w in model.trained_parameters]
    model.train({"x": values[0]["x"] * torch.nan})
    torch.cuda.synchronize()
    with pytest.raises(NonFiniteLossError, match=r"q\(z\|x\)"):
        model.train(values[1])
    torch.testing.assert_close([w.detach() for w in model.trained_parameters], before, rtol=0, atol=0)
    model.train(values[1])
    model.check()


def test_the_learning_rate_of_a_scheduler_is_seen(cuda):
    values = data(cuda, 6)
    halved = {"scheduler": optim.lr_scheduler.StepLR, "scheduler_params": {"step_size": 1, "gamma": 0.5}}
    eager = autoencoder(cuda, **SGD, **halved)
    trained(eager, values)
    model = graphed(autoencoder(cuda, **SGD, **halved), values[0])
    trained(model, values)
    torch.testing.assert_close(model.loss.state_dict(), eager.loss.state_dict(), rtol=0, atol=0)


def test_another_shape_is_captured_in_the_same_pool(cuda):
    values = data(cuda, 4)
    short = {"x": values[0]["x"][:10]}
    mixed = [values[0], short, values[1], short, values[2]]
    eager = autoencoder(cuda, **ADAM)
    expected = trained(eager, mixed)
    model = graphed(autoencoder(cuda, **ADAM), values[0], on_change="recapture")
    torch.testing.assert_close(trained(model, mixed), expected, rtol=1e-6, atol=1e-6)
    assert len(graph_report(model).captured) == 2


def test_a_model_that_leaves_the_gpu_is_one_error_and_may_come_back(cuda):
    values = data(cuda, 4)
    model = graphed(autoencoder(cuda, **ADAM), values[0])
    trained(model, values)
    model.loss.to("cpu")
    with pytest.raises(RuntimeError, match=r"its graphs are on cuda:\d+, and it has been moved to cpu"):
        model.train({"x": values[0]["x"].cpu()})
    model.loss.to(cuda)
    model.train(values[0])
    model.check()


def test_memory_does_not_grow(cuda):
    values = data(cuda, 2)
    model = graphed(autoencoder(cuda, **ADAM, ema=0.9), values[0])
    trained(model, values * 5)
    model.check()
    before = torch.cuda.memory_allocated(cuda)
    trained(model, values * 20)
    model.check()
    assert torch.cuda.memory_allocated(cuda) <= before + 4096
