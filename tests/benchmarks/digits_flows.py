"""Bits per dimension of scikit-learn's digits, with their 17 grey levels and uniform noise, under flows; and what the training takes.

    python tests/benchmarks/digits_flows.py           # some ten minutes on one core
    python tests/benchmarks/digits_flows.py --only NSF

1,500 images, of which 150 are set aside to stop by, and 297 held out, of `RandomState(0).permutation(1797)`. Weight decay, dropout,
averaged weights; what is best on the 150 is kept, and the held-out images are looked at once. Data, training and measure are those of the
gallery, `docs/gallery/glow.py`.
"""

import argparse
import runpy
import time
from pathlib import Path

import torch
from torch import nn

from pixyz.flows import MAF, NSF, RealNVP

GALLERY = runpy.run_path(str(Path(__file__).parents[2] / "docs" / "gallery" / "glow.py"))


def dropout(rate):
    return lambda: nn.Sequential(nn.ReLU(), nn.Dropout(rate))


# Each with its epochs, and the bits that are required of it.
MODELS = {
    "RealNVP": (lambda: RealNVP("p(y)", features=64, transforms=8, hidden=[256, 256], activation=dropout(0.3)), 100, 2.2),
    "MAF": (lambda: MAF("p(y)", features=64, transforms=5, hidden=[256, 256], activation=dropout(0.3)), 100, 2.2),
    "NSF": (lambda: NSF("p(y)", features=64, transforms=3, hidden=[256, 256], kind="autoregressive", activation=dropout(0.3)), 100, 2.0),
    "Glow": (GALLERY["glow"], 60, None),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=[*MODELS], help="one model")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    data = GALLERY["digits"]()
    print(f"torch {torch.__version__}, one thread, seed {args.seed}\n\n{'held out':<28}{'bits/dim':>15}{'s':>8}   required")
    print(f"{'independent pixels, exact':<28}{GALLERY['bits_of_independent_pixels'](data):>15.4f}")
    for name, (make, epochs, required) in MODELS.items():
        if args.only not in (None, name):
            continue
        torch.manual_seed(args.seed)
        p = make()
        shaped = {part: v.reshape(-1, *p.generator.out_shape) for part, v in data.items()}
        start = time.perf_counter()
        model = GALLERY["fit"](GALLERY["of_numbers_in_0_1"](p), shaped, epochs, name)
        seconds = time.perf_counter() - start
        found = GALLERY["bits"](model, shaped["test"], 10)
        bound = "" if required is None else f"   ≤ {required:.2f}"
        print(f"{name:<28}{found:>15.4f}{seconds:>8.0f}{bound}", flush=True)


if __name__ == "__main__":
    main()
