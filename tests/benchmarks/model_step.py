"""What one training step of a VAE costs: Pixyz against the same model written by hand with torch.distributions.

    python tests/benchmarks/model_step.py                         # some minutes; needs torch and this repository's packages
    python tests/benchmarks/model_step.py --no-compile            # without the rows of torch.compile
    python tests/benchmarks/model_step.py --make-peers ~/peers    # once: environments with the published pixyz and with Pyro
    python tests/benchmarks/model_step.py --peers ~/peers         # their rows as well

A step is the loss, zero_grad, backward and the step of Adam, torch's default one, on one thread; `Model` takes the fused one.
All rows have the same layers, start from the same weights and are checked to give the same loss. Every round takes a few steps of each row,
in a new order; a run is the median over its rounds, its ratio the quotient of two medians, and the table shows the median of the runs'
ratios, with the least and the largest. The rows "again" are the hand-written model against itself: the noise. A peer is compared with a
hand-written model of its own process. The bounds are printed, and never asserted: a clock is no test. Run it where nothing else runs.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from handwritten import HandVAE
from interleaved import HAND, REPEATS, SIZES, WARM_UP, Size, Step, batch_of, interleave, measure, seeded, training_step
from pixyz_networks import Decoder, Encoder, networks
from torch import Tensor, nn

from pixyz.core import Loss
from pixyz.distributions import Normal
from pixyz.losses import KullbackLeibler
from pixyz.models import VAE, Model

HERE = Path(__file__).resolve().parent
CONSTRAINTS = HERE.parents[1] / "constraints.txt"
PEERS = {"pixyz": "pixyz==0.3.3", "pyro": "pyro-ppl==1.9.2"}
OLDER_PIP = {"pixyz": "pip<24.1"}  # a later pip refuses the metadata of pixyz 0.3.3

OURS, HAND_COMPILED, OURS_COMPILED = "pixyz, eager", "hand-written, compiled", "pixyz, compiled"
TRAINED, TRAINED_COMPILED = "pixyz, Model.train", "pixyz, Model(compile=True).train"
REQUIRED = {
    "small": {OURS: (HAND, 1.10), TRAINED: (HAND, 1.10), OURS_COMPILED: (HAND_COMPILED, 1.05), TRAINED_COMPILED: (HAND, 0.60)},
    "large": {OURS: (HAND, 1.05), TRAINED: (HAND, 1.05), OURS_COMPILED: (HAND_COMPILED, 1.05), TRAINED_COMPILED: (HAND, 0.85)},
}

ADAM: dict[str, Any] = {"optimizer": torch.optim.Adam, "optimizer_params": {"lr": 1e-3}}

IMPORT_REQUIRED = 0.15
IMPORT_RUNS = 5
IMPORT_PROGRAM = "import time, torch; t = time.perf_counter(); import pixyz.distributions; print(time.perf_counter() - t)"

Medians = dict[str, list[float]]


class Row(NamedTuple):
    """The figures of one row, one for each run."""

    microseconds: list[float]
    vs_eager: list[float]
    vs_compiled: list[float] | None
    required: str


def distributions(size: Size) -> tuple[Encoder, Decoder, Normal]:
    """q(z|x), p(x|z) and p(z), with the weights of the hand-written model."""
    q, p = seeded(networks, size)
    return q, p, Normal(var=["z"], loc=0.0, scale=1.0, dim=size.latent, name="p_prior")


def our_loss(size: Size) -> Loss:
    q, p, prior = distributions(size)
    return -(p.log_prob().expectation(q) - KullbackLeibler(q, prior)).mean()


def trained_by(model: Model, x: Tensor) -> Step:
    return lambda: model.train(batch_of(x))


def build_eager(size: Size, x: Tensor) -> dict[str, Step]:
    hand, again, ours = seeded(HandVAE, size), seeded(HandVAE, size), our_loss(size)
    return {
        HAND: training_step(hand, hand, x),
        f"{HAND}, again": training_step(again, again, x),
        OURS: training_step(ours, ours.estimate, x),
        TRAINED: trained_by(Model(our_loss(size), **ADAM), x),
        "pixyz, VAE.train": trained_by(VAE(*distributions(size), **ADAM), x),
    }


def build_all(size: Size, x: Tensor) -> dict[str, Step]:
    torch.compiler.reset()
    hand, again, ours = compiled(seeded(HandVAE, size)), compiled(seeded(HandVAE, size)), compiled(our_loss(size))
    return {
        **build_eager(size, x),
        HAND_COMPILED: training_step(hand, hand, x),
        f"{HAND_COMPILED}, again": training_step(again, again, x),
        OURS_COMPILED: training_step(ours, ours.estimate, x),
        TRAINED_COMPILED: trained_by(Model(our_loss(size), **ADAM, compile=True), x),
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
        step = trained_by(Model(our_loss(size), **ADAM), x)
        for _ in range(WARM_UP):
            step()
        alone.append(interleave({TRAINED: step}, repeats=repeats, shuffler=random.Random(0))[TRAINED])
        with_lightning.append(step_of_fit(Model(our_loss(size), **ADAM), x, repeats))
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


def ratios(above: list[float], below: list[float]) -> list[float]:
    return [a / b for a, b in zip(above, below, strict=True)]


def make_rows(size_name: str, medians: Medians) -> dict[str, Row]:
    rows = {}
    for name, times in medians.items():
        is_compiled = name.startswith((HAND_COMPILED, OURS_COMPILED, TRAINED_COMPILED))
        vs_compiled = ratios(times, medians[HAND_COMPILED]) if is_compiled else None
        reference, bound = REQUIRED[size_name].get(name, ("", 0.0))
        required = f"≤ {bound:.2f} × {reference}" if reference else ""
        rows[name] = Row(times, ratios(times, medians[HAND]), vs_compiled, required)
    return rows


def make_peer_rows(medians: Medians) -> dict[str, Row]:
    return {name: Row(times, ratios(times, medians[HAND]), None, "") for name, times in medians.items() if name != HAND}


def show_ratio(values: list[float] | None) -> str:
    return "" if values is None else f"{statistics.median(values):.3f} ({min(values):.3f}–{max(values):.3f})"


def print_table(title: str, rows: dict[str, Row]) -> None:
    cells = [["", "µs per step", "/ hand-written eager", "/ hand-written compiled", "required"]]
    for name, row in rows.items():
        cells.append(
            [name, f"{statistics.median(row.microseconds):.0f}", show_ratio(row.vs_eager), show_ratio(row.vs_compiled), row.required]
        )
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    print(f"\n{title}")
    for first, *rest in cells:
        middle = "  ".join(cell.rjust(width) for cell, width in zip(rest[:-1], widths[1:-1], strict=True))
        print(f"  {first.ljust(widths[0])}  {middle}  {rest[-1]}".rstrip())


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

    print(f"torch {torch.__version__}, 1 thread, {args.runs} runs")
    tables = {}
    for name, size in SIZES.items():
        repeats = args.repeats or REPEATS[name]
        medians = measure(build_eager if args.no_compile else build_all, size, runs=args.runs, repeats=repeats)
        rows = make_rows(name, medians)
        for peer in peers.values():
            rows |= make_peer_rows(peer["sizes"][name])
        shape = ", ".join(f"{key} {value}" for key, value in size._asdict().items())
        print_table(f"{name}: {shape}; {repeats} rounds in a run", rows)
        tables[name] = {"size": size._asdict(), "repeats": repeats, "rows": {key: row._asdict() for key, row in rows.items()}}
    print("\nwhat Lightning's loop adds, with its data loading")
    for name, size in SIZES.items():
        print_fit(name, size, args.runs, args.repeats or REPEATS[name])
    print_imports(imports)
    if args.json:
        found = {"torch": torch.__version__, "runs": args.runs, "tables": tables, "import_seconds": imports, "peers": peers}
        args.json.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
