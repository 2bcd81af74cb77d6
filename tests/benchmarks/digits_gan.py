"""How well a GAN's digits pass for real ones: scikit-learn's 8 × 8 images, beside noise and beside other real images.

    python tests/benchmarks/digits_gan.py           # some minutes on one core

Trained on half of the 1,797 images, `RandomState(0).permutation(1797)`; all rows are compared with the other half. Accuracy is that of
the classifier two-sample test: 1 for what is always told from real images, about 1/2 for what passes. Relativistic pairing with both
penalties.
"""

import argparse
import time

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR

from pixyz.distributions import Deterministic, Normal
from pixyz.gan import GAN, R1, R2, RelativisticPairing, classifier_two_sample_test, sample_quality

BATCH, LATENT, WIDTH, GAMMA = 128, 32, 256, 0.1


def layers(features: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(features, WIDTH), nn.LeakyReLU(0.2), nn.Linear(WIDTH, WIDTH), nn.LeakyReLU(0.2), nn.Linear(WIDTH, out))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    images = torch.tensor(load_digits().data / 16, dtype=torch.float32)
    order = torch.from_numpy(np.random.RandomState(0).permutation(len(images)))
    train, held_out = images[order[: len(images) // 2]], images[order[len(images) // 2 :]]

    p = (
        Deterministic("p(x|z)", x=nn.Sequential(layers(LATENT, 64), nn.Sigmoid())) * Normal("p(z)", loc=0.0, scale=1.0, dim=LATENT)
    ).marginalize_var("z")
    d = Deterministic("d(t|x)", t=layers(64, 1))
    falling = {"scheduler": CosineAnnealingLR, "scheduler_params": {"T_max": args.steps}}
    model = GAN(
        p,
        d,
        loss=lambda p, d: RelativisticPairing(p, d) - 0.5 * GAMMA * (R1(p, d) + R2(p, d)),
        optimizer_params={"lr": 1e-3, "betas": (0.0, 0.9)},
        ema=0.999,
        **falling,
        **{f"d_{name}": value for name, value in falling.items()},
    )
    start = time.process_time()
    for _ in range(args.steps):
        model.train({"x": train[torch.randint(len(train), (BATCH,))]})
    seconds = time.process_time() - start
    with model.averaged(), torch.no_grad():
        drawn = p.sample(batch_size=len(held_out))["x"]

    print(f"torch {torch.__version__}, one thread, {args.steps:,} steps of {BATCH}, {seconds:.0f} s, seed {args.seed}")
    for name, x in {"noise": torch.rand_like(drawn), "GAN": drawn, "real, those trained on": train}.items():
        print(f"{name:<24}{classifier_two_sample_test(x, held_out)};  {sample_quality(held_out, x)}")


if __name__ == "__main__":
    main()
