"""A loss is a module: `DistributedDataParallel(loss)` trains it on several processes."""

import os
import socket

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


def worker(rank: int, port: int, folder: str) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
    loss, x = model()
    parallel = DistributedDataParallel(loss)
    parallel({"x": x[4 * rank : 4 * rank + 4]}).backward()
    if rank == 0:
        torch.save({name: w.grad for name, w in loss.named_parameters()}, f"{folder}/gradients.pt")
    del parallel  # before the processes part: else one may wait for the other at its end
    torch.distributed.destroy_process_group()


def test_gradients_of_two_processes_are_those_of_the_whole_batch(tmp_path):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    spawn(worker, (port, str(tmp_path)), nprocs=2)
    loss, x = model()
    loss.estimate({"x": x}).backward()
    found = torch.load(tmp_path / "gradients.pt")
    assert sorted(found) == sorted(name for name, _ in loss.named_parameters())
    for name, w in loss.named_parameters():
        torch.testing.assert_close(found[name], w.grad, rtol=1e-3, atol=1e-4)
