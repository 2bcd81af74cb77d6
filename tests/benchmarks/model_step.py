"""What one training step of a VAE costs: Pixyz against the same model by hand, with torch.distributions and lean.

    python tests/benchmarks/model_step.py                         # some minutes; needs torch and this repository's packages
    python tests/benchmarks/model_step.py --no-compile            # without the rows of torch.compile
    python tests/benchmarks/model_step.py --make-peers ~/peers    # once: environments with the published pixyz and with Pyro
    python tests/benchmarks/model_step.py --peers ~/peers         # their rows as well

A step is the loss, zero_grad, backward and a step of torch's fused Adam, on one thread. All rows have the same layers and the same
optimiser, start from the same weights and are checked to give the same loss. The two references are written by hand: one with
torch.distributions and its validation, on probabilities, one lean: on logits, without distribution objects or checks. Every round takes a
few steps of each row, in a new order; a run is the median over its rounds, its ratio the quotient of two medians, and the table shows the
median of the runs' ratios, with the least and the largest. The rows "again" are a reference once more: a ratio that is no further from 1
than theirs is called noise. A peer is compared with a hand-written model of its own process. The bounds are printed, and never asserted: a
clock is no test. Run it where nothing else runs.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from handwritten import HandVAE, LeanVAE
from interleaved import ADAM, HAND, LEAN, REPEATS, SIZES, WARM_UP, Size, Step, batch_of, interleave, measure, seeded, training_step
from pixyz_networks import Decoder, DecoderOfLogits, Encoder, networks
from table import Medians, again, print_table, ratios, show_ratio
from torch import Tensor, nn

from pixyz.core import Loss
from pixyz.distributions import Normal
from pixyz.losses import KullbackLeibler
from pixyz.models import VAE, Model

HERE = Path(__file__).resolve().parent
CONSTRAINTS = HERE.parents[1] / "constraints.txt"
PEERS = {"pixyz": "pixyz==0.3.3", "pyro": "pyro-ppl==1.9.2"}
OLDER_PIP = {"pixyz": "pip<24.1"}  # a later pip refuses the metadata of pixyz 0.3.3

OURS, TRAINED, TRAINED_LOGITS = "pixyz, loss", "pixyz, Model.train", "pixyz, Model.train, logits"
LEAN_COMPILED, OURS_COMPILED = "lean, compiled", "pixyz, loss, compiled"
TRAINED_COMPILED = "pixyz, Model(compile=True).train, logits"
REQUIRED = {
    "small": {OURS: (HAND, 1.10), TRAINED: (HAND, 1.10), TRAINED_COMPILED: (LEAN_COMPILED, 1.05)},
    "large": {OURS: (HAND, 1.05), TRAINED: (HAND, 1.05), TRAINED_COMPILED: (LEAN_COMPILED, 1.05)},
}

OPTIMIZER: dict[str, Any] = {"optimizer": torch.optim.Adam, "optimizer_params": ADAM}

IMPORT_REQUIRED = 0.15
IMPORT_RUNS = 5
IMPORT_PROGRAM = "import time, torch; t = time.perf_counter(); import pixyz.distributions; print(time.perf_counter() - t)"


def distributions(size: Size, decoder: type[Decoder] = Decoder) -> tuple[Encoder, Decoder, Normal]:
    """q(z|x), p(x|z) and p(z), with the weights of the hand-written model."""
    q, p = seeded(partial(networks, decoder=decoder), size)
    return q, p, Normal(var=["z"], loc=0.0, scale=1.0, dim=size.latent, name="p_prior")


def our_loss(size: Size, decoder: type[Decoder] = Decoder) -> Loss:
    q, p, prior = distributions(size, decoder)
    return -(p.log_prob().expectation(q) - KullbackLeibler(q, prior)).mean()


def by_hand(make: Callable[[Size], nn.Module], size: Size, x: Tensor, compiles: bool = False) -> Step:
    vae = seeded(make, size)
    return training_step(vae, compiled(vae) if compiles else vae, x)


def trained_by(model: Model, x: Tensor) -> Step:
    return lambda: model.train(batch_of(x))


def build_eager(size: Size, x: Tensor) -> dict[str, Step]:
    ours = our_loss(size)
    return {
        HAND: by_hand(HandVAE, size, x),
        again(HAND): by_hand(HandVAE, size, x),
        LEAN: by_hand(LeanVAE, size, x),
        again(LEAN): by_hand(LeanVAE, size, x),
        OURS: training_step(ours, ours.estimate, x),
        TRAINED: trained_by(Model(our_loss(size), **OPTIMIZER), x),
        "pixyz, VAE.train": trained_by(VAE(*distributions(size), **OPTIMIZER), x),
        TRAINED_LOGITS: trained_by(Model(our_loss(size, DecoderOfLogits), **OPTIMIZER), x),
    }


def build_all(size: Size, x: Tensor) -> dict[str, Step]:
    torch.compiler.reset()
    ours = compiled(our_loss(size))
    return {
        **build_eager(size, x),
        LEAN_COMPILED: by_hand(LeanVAE, size, x, compiles=True),
        again(LEAN_COMPILED): by_hand(LeanVAE, size, x, compiles=True),
        OURS_COMPILED: training_step(ours, ours.estimate, x),
        TRAINED_COMPILED: trained_by(Model(our_loss(size, DecoderOfLogits), **OPTIMIZER, compile=True), x),
    }


def step_of_fit(model: Model, x: Tensor, count: int) -> float:
    """The median microseconds from the end of one step of `fit` to that of the next; Lightning runs the loop."""
    from lightning.pytorch import Callback

    class Clock(Callback):
        ends: list[float] = []

        def on_train_batch_end(self, *told: Any) -> None:
            self.ends.append(time.perf_counter())

    clock = Clock()
    model.fit([batch_of(x) for _ in range(count)], epochs=1, progress=False, callbacks=[clock], log_every=count)
    return statistics.median(b - a for a, b in zip(clock.ends[WARM_UP:], clock.ends[WARM_UP + 1 :], strict=False)) * 1e6


def print_fit(size_name: str, size: Size, runs: int, repeats: int) -> None:
    """A step of `fit` beside one of `Model.train`, in turns."""
    torch.manual_seed(1)
    x = (torch.rand(size.batch, size.data) > 0.5).float()
    alone, with_lightning = [], []
    for _ in range(runs):
        step = trained_by(Model(our_loss(size), **OPTIMIZER), x)
        for _ in range(WARM_UP):
            step()
        alone.append(interleave({TRAINED: step}, repeats=repeats, shuffler=random.Random(0))[TRAINED])
        with_lightning.append(step_of_fit(Model(our_loss(size), **OPTIMIZER), x, repeats))
    more = [b - a for a, b in zip(alone, with_lightning, strict=True)]
    ratio = show_ratio(ratios(with_lightning, alone))
    fitted, added = statistics.median(with_lightning), statistics.median(more)
    print(f"  {size_name}: a step of fit {fitted:.0f} µs, {ratio} × Model.train; {added:.0f} µs more")


def compiled(module: nn.Module) -> nn.Module:
    module.compile(fullgraph=True)
    return module


def make_peers(directory: Path) -> None:
    """An environment for every peer, `directory/NAME`."""
    for name, requirement in PEERS.items():
        subprocess.run([sys.executable, "-m", "venv", str(directory / name)], check=True)
        install = [str(peer_python(directory, name)), "-m", "pip", "install"]
        if name in OLDER_PIP:
            subprocess.run([*install, OLDER_PIP[name]], check=True)
        subprocess.run([*install, "--no-compile", "--constraint", str(CONSTRAINTS), "torch", requirement], check=True)


def peer_python(directory: Path, name: str) -> Path:
    return directory.absolute() / name / "bin" / "python"


def clean_environment() -> dict[str, str]:
    """The environment without PYTHONPATH, which may hold this repository."""
    return {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}


def run_peer(directory: Path, name: str, options: list[str]) -> dict[str, Any]:
    program = [str(peer_python(directory, name)), str(HERE / f"peer_{name}.py"), *options]
    done = subprocess.run(program, env=clean_environment(), stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def import_seconds(python: str | Path, environment: dict[str, str] | None = None) -> list[float]:
    """Seconds that `import pixyz.distributions` adds to `import torch`, in fresh processes after one that fills the caches."""
    run = partial(subprocess.run, [str(python), "-c", IMPORT_PROGRAM], env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return [float(run().stdout) for _ in range(1 + IMPORT_RUNS)][1:]


def of_peers(medians: Medians, peer: Medians) -> Medians:
    """A peer's rows, in units of its own process's hand-written model times ours: its ratios to that one are those of its process."""
    scale = ratios(medians[HAND], peer[HAND])
    return {row: [time * s for time, s in zip(times, scale, strict=True)] for row, times in peer.items() if row != HAND}


def print_imports(imports: dict[str, list[float]]) -> None:
    print("\nseconds that `import pixyz.distributions` adds to `import torch`")
    for name, seconds in imports.items():
        required = f"  required < {IMPORT_REQUIRED}" if name == "pixyz" else ""
        print(f"  {name}: {statistics.median(seconds):.3f} ({min(seconds):.3f}–{max(seconds):.3f}){required}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5, help="how often the whole measurement is repeated")
    parser.add_argument("--repeats", type=int, help=f"rounds in a run; by default {REPEATS}")
    parser.add_argument("--no-compile", action="store_true", help="leave out the compiled rows")
    parser.add_argument("--peers", type=Path, metavar="DIR", help="measure the peers whose environments are in DIR")
    parser.add_argument("--make-peers", type=Path, metavar="DIR", help="make the peers' environments in DIR, and stop")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to FILE")
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()
    if args.make_peers:
        return make_peers(args.make_peers)
    options = ["--runs", str(args.runs), *(["--repeats", str(args.repeats)] if args.repeats else [])]
    peers = {name: run_peer(args.peers, name, options) for name in PEERS} if args.peers else {}
    imports = {"pixyz": import_seconds(sys.executable)}
    if args.peers:
        imports[peers["pixyz"]["package"]] = import_seconds(peer_python(args.peers, "pixyz"), clean_environment())

    print(f"torch {torch.__version__}, 1 thread, {args.runs} runs, fused Adam in all rows")
    tables = {}
    for name, size in SIZES.items():
        repeats = args.repeats or REPEATS[name]
        medians = measure(build_eager if args.no_compile else build_all, size, runs=args.runs, repeats=repeats)
        for peer in peers.values():
            medians |= of_peers(medians, peer["sizes"][name])
        shape = ", ".join(f"{key} {value}" for key, value in size._asdict().items())
        references = [HAND, LEAN, *([] if args.no_compile else [LEAN_COMPILED])]
        print_table(f"{name}: {shape}; {repeats} rounds in a run", medians, references, required=REQUIRED[name])
        tables[name] = {"size": size._asdict(), "repeats": repeats, "medians": medians}
    print("\nwhat Lightning's loop adds, with its data loading")
    for name, size in SIZES.items():
        print_fit(name, size, args.runs, args.repeats or REPEATS[name])
    print_imports(imports)
    if args.json:
        found = {"torch": torch.__version__, "runs": args.runs, "tables": tables, "import_seconds": imports, "peers": peers}
        args.json.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
