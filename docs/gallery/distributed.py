"""A VAE on several processes: every one with its share of each batch, or with its share of the weights as well.

    torchrun --standalone --nproc-per-node 2 docs/gallery/distributed.py --epochs 20 --out out/distributed
    torchrun --standalone --nproc-per-node 2 docs/gallery/distributed.py --sharded

One process for each GPU; without any, on the CPU.
"""

import argparse
import os
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.distributed import checkpoint
from torch.distributed.checkpoint.state_dict import get_model_state_dict
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler
from tqdm import trange

from pixyz.distributions import Bernoulli, Normal
from pixyz.losses import ELBO


class Heads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 16))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        loc, scale = self.net(x).chunk(2, -1)
        return {"loc": loc, "scale": F.softplus(scale) + 1e-3}


def train(args: argparse.Namespace, device: torch.device) -> None:
    rank, world = dist.get_rank(), dist.get_world_size()
    torch.manual_seed(0)  # the same weights everywhere
    p = Bernoulli("p(x|z)", logits=nn.Sequential(nn.Linear(8, 128), nn.ReLU(), nn.Linear(128, 64)))
    q = Normal("q(z|x)", Heads())
    loss = -ELBO(p * Normal("p(z)", loc=0.0, scale=1.0, dim=8), q, kl="analytic").mean()
    loss.to(device)
    if args.sharded:
        for leaf in loss.children():
            if any(True for _ in leaf.parameters()):
                fully_shard(leaf)
        parallel = fully_shard(loss)
    else:
        parallel = DistributedDataParallel(loss)
    optimizer = torch.optim.Adam(loss.parameters(), lr=3e-3)

    torch.manual_seed(1 + rank)  # other draws on every process
    x = torch.tensor(load_digits().data / 16 > 0.5, dtype=torch.float32)
    sampler = DistributedSampler(x, world, rank)
    loader = DataLoader(x, batch_size=100 // world, sampler=sampler)
    for epoch in (bar := trange(args.epochs, desc=f"{world} processes", unit="epoch", disable=rank != 0)):
        sampler.set_epoch(epoch)
        total = torch.zeros((), device=device)
        for batch in loader:
            optimizer.zero_grad()
            value = parallel({"x": batch.to(device)}, validate=False)  # a check would wait for the device
            value.backward()
            optimizer.step()
            total += value.detach()
        dist.all_reduce(total)
        mean = total.item() / len(loader) / world
        bar.set_postfix(nats=f"{mean:.2f}")
    args.out.mkdir(parents=True, exist_ok=True)
    checkpoint.save({"loss": get_model_state_dict(loss)}, checkpoint_id=args.out / "checkpoint")
    if rank == 0:
        kind = "with its share of the weights" if args.sharded else "with all weights"
        print(f"{world} processes on {device.type}, each {kind}: {mean:.2f} nats per image after {args.epochs} epochs")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--sharded", action="store_true", help="shard the weights, gradients and optimiser too (FSDP2)")
    parser.add_argument("--out", type=Path, default=Path("out/distributed"))
    args = parser.parse_args()
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if torch.cuda.is_available() else torch.device("cpu")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    # What refers to the processes is gone before they part: else one may wait for the others at its end.
    train(args, device)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
