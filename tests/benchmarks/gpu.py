"""What a training step costs on a GPU: by hand and with Pixyz; eager, compiled, and as one CUDA graph.

    python tests/benchmarks/gpu.py                                # two or three minutes on a GPU
    python tests/benchmarks/gpu.py --device cpu                   # under two minutes: all that runs without a GPU
    python tests/benchmarks/gpu.py --sizes conv realnvp --out gpu.jsonl
    python tests/benchmarks/gpu.py --table gpu.jsonl              # the table of a file, in Markdown

It needs torch and this repository's packages, installed or on PYTHONPATH, and nothing else. Data are made once, on the device. All rows
start from the same weights, have torch's fused Adam with the same rate, and are checked to give the same losses in their first steps, each
with a batch of its own. By hand means: as an expert writes it, with logits, without distribution objects or checks; the CUDA graph by hand
holds the whole step, and each batch is copied to where it reads. The rows of Pixyz check on the device, as they do on a GPU; on the CPU
too, where a model by itself lets the host look before the step.

In each round all rows take some steps, in a new order, and the clock is read when the device has done them; on the CPU it counts the time
of the process. The ratios are those of medians, of three parts of the rounds, with the least and the largest. Compiled rows come when all
sizes have their other rows, because compilation takes longest; launches are counted last, for the profiler may leave the device slower. The
file of `--out`, or gpu.jsonl in the folder $OUT, has each figure as soon as it is there.

launches: calls of the host that launch a kernel, a graph, a copy or a fill; on the CPU the operations that are no views. kernels: what the
device runs. syncs: the warnings of torch's `set_sync_debug_mode`; on the CPU the reads of a tensor by the host. waits: all calls that wait
for the device, and copies of memory that is not pinned. peak MiB: of all that a row allocates, its weights, its warm-up and its capture.
The bounds are printed, and never asserted. A row that fails says why in a line, and the exit status is then 1.
"""

import argparse
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from gpu_capture import CapturedByHand
from gpu_costs import Step, launches, memory_from_now, milliseconds, run_steps, synchronisations, wait_for
from gpu_programs import BY_DEFAULT, PROGRAMS, Program
from gpu_report import (
    AGAIN,
    BY_HAND,
    COMPILED_BY_HAND,
    COMPILED_GRAPHED,
    GRAPH_BY_HAND,
    GRAPHED,
    ON_CUDA,
    OURS,
    OURS_COMPILED,
    Report,
    bounds,
    markdown,
    read,
)
from interleaved import WARM_UP, other_loss
from torch import Tensor

from pixyz.cuda_utils import graph_report, graphed
from pixyz.models import Model

SECONDS = {"cuda": 170.0, "cpu": 105.0}
STEPS = {"cuda": 50, "cpu": 5}
ROUNDS = {"cuda": 30, "cpu": 15}
COUNTED = 10
"""The steps of which launches and synchronisations are counted."""
FIRST_COMPILE = 20.0
"""The seconds that must be left for the first row that is compiled; for later ones as many as the longest took."""
SAME, SAME_COMPILED = 1e-4, 2e-2  # relative; compiled code may draw other samples, and the sides of a compiled game each their own
NEEDS_CUDA = "needs CUDA"


class Made(NamedTuple):
    """A row.

    Attributes:
        step: its step; None if there can be none here.
        note: why there is none, or none of its own.
        began: `time.monotonic()` when its weights were there, and compilation or capture could begin.
    """

    step: Step | None
    note: str = ""
    began: float = 0.0


def now(device: torch.device) -> float:
    wait_for(device)
    return time.monotonic()


def by_hand(program: Program, device: torch.device, example: Tensor, **options: bool) -> Made:
    step = program.by_hand(device, **options)
    return Made(step, began=now(device))


def graph_by_hand(program: Program, device: torch.device, example: Tensor) -> Made:
    if device.type != "cuda":
        return Made(None, NEEDS_CUDA)
    step = program.by_hand(device, capturable=True)
    began = now(device)
    return Made(CapturedByHand(step, example), began=began)


def model_of(program: Program, device: torch.device, example: Tensor, **options: Any) -> Model:
    """Our model, which checks on the device, as on a GPU."""
    model = program.ours(device, validate=True if device.type == "cuda" else "deferred", **options)
    if model.needs_start:
        model.initialize({"x": example})
    return model


def step_of(model: Model) -> Step:
    return lambda x: model.train({"x": x})


def ours(program: Program, device: torch.device, example: Tensor, **options: Any) -> Made:
    step = step_of(model_of(program, device, example, **options))
    return Made(step, began=now(device))


def ours_graphed(program: Program, device: torch.device, example: Tensor, **options: Any) -> Made:
    eager = model_of(program, device, example, **options)
    began = now(device)
    model = graphed(eager, {"x": example})
    why_not = graph_report(model).unavailable
    return Made(step_of(model), "" if why_not is None else f"no graph: {why_not}", began)


