"""A loss is a module: `DistributedDataParallel(loss)` trains it on several processes."""

from datetime import timedelta

import torch
from torch import nn
from torch.multiprocessing import spawn
from torch.nn.parallel import DistributedDataParallel

from pixyz.distributions import Normal
from pixyz.losses import ELBO


def model():
    torch.manual_seed(0)
    p = Normal("p(x|z)", loc=nn.Linear(2, 3), scale=0.7) * Normal("p(z)", loc=0.0, scale=1.0, dim=2)
    q = Normal("q(z|x)", loc=nn.Linear(3, 2), scale=1e-6)  # as good as without noise, so that processes can be compared
    return -ELBO(p, q, kl="analytic").mean(), torch.randn(8, 3)


def gradients_of_half(rank: int, folder: str) -> dict[str, torch.Tensor]:
    torch.distributed.init_process_group(
        "gloo", rank=rank, world_size=2, init_method=f"file://{folder}/meeting", timeout=timedelta(minutes=5)
    )
    loss, x = model()
    parallel = DistributedDataParallel(loss)
    parallel({"x": x[4 * rank : 4 * rank + 4]}).backward()
    del parallel  # before the processes part: else one may wait for the other at its end
    torch.distributed.destroy_process_group()
    return {name: w.grad for name, w in loss.named_parameters()}


def other_process(_: int, folder: str) -> None:
    torch.set_num_threads(1)
    gradients_of_half(1, folder)


def test_gradients_of_two_processes_are_those_of_the_whole_batch(tmp_path):
    """This process is one of them, which saves the start of another."""
    other = spawn(other_process, (str(tmp_path),), nprocs=1, join=False)
    found = gradients_of_half(0, str(tmp_path))
    assert other.join()
    loss, x = model()
    loss.estimate({"x": x}).backward()
    assert sorted(found) == sorted(name for name, _ in loss.named_parameters())
    for name, w in loss.named_parameters():
        torch.testing.assert_close(found[name], w.grad, rtol=1e-3, atol=1e-4)
