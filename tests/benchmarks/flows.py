"""What flows cost: a training step and a draw, beside zuko and normflows, eager and compiled.

    python tests/benchmarks/flows.py                # some minutes; needs zuko and normflows
    python tests/benchmarks/flows.py --no-compile

8 features, 256 data, 5 transforms with networks of 64 × 64, one thread. A step is the mean negative log-density, its gradient and a step
of torch's fused Adam. All rows are measured in one process, interleaved; a run is the median over its rounds, and the table shows the
median of the runs' ratios to the faster peer. The networks of normflows' splines and masked layers are residual ones of one block, which
have the same layers and one more; its masked layer is reversed, so that it too scores by one pass and draws by as many as there are
features.
"""

import argparse
import random
import statistics
import warnings
from collections.abc import Callable

import normflows
import torch
import zuko
from interleaved import Step, interleave, training_step
from torch import Tensor, nn

from pixyz import flows as ours
from pixyz.losses import NLL

FEATURES, BATCH, TRANSFORMS, HIDDEN, BINS = 8, 256, 5, [64, 64], 8


class Peer(nn.Module):
    """A flow of another library: its negative log-density, and its draws."""

    def __init__(self, flow: nn.Module, library: str) -> None:
        super().__init__()
        self.flow, self.library = flow, library

    def forward(self, x: Tensor) -> Tensor:
        return -(self.flow.log_prob(x) if self.library == "normflows" else self.flow().log_prob(x)).mean()

    def sample(self) -> Tensor:
        return self.flow.sample(BATCH)[0] if self.library == "normflows" else self.flow().rsample((BATCH,))


class Ours(nn.Module):
    def __init__(self, p: nn.Module) -> None:
        super().__init__()
        p.initialize({"x": torch.randn(BATCH, FEATURES)})
        self.p, self.loss = p, NLL(p).mean()

    def forward(self, x: Tensor) -> Tensor:
        return self.loss({"x": x})

    def sample(self) -> Tensor:
        return self.p.sample(batch_size=BATCH)["x"]


def of_normflows(kind: str) -> nn.Module:
    layers = []
    for i in range(TRANSFORMS):
        if kind == "RealNVP":
            half = FEATURES // 2
            layers += [normflows.flows.AffineCouplingBlock(normflows.nets.MLP([half, *HIDDEN, 2 * half], init_zeros=True))]
            layers += [normflows.flows.Permute(FEATURES, mode="swap")]
        elif kind == "MAF":
            masked = normflows.flows.MaskedAffineAutoregressive(FEATURES, HIDDEN[0], num_blocks=1)
            layers += [normflows.flows.Reverse(masked), normflows.flows.Permute(FEATURES)]
        elif kind == "NSF, coupling":
            layers += [normflows.flows.CoupledRationalQuadraticSpline(FEATURES, 1, HIDDEN[0], num_bins=BINS, reverse_mask=bool(i % 2))]
        else:
            layers += [normflows.flows.AutoregressiveRationalQuadraticSpline(FEATURES, 1, HIDDEN[0], num_bins=BINS)]
    return normflows.NormalizingFlow(normflows.distributions.DiagGaussian(FEATURES, trainable=False), layers)


SIZE = {"features": FEATURES, "transforms": TRANSFORMS}
MODELS: dict[str, dict[str, Callable[[], nn.Module]]] = {
    "RealNVP": {
        "pixyz": lambda: Ours(ours.RealNVP("p(x)", **SIZE, hidden=HIDDEN)),
        "zuko": lambda: Peer(zuko.flows.RealNVP(**SIZE, hidden_features=HIDDEN), "zuko"),
    },
    "MAF": {
        "pixyz": lambda: Ours(ours.MAF("p(x)", **SIZE, hidden=HIDDEN)),
        "zuko": lambda: Peer(zuko.flows.MAF(**SIZE, hidden_features=HIDDEN), "zuko"),
    },
    "NSF, coupling": {
        "pixyz": lambda: Ours(ours.NSF("p(x)", **SIZE, hidden=HIDDEN, bins=BINS)),
        "zuko": lambda: Peer(zuko.flows.NSF(**SIZE, hidden_features=HIDDEN, bins=BINS, passes=2), "zuko"),
    },
    "NSF, autoregressive": {
        "pixyz": lambda: Ours(ours.NSF("p(x)", **SIZE, hidden=HIDDEN, bins=BINS, kind="autoregressive")),
        "zuko": lambda: Peer(zuko.flows.NSF(**SIZE, hidden_features=HIDDEN, bins=BINS), "zuko"),
    },
}
for name, makers in MODELS.items():
    makers["normflows"] = lambda name=name: Peer(of_normflows(name), "normflows")


def step_of(module: nn.Module, x: Tensor) -> Step:
    return training_step(module, lambda values: module(values["x"]), x)


def drawing(module: nn.Module, function: Callable[[], Tensor]) -> Step:
    def step() -> Tensor:
        with torch.no_grad():
            return function()

    return step


def steps_of(model: str, compiled: bool) -> dict[tuple[str, str], Step]:
    """The steps of all libraries that can be made; what a library cannot compile is left out, and said."""
    torch.manual_seed(0)
    x = torch.randn(BATCH, FEATURES)
    found: dict[tuple[str, str], Step] = {}
    for library, make in MODELS[model].items():
        module = make()
        sample = module.sample
        if compiled:
            torch.compiler.reset()
            module.compile()
            sample = torch.compile(module.sample)
        for what, step in (("step", step_of(module, x)), ("draw", drawing(module, sample))):
            try:
                for _ in range(5):
                    step()
                found[what, library] = step
            except Exception as error:
                print(f"  {model}, {what}: {library} {'does not compile' if compiled else 'fails'}: {str(error).splitlines()[0][:100]}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=40)
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--only", choices=[*MODELS], help="one model")
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    shuffler = random.Random(0)
    print(f"torch {torch.__version__}, 1 thread, {args.runs} runs of {args.repeats} rounds; µs, and the ratio to the faster peer")
    for compiled in (False, True) if not args.no_compile else (False,):
        print(f"\n{'compiled' if compiled else 'eager':<30}{'pixyz':>8}{'zuko':>8}{'normflows':>11}   ratio")
        for model in MODELS:
            if args.only not in (None, model):
                continue
            steps = steps_of(model, compiled)
            runs = [
                interleave({f"{w}/{n}": s for (w, n), s in steps.items()}, repeats=args.repeats, shuffler=shuffler)
                for _ in range(args.runs)
            ]
            for what in ("step", "draw"):
                row = {n: statistics.median(run[f"{what}/{n}"] for run in runs) for n in MODELS[model] if (what, n) in steps}
                ratios = [run[f"{what}/pixyz"] / min(run[f"{what}/{n}"] for n in row if n != "pixyz") for run in runs if len(row) > 1]
                shown = f"{statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})" if ratios else ""
                cells = "".join(
                    f"{row[n]:>{w}.0f}" if n in row else f"{'—':>{w}}" for n, w in (("pixyz", 8), ("zuko", 8), ("normflows", 11))
                )
                print(f"{model + ', ' + what:<30}{cells}   {shown}")


if __name__ == "__main__":
    main()