Make = Callable[[Program, torch.device, Tensor], Made]

EAGER: dict[str, Make] = {BY_HAND: by_hand, GRAPH_BY_HAND: graph_by_hand, AGAIN: graph_by_hand, OURS: ours, GRAPHED: ours_graphed}
"""Those that are not compiled; the graph by hand is there twice, for the noise."""
COMPILED: dict[str, Make] = {
    COMPILED_BY_HAND: partial(by_hand, compiles=True),
    OURS_COMPILED: partial(ours, compile=True),
    COMPILED_GRAPHED: partial(ours_graphed, compile=True),
}


class Benchmark:
    """The measurement of some sizes on one device.

    Args:
        report: where figures go.
        device: the device.
        steps: the steps of a turn.
        rounds: the rounds, at most.
        seconds: for the whole, about.
    """

    def __init__(self, report: Report, device: torch.device, *, steps: int, rounds: int, seconds: float) -> None:
        self.report, self.device, self.steps, self.rounds = report, device, steps, rounds
        self.until = time.monotonic() + seconds
        self.batches: dict[str, list[Tensor]] = {}
        self.made: dict[tuple[str, str], Step] = {}
        self._expected: dict[str, list[float]] = {}
        self._longest = FIRST_COMPILE

    @property
    def left(self) -> float:
        return self.until - time.monotonic()

    def run(self, sizes: Sequence[str], *, compiles: bool) -> None:
        """All phases; a table is printed when a size has its figures, and at the end."""
        for number, size in enumerate(sizes):
            self.make(size, EAGER)
            share = (0.4 if compiles else 0.9) / (len(sizes) - number)
            self.attempt(size, "", partial(self.time, rows=EAGER, share=share))
        for size in sizes if compiles else ():
            self.make(size, COMPILED)
            self.attempt(size, "", partial(self.time, rows=[BY_HAND, GRAPH_BY_HAND, *COMPILED], share=0.3))
        for size, row in [*self.made]:
            self.attempt(size, row, self.count_launches)
        print(f"\n{markdown(self.report)}\n")
        for bound, said in bounds(self.report):
            print(f"{bound:70} {said}")
        print(flush=True)

    def attempt(self, size: str, row: str, what: Callable[[str, str], None]) -> None:
        """What has to do with one row. If it fails, the row says so in one line, and the others go on."""
        try:
            what(size, row)
        except Exception as error:
            first = (str(error).strip().splitlines() or [""])[0]
            self.report.add(size, row, error=f"{type(error).__name__}: {first}")
            self.made.pop((size, row), None)
            print(f"  {size}, {row}: {type(error).__name__}: {first}", flush=True)

    def make(self, size: str, rows: dict[str, Make]) -> None:
        """Makes the rows, and checks their losses."""
        if size not in self.batches:
            self.batches[size] = PROGRAMS[size].batches(self.device)
            print(f"\n{size}: {PROGRAMS[size].title}", flush=True)
        for row, make in rows.items():
            if row in ON_CUDA and self.device.type != "cuda":
                continue
            self.attempt(size, row, partial(self.make_row, make=make))

    def make_row(self, size: str, row: str, *, make: Make) -> None:
        """Makes a row: its peak of memory, the seconds until its first step is done, its first losses, its synchronisations."""
        compiles, batches = row in COMPILED, self.batches[size]
        if compiles and self.left < 1.2 * self._longest:
            self.report.add(size, row, note="not measured: no time left to compile")
            return
        memory = memory_from_now(self.device)
        step, note, began = make(PROGRAMS[size], self.device, batches[0])
        if step is not None:
            losses = first_losses(step, batches[:1])
            taken = now(self.device) - began
            self._longest = max(self._longest, taken) if compiles else self._longest
            self.need_same(size, losses + first_losses(step, batches[1:], begin=1), SAME_COMPILED if compiles else SAME)
        if step is None or note:
            self.report.add(size, row, note=note)
            print(f"  {row}: {note}", flush=True)
            return
        # Compiled code has its own count, which the CPU's does not see.
        sync_free = None if compiles and self.device.type == "cpu" else synchronisations(step, batches, self.device, count=COUNTED)
        figures = {"syncs": sync_free, "peak_mib": memory.peak()}
        if row in (GRAPH_BY_HAND, AGAIN, GRAPHED):  # of the compiled one it is mostly compilation
            figures["capture_s"] = taken
        elif compiles:
            figures["compile_s"] = taken
        self.made[size, row] = step
        self.report.add(size, row, **figures)
        print(f"  {row}: the losses agree; {taken:.2f} s until the first step was done", flush=True)

    def need_same(self, size: str, losses: list[float], tolerance: float) -> None:
        """Raises an error unless these are the losses of the first row."""
        for number, (loss, expected) in enumerate(zip(losses, self._expected.setdefault(size, losses), strict=True)):
            if other := other_loss(loss, expected, tolerance):
                raise ValueError(f"loss {number} {other}")

    def time(self, size: str, _: str, *, rows: Iterable[str], share: float) -> None:
        """Times the rows that were made, in turns, and prints their table. `share` of the time that is left is theirs."""
        for row in rows:
            if (size, row) in self.made:
                self.attempt(size, row, self.warm_up)
        steps = {row: self.made[size, row] for row in rows if (size, row) in self.made}
        wanted = [row for row in steps if row in COMPILED or COMPILED_BY_HAND not in rows]  # the references have their figures already
        if not wanted:
            return
        until = time.monotonic() + share * max(self.left, 0.0)
        taken = milliseconds(steps, self.batches[size], self.device, count=self.steps, rounds=self.rounds, until=until)
        parts = {row: medians_of_parts(times) for row, times in taken.items()}
        for row in wanted:
            figures: dict[str, Any] = {"ms": statistics.median(taken[row]), "rounds": len(taken[row])}
            for name, reference in (("to_hand", BY_HAND), ("to_graph", GRAPH_BY_HAND)):
                if reference in parts:
                    figures[name] = [a / b for a, b in zip(parts[row], parts[reference], strict=True)]
            self.report.add(size, row, **figures)
        print(f"\n{markdown(self.report, [size])}\n", flush=True)

    def warm_up(self, size: str, row: str) -> None:
        """A few steps; what went wrong on the device is raised here."""
        run_steps(self.made[size, row], self.batches[size], WARM_UP)
        wait_for(self.device)

    def count_launches(self, size: str, row: str) -> None:
        if row in COMPILED and self.device.type == "cpu":
            return
        run_steps(self.made[size, row], self.batches[size], 1)
        counted = launches(self.made[size, row], self.batches[size], self.device, count=COUNTED)
        self.report.add(size, row, launches=counted.calls, kernels=counted.kernels, waits=counted.waits)


