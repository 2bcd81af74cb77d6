"""Batches on their way, precision and memory where the streams and the allocator are those of CUDA."""

import pytest
import torch
from torch import nn, optim
from torch.utils.data import DataLoader, TensorDataset

from pixyz.cuda_utils import Prefetched, channels_last, memory_report, precision
from pixyz.distributions import Normal
from pixyz.models import Model

pytestmark = pytest.mark.gpu
ROWS = torch.randn(100, 3)


def regression(device, features=3):
    torch.manual_seed(0)
    p = Normal("p(y|x)", loc=nn.Sequential(nn.Linear(features, 64), nn.Tanh(), nn.Linear(64, 2)), scale=1.0).to(device)
    return Model(-p.log_prob().mean(), optimizer=optim.SGD, optimizer_params={"lr": 0.1})


def batch(device, size=32, features=3):
    draws = torch.Generator().manual_seed(0)
    return {"x": torch.randn(size, features, generator=draws).to(device), "y": torch.randn(size, 2, generator=draws).to(device)}


@pytest.mark.parametrize("pinned", [False, True])
def test_batches_come_whole_while_the_device_is_busy(cuda, pinned):
    loader = DataLoader(TensorDataset(ROWS), batch_size=7, pin_memory=pinned)
    prefetched = Prefetched(loader, cuda, names=["x"])
    work = torch.randn(1000, 1000, device=cuda)
    for _ in range(3):
        found = []
        for values in prefetched:
            assert values["x"].device.type == "cuda"
            for _ in range(20):
                work = (work @ work).tanh()
            found.append(values["x"] + 0 * work[0, 0])
            del values  # its memory may be taken for the next, but not before this was computed
        assert torch.equal(torch.cat(found).cpu(), ROWS)


def test_a_buffer_that_the_loader_fills_again(cuda):
    buffer = torch.empty(1000, 1000).pin_memory()

    def one_buffer():
        for i in range(8):
            yield {"x": buffer.fill_(i)}

    found = [values["x"].unique().tolist() for values in Prefetched(one_buffer(), cuda)]
    assert found == [[float(i)] for i in range(8)]


@pytest.mark.parametrize("networks", ["bf16", "f16"])
def test_networks_in_half_precision(cuda, networks):
    exact, half = regression(cuda), regression(cuda)
    values = batch(cuda)
    with precision(networks, matmul="high"):
        for _ in range(5):
            half.train(values)
    for _ in range(5):
        exact.train(values)
    half.check()
    assert half.skipped_steps == 0
    for a, b in zip(exact.trained_parameters, half.trained_parameters, strict=True):
        assert a.dtype == b.dtype == torch.float32
        torch.testing.assert_close(a, b, rtol=0.05, atol=0.01)


def test_tf32_inside_and_float32_after(cuda):
    before = torch.get_float32_matmul_precision()
    a = torch.randn(512, 512, device=cuda)
    exact = a.double() @ a.double()

    def error():
        return ((a @ a).double() - exact).abs().max().item()

    with precision("f32", matmul="highest"):
        least = error()
        with precision("f32", matmul="high"):
            assert error() >= least
        assert error() == least
    assert torch.get_float32_matmul_precision() == before


def test_overflows_are_left_out_on_the_device(cuda):
    model = regression(cuda)
    with precision("f16", scaler={"init_scale": 2.0**100, "backoff_factor": 2.0**-90}):
        before = [w.detach().clone() for w in model.trained_parameters]
        model.train(batch(cuda))
        assert all(torch.equal(a, b) for a, b in zip(before, model.trained_parameters, strict=True))
        assert model.skipped_steps == 1
        model.train(batch(cuda))
    model.check()
    assert model.skipped_steps == 1
    assert not all(torch.equal(a, b) for a, b in zip(before, model.trained_parameters, strict=True))


def test_memory_of_the_allocator(cuda):
    size = 4096
    model = regression(cuda)
    report = memory_report(model, batch(cuda, size))
    hidden = size * 64 * 4
    assert report.live >= hidden  # the output of the tanh
    assert report.terms[0].peak >= report.live
    assert report.backward_peak >= report.live
    assert report.live < 4 * hidden
    assert [w.grad for w in model.trained_parameters] == [None] * 4


def test_convolutions_with_channels_last(cuda):
    torch.manual_seed(0)
    p = Normal("p(y|x)", loc=nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8 * 36, 2)), scale=1.0).to(cuda)
    model = Model(-p.log_prob().mean(), optimizer=optim.Adam)
    values = {"x": torch.randn(4, 3, 8, 8, device=cuda), "y": torch.zeros(4, 2, device=cuda)}
    first = model.train(values)
    assert channels_last(model) is model
    second = model.train(values)
    model.check()
    assert second < first
