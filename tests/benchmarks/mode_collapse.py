"""Which modes a GAN leaves out: 25 Gaussians on a grid and 8 on a ring, under four games, five seeds each.

    python tests/benchmarks/mode_collapse.py                                # an hour on one core; goes on where it was stopped
    python tests/benchmarks/mode_collapse.py --only relativistic --data grid --seeds 1

The grid has a spacing of 2 and σ = .05, the ring a radius of 2 and σ = .02. Of 2,500 samples those within 3 σ of a mode are of high
quality, and a mode is covered if at least 20 of them are its own. All games have the same networks and Adam whose rate falls to 0 along a
cosine, each has the steps that it needs, and all are judged by their averaged generator. Each run is kept in a file of its own in the
folder `--out`, and not repeated; the table shows all seeds that are there, and samples.png those of the first.
"""

import argparse
import math
import statistics
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR

from pixyz.core import Distribution, Loss, Parameter
from pixyz.distributions import Deterministic, Normal
from pixyz.gan import (
    GAN,
    R1,
    R2,
    AdversarialJensenShannon,
    AdversarialNonSaturating,
    AdversarialWassersteinDistance,
    GradientPenalty,
    Packed,
    RelativisticPairing,
)

SAMPLES, ENOUGH = 2500, 20
BATCH, WIDTH, LATENT, RATE = 256, 128, 2, 1e-3


class Data(NamedTuple):
    """A mixture of Gaussians. `unit` is about its standard deviation, in which the networks count; `steps` is how long one trains."""

    modes: Tensor
    sigma: float
    unit: float
    steps: int

    def draw(self, count: int) -> Tensor:
        return self.modes[torch.randint(len(self.modes), (count,))] + self.sigma * torch.randn(count, 2)

    def judge(self, x: Tensor) -> tuple[int, float]:
        """How many modes are covered, and the share of samples of high quality."""
        distance, nearest = torch.cdist(x, self.modes).min(1)
        good = distance <= 3 * self.sigma
        counts = torch.bincount(nearest[good], minlength=len(self.modes))
        return int((counts >= ENOUGH).sum()), good.double().mean().item()


class Variant(NamedTuple):
    """A game, with what it needs. `longer` is how many times the steps of the relativistic one it takes."""

    loss: Callable[[Distribution, Distribution], Loss]
    options: dict[str, Any] = {}
    pack: int = 1
    longer: int = 1


def relativistic(p: Distribution, d: Distribution) -> Loss:
    return RelativisticPairing(p, d) - 0.5 * Parameter("gamma") * (R1(p, d) + R2(p, d))


def wasserstein(p: Distribution, d: Distribution) -> Loss:
    return AdversarialWassersteinDistance(p, d) - 0.1 * GradientPenalty(p, d)


def ring() -> Tensor:
    angles = torch.arange(8) * (2 * math.pi / 8)
    return 2 * torch.stack([angles.cos(), angles.sin()], -1)


DATA = {
    "grid": Data(torch.cartesian_prod(*[torch.arange(-4.0, 5.0, 2.0)] * 2), sigma=0.05, unit=2 * math.sqrt(2), steps=8000),
    "ring": Data(ring(), sigma=0.02, unit=math.sqrt(2), steps=3000),
}
# The penalty of the slope falls, in the first 60 % of the steps, to where it lets d be as steep as the modes are narrow.
FALLING, FIRST, LAST = 0.6, 0.1, 1e-4
VARIANTS = {
    "relativistic": Variant(relativistic, {"schedules": {"gamma": lambda share: FIRST * (LAST / FIRST) ** min(share / FALLING, 1.0)}}),
    "minimax": Variant(AdversarialJensenShannon),
    "PacGAN(2)": Variant(AdversarialNonSaturating, pack=2, longer=4),
    "WGAN-GP": Variant(wasserstein, longer=2),
}


def network(features: int, out: int, activation: Callable[[], nn.Module]) -> nn.Sequential:
    sizes = [features, WIDTH, WIDTH, WIDTH]
    hidden = [layer for a, b in pairwise(sizes) for layer in (nn.Linear(a, b), activation())]
    return nn.Sequential(*hidden, nn.Linear(WIDTH, out))


