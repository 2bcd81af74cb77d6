"""The programs of the gallery, stopped as soon as their models have made a few steps."""

import contextlib
import io
import runpy
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import matplotlib
import torch
from matplotlib.figure import Figure
from reads import host_reads
from torch import nn

from pixyz.core import Distribution
from pixyz.cuda_utils import capturable
from pixyz.models import Model
from pixyz.models.lightning import LightningModel

GALLERY = Path(__file__).parents[1] / "docs" / "gallery"
MODELS = {
    "aae": 1,
    "beta_vae": 7,
    "bigan": 1,
    "cvae": 2,
    "cyclegan": 1,
    "discrete_vae": 9,
    "dmm": 1,
    "factor_vae": 2,
    "flow_gan": 3,
    "flow_prior_vae": 4,
    "flows_2d": 3,
    "gan": 2,
    "glow": 1,
    "gmm": 1,
    "hierarchical_vae": 3,
    "hmm": 1,
    "infogan": 1,
    "iwae": 5,
    "made": 2,
    "mmvae": 1,
    "mvae": 1,
    "poe": 1,
    "ppca": 1,
    "rpgan": 2,
    "ssvae": 3,
    "training": 1,
    "vae": 1,
    "vae_gan": 1,
    "vqvae": 2,
    "vrnn": 2,
    "wgan_gp": 1,
}
"""How many models each program trains."""

LARGE = ("beta_vae", "discrete_vae", "flows_2d", "glow", "iwae")
"""Programs whose first steps take longest."""

SOME = ("ppca", "gmm", "vae", "vqvae", "flow_prior_vae", "hmm", "vrnn", "ssvae", "gan", "vae_gan", "wgan_gp", "training")
"""Programs that have, among them, all kinds of steps."""


class StoppedError(Exception):
    """All models of a program have made their steps."""


class Watched:
    """The models of one program.

    Args:
        count: how many there are.
        steps: how many each makes.
        observed: of how many `capturable` is asked.

    Attributes:
        reads: the host reads of their steps, from the second on.
        obstacles: what `capturable` says.
        made: how many models have made their steps.
    """

    def __init__(self, count: int, steps: int, observed: int) -> None:
        self.reads: dict[str, int] = {}
        self.obstacles: list[str] = []
        self.made = 0
        self._count = count
        self._steps = steps
        self._observed = observed
        self._models: list[Model] = []
        self._calls: dict[int, int] = {}
        self._returned: dict[int, object] = {}
        self._is_observing = False

    def step(self, model: Model, values: object, take: Callable[[], object]) -> object:
        """Takes one of the first steps of a model; later ones give what the last has given."""
        if self._is_observing:
            return take()
        if model not in self._models:
            self._models.append(model)
            model.validate = "deferred"
        calls = self._calls[id(model)] = self._calls.get(id(model), 0) + 1
        if calls > self._steps:
            return self._returned[id(model)]
        with host_reads() if calls > 1 else contextlib.nullcontext({}) as found:
            self._returned[id(model)] = take()
        model.check()  # what a step has sent to the host is read there
        for line, number in found.items():
            self.reads[line] = self.reads.get(line, 0) + number
        if calls == self._steps:
            self.made += 1
            if len(self._models) <= self._observed:
                self._is_observing = True
                self.obstacles.append(str(capturable(model, values)))
                self._is_observing = False
            if len(self._models) == self._count:
                raise StoppedError
        return self._returned[id(model)]


def first_steps(name: str, *, steps: int = 2, observed: int = 0) -> Watched:
    """Runs a program until its models have made their steps."""
    watched = Watched(MODELS[name], steps, observed)
    with tempfile.TemporaryDirectory() as folder, _cut_short(watched), _program(name, folder), contextlib.suppress(StoppedError):
        runpy.run_path(str(GALLERY / f"{name}.py"), run_name="__main__")
    return watched


def first_steps_of_all() -> dict[str, tuple[int, dict[str, int], list[str]]]:
    """Of each program but the large ones how many models there were, their host reads, and what `capturable` says of one, for some.

    All run in one process, which imports what they need once.
    """
    found = {}
    for name in sorted({*MODELS}.difference(LARGE)):
        watched = first_steps(name, observed=int(name in SOME))
        found[name] = (watched.made, watched.reads, watched.obstacles)
    return found


def first_steps_with_a_read(name: str) -> tuple[dict[str, int], list[str]]:
    """Those of a program whose layers read a number at each step."""
    plain = nn.Linear.forward

    def reading(layer: nn.Linear, x: torch.Tensor) -> torch.Tensor:
        x.sum().item()
        return plain(layer, x)

    with mock.patch.object(nn.Linear, "forward", reading):
        watched = first_steps(name, observed=1)
    return watched.reads, watched.obstacles


@contextlib.contextmanager
def _cut_short(watched: Watched) -> Iterator[None]:
    """Inside, few steps are taken, and few samples drawn."""
    train, training_step, nats = Model.train, LightningModel.training_step, Distribution.log_likelihood
    of_model = Model.log_likelihood

    def step(model, values, **options):
        return watched.step(model, values, lambda: train(model, values, **options))

    def lightnings_step(module, batch, index):
        return watched.step(module.model, batch, lambda: training_step(module, batch, index))

    def few_nats(p, values, **options):
        return nats(p, values, **{k: 2 if k == "num_samples" else v for k, v in options.items()})

    def few_of_model(model, values, **options):
        return of_model(model, values, **{**options, "num_samples": 2})

    with contextlib.ExitStack() as stack:
        for owner, word, function in (
            (Model, "train", step),
            (LightningModel, "training_step", lightnings_step),
            (Distribution, "log_likelihood", few_nats),
            (Model, "log_likelihood", few_of_model),
            (Figure, "savefig", lambda *_, **__: None),
        ):
            stack.enter_context(mock.patch.object(owner, word, function))
        yield


@contextlib.contextmanager
def _program(name: str, folder: str) -> Iterator[None]:
    """Inside, the command line is that of the program, and what it prints goes nowhere."""
    text = (GALLERY / f"{name}.py").read_text("utf-8")
    line = [f"{name}.py", "--out", folder]
    line += ["--epochs", "1"] if "args.epochs" in text else ["--steps", "5"]
    line += [word for option in ("--seeds", "--repeats") if f'"{option}"' in text for word in (option, "1")]
    matplotlib.use("agg")
    with (
        mock.patch.object(sys, "argv", line),
        mock.patch.object(sys, "path", [str(GALLERY), *sys.path]),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        yield


def main() -> None:
    """Every model of every program, also of the large ones."""
    for name, count in MODELS.items():
        watched = first_steps(name, steps=4, observed=count)
        print(f"{name:16} {watched.made} of {count} models, {sum(watched.reads.values())} host reads")
        for found in (*watched.reads, *dict.fromkeys(watched.obstacles)):
            print(f"    {found}")
        if watched.made != count or watched.reads or set(watched.obstacles) != {NONE}:
            raise SystemExit(1)


NONE = "nothing in this step would break a CUDA graph"

if __name__ == "__main__":
    main()
