"""How close a neural spline flow comes to densities in the plane whose entropy is known, beside zuko's of the same size and steps.

    python tests/benchmarks/densities.py              # some five minutes; needs zuko
    python tests/benchmarks/densities.py --steps 500

5 couplings of 8 bins with networks of 64 × 64, Adam at 3e-3 going down to 0 by a cosine, 512 fresh draws in each step, one thread. What is
shown is the mean negative log-likelihood of fresh draws, the same for both, less the entropy of the truth: KL[truth||p], in nats, with its
standard error. Ours is the program of the gallery, `docs/gallery/flows_2d.py`, which has the data too.
"""

import argparse
import runpy
import time
from collections.abc import Callable
from pathlib import Path

import torch
import zuko
from torch import Tensor, optim
from tqdm import trange

GALLERY = runpy.run_path(str(Path(__file__).parents[2] / "docs" / "gallery" / "flows_2d.py"))
REQUIRED = {"eight normals": 0.05, "two moons": 0.05, "checkerboard": 0.15}


def of_zuko(draw: Callable[[int], Tensor], steps: int, name: str) -> Callable[[Tensor], Tensor]:
    """The log-density of zuko's couplings, which have two passes; trained as ours, on data that are standardised, as ours do themselves."""
    flow = zuko.flows.NSF(2, transforms=5, bins=8, passes=2, hidden_features=(64, 64))
    deviation, mean = torch.std_mean(draw(512), 0)

    def log_prob(x: Tensor) -> Tensor:
        return flow().log_prob((x - mean) / deviation) - deviation.log().sum()

    optimizer = optim.Adam(flow.parameters(), lr=3e-3)
    scheduler = optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
    for _ in trange(steps, desc=f"{name}, zuko"):
        loss = -log_prob(draw(512)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
    return log_prob


def of_pixyz(draw: Callable[[int], Tensor], steps: int, name: str) -> Callable[[Tensor], Tensor]:
    p = GALLERY["fitted"](draw, steps, "cpu", f"{name}, pixyz")
    return lambda x: p.log_likelihood({"x": x})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--test", type=int, default=200_000, help="how many fresh draws both are measured on")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for name, (draw, entropy, _) in GALLERY["DATA"].items():
        torch.manual_seed(args.seed + 1)
        test = draw(args.test)
        cells = ""
        for fit in (of_pixyz, of_zuko):
            torch.manual_seed(args.seed)
            start = time.perf_counter()
            score = fit(draw, args.steps, name)
            seconds = time.perf_counter() - start
            with torch.no_grad():
                above = -torch.cat([score(x) for x in test.split(20_000)]) - entropy
            cells += f"{above.mean():>10.4f} ± {above.std() / args.test**0.5:.4f}{seconds:>7.0f}"
        rows.append(f"{name:<16}{cells}   ≤ {REQUIRED[name]:.2f}")
    print(f"torch {torch.__version__}, zuko {zuko.__version__}, one thread, {args.steps} steps, seed {args.seed}")
    print(f"\n{'KL[truth||p]':<16}{'pixyz, nats':>19}{'s':>7}{'zuko, nats':>19}{'s':>7}   required", *rows, sep="\n")


if __name__ == "__main__":
    main()