def make(variant: Variant, steps: int) -> tuple[GAN, Distribution]:
    prior = Normal("p(z)", loc=0.0, scale=1.0, dim=LATENT)
    p = (Deterministic("p(x|z)", x=network(LATENT, 2, nn.ReLU)) * prior).marginalize_var("z")
    judge: nn.Module = network(2 * variant.pack, 1, lambda: nn.LeakyReLU(0.2))
    d = Deterministic("d(t|x)", t=judge if variant.pack == 1 else Packed(judge, variant.pack))
    options = dict(variant.options)
    schedules = {name: (lambda step, of=of: of(step / steps)) for name, of in options.pop("schedules", {}).items()}
    model = GAN(
        p,
        d,
        loss=variant.loss,
        optimizer_params={"lr": RATE, "betas": (0.0, 0.9)},
        scheduler=CosineAnnealingLR,
        scheduler_params={"T_max": steps},
        d_scheduler=CosineAnnealingLR,
        d_scheduler_params={"T_max": steps},
        ema=0.999,
        schedules=schedules,
        **options,
    )
    return model, p


def run(data: Data, variant: Variant, seed: int) -> dict[str, Any]:
    torch.manual_seed(seed)
    steps = data.steps * variant.longer
    model, p = make(variant, steps)
    start = time.process_time()
    for _ in range(steps):
        model.train({"x": data.draw(BATCH) / data.unit})
    seconds = time.process_time() - start
    with model.averaged(), torch.no_grad():
        x = data.unit * p.sample(batch_size=SAMPLES)["x"]
    covered, quality = data.judge(x)
    return {"covered": covered, "quality": quality, "seconds": seconds, "samples": x}


def table(found: dict[tuple[str, str, int], dict[str, Any]]) -> None:
    for name, data in DATA.items():
        judged = f"modes of {len(data.modes)}: each seed, median   high quality, %: each seed, median   s per run"
        print(f"\n{f'{name}, batches of {BATCH}':<24}{'steps':>7}   {judged}")
        for title, variant in VARIANTS.items():
            rows = [row for (of, by, _), row in sorted(found.items(), key=lambda item: item[0][2]) if (of, by) == (name, title)]
            if not rows:
                continue
            modes, quality = [r["covered"] for r in rows], [100 * r["quality"] for r in rows]
            each = " ".join(f"{m:>2}" for m in modes), " ".join(f"{q:>4.1f}" for q in quality)
            medians = [statistics.median(column) for column in (modes, quality, [r["seconds"] for r in rows])]
            required = "   required: 25, 90 %" if (name, title) == ("grid", "relativistic") else ""
            print(
                f"  {title:<22}{data.steps * variant.longer:>7,}   {each[0]:>20} {medians[0]:>8.0f}   {each[1]:>26} {medians[1]:>9.1f}"
                f"{medians[2]:>12.0f}{required}"
            )


def picture(found: dict[tuple[str, str, int], dict[str, Any]], path: Path) -> None:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(len(DATA), len(VARIANTS) + 1, figsize=(3 * (len(VARIANTS) + 1), 3 * len(DATA)), squeeze=False)
    for row, (name, data) in zip(axes, DATA.items(), strict=True):
        torch.manual_seed(0)
        shown = {"data": data.draw(SAMPLES)}
        for variant in VARIANTS:
            seeds = [seed for of, by, seed in found if (of, by) == (name, variant)]
            if seeds:
                shown[variant] = found[name, variant, min(seeds)]["samples"]
        for axis in row:
            axis.set_axis_off()
        for axis, (title, x) in zip(row, shown.items(), strict=False):
            axis.scatter(*x.T, s=1.5, alpha=0.4, linewidths=0)
            reach = 1.25 * data.modes.abs().max().item()
            axis.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", title=title)
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=[*VARIANTS], help="one game")
    parser.add_argument("--data", choices=[*DATA], help="one mixture")
    parser.add_argument("--seeds", type=int, default=5, help="how many")
    parser.add_argument("--out", type=Path, default=Path("out/mode_collapse"), help="the folder of the runs and the picture")
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    found = {}
    for name, data in DATA.items():
        for title, variant in VARIANTS.items():
            for seed in range(args.seeds):
                path = args.out / f"{name}-{title}-{seed}.pt"
                if not path.exists() and args.data in (None, name) and args.only in (None, title):
                    torch.save(row := run(data, variant, seed), path)
                    print(f"{path.stem}: {row['covered']} modes, {row['quality']:.1%}, {row['seconds']:.0f} s", flush=True)
                if path.exists():
                    found[name, title, seed] = torch.load(path)
    print(f"\ntorch {torch.__version__}, one thread")
    table(found)
    picture(found, args.out / "samples.png")


if __name__ == "__main__":
    main()