def first_losses(step: Step, batches: Sequence[Tensor], begin: int = 0) -> list[float]:
    """The losses of steps with these batches, each from a seed of its own."""
    found: list[float] = []
    for number, x in enumerate(batches, begin):
        torch.manual_seed(100 + number)
        losses = step(x)
        found += [float(v) for loss in (losses if isinstance(losses, tuple) else (losses,)) for v in loss.reshape(-1)]
    return found


def medians_of_parts(times: Sequence[float], parts: int = 3) -> list[float]:
    """The medians of the first, the middle and the last rounds, if there are enough."""
    parts = min(parts, len(times))
    return [statistics.median(times[len(times) * i // parts : len(times) * (i + 1) // parts]) for i in range(parts)]


def machine(device: torch.device) -> dict[str, Any]:
    found: dict[str, Any] = {"torch": torch.__version__, "python": platform.python_version(), "device": device.type, "date": time.ctime()}
    if device.type == "cuda":
        return {**found, "gpu": torch.cuda.get_device_name(device), "cuda": torch.version.cuda}
    return {**found, "cores": os.cpu_count(), "threads": torch.get_num_threads()}


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1, cpu")
    parser.add_argument("--sizes", nargs="+", choices=[*PROGRAMS], default=[*BY_DEFAULT], help=f"by default {' '.join(BY_DEFAULT)}")
    parser.add_argument("--steps", type=int, help=f"steps in a turn; by default {STEPS}")
    parser.add_argument("--rounds", type=int, help=f"rounds at most; by default {ROUNDS}")
    parser.add_argument("--seconds", type=float, help=f"for the whole, about; by default {SECONDS}")
    parser.add_argument("--no-compile", action="store_true", help="leave out the compiled rows")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="write the figures to FILE; by default gpu.jsonl in the folder $OUT, if that is set"
    )
    parser.add_argument("--table", type=Path, metavar="FILE", help="print the table of FILE, and stop")
    args = parser.parse_args(arguments)
    if args.out is None and os.environ.get("OUT"):
        args.out = Path(os.environ["OUT"]) / "gpu.jsonl"
    return args


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status: 1 if a row has failed."""
    args = parse_arguments(arguments)
    if args.table:
        print(markdown(read(args.table)))
        return 0
    device = torch.device(args.device)
    if device.type not in STEPS:
        print(f"The device is cuda or cpu; got {device}.")
        return 2
    if device.type == "cuda" and not torch.cuda.is_available():
        print("There is no CUDA device here; --device cpu runs what runs without one.")
        return 2
    if device.type == "cpu":
        torch.set_num_threads(1)
    report = Report(machine(device), args.out)
    print(", ".join(f"{key} {value}" for key, value in report.machine.items()), flush=True)
    kind = device.type
    benchmark = Benchmark(
        report,
        device,
        steps=args.steps or STEPS[kind],
        rounds=args.rounds or ROUNDS[kind],
        seconds=SECONDS[kind] if args.seconds is None else args.seconds,
    )
    benchmark.run(args.sizes, compiles=not args.no_compile)
    return int(report.has_failed)


if __name__ == "__main__":
    sys.exit(main())
