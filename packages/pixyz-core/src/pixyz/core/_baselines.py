"""Baselines of the score function that have parameters or a state: modules that the user passes, called and trained."""

import inspect
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ._autocast import call_network
from ._bindings import Binding, Factor
from ._dims import Dims, Term, align
from ._errors import KindError, ShapeError
from ._given_networks import GivenNetworks
from ._methods import Estimator, Score
from ._network import fold_inputs, unfold_output
from ._scope import Scope
from ._variables import is_number


class MovingAverage(nn.Module):
    r"""The mean of past costs as a baseline of the score function: `Score(baseline=MovingAverage())`.

    $$m \leftarrow \gamma m + (1-\gamma)\,\overline{f}$$

    divided by the weight that it has so far, so that it is right from the second step on. It is updated at every evaluation in training
    mode, as batch normalisation is, after it was used; `eval()` freezes it.

    Args:
        decay: γ in [0, 1); about 1/(1-γ) evaluations count.

    Raises:
        KindError: for another decay.

    Source:
        Mnih and Gregor (2014), section 2.3, https://arxiv.org/abs/1402.0030
    """

    mean: Tensor
    weight: Tensor

    def __init__(self, decay: float = 0.9) -> None:
        super().__init__()
        if not is_number(decay) or not 0 <= decay < 1:
            raise KindError(f"MovingAverage: decay must be a number in [0, 1); got {decay!r}.")
        self.decay = decay
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("weight", torch.zeros(()))

    def forward(self) -> Tensor:
        """The baseline, `()`; 0 before the first update."""
        return self.mean / self.weight.clamp_min(torch.finfo(self.weight.dtype).tiny)

    @torch.no_grad()
    def observe(self, costs: Tensor) -> None:
        """Takes the costs of one evaluation into the mean."""
        self.mean.mul_(self.decay).add_((1 - self.decay) * costs.mean())
        self.weight.mul_(self.decay).add_(1 - self.decay)

    def extra_repr(self) -> str:
        """The decay."""
        return f"decay={self.decay}"


class Baseline(NamedTuple):
    """A baseline in one evaluation: its value, and the module that it comes from, None for a number."""

    value: Term
    module: Any

    def train_on(self, score: Tensor, dims: Dims, advantage: Tensor) -> Tensor:
        """The score term, unchanged, whose backward also trains the baseline towards the cost."""
        if not self.value.tensor.requires_grad:
            return score
        value = align(self.value.tensor, self.value.dims, dims).expand(score.shape)
        return _Trained.apply(score, value, advantage.expand(score.shape))  # type: ignore[no-any-return]

    def observe(self, costs: Tensor) -> None:
        """Tells the module of the costs, if it wants to know and is in training mode."""
        if hasattr(self.module, "observe") and self.module.training:
            self.module.observe(costs)


class BaselineNetwork:
    """The module of a `Score`, ready to be called in an evaluation.

    Args:
        module: what the user gave.
        names: the variables that it may see: none that is drawn below the factor.
        text: `baseline[q(b|x)]`.

    Attributes:
        sees_values: whether it is called with any.
    """

    def __init__(self, module: nn.Module, names: tuple[str, ...], text: str) -> None:
        self.module = module
        self.text = text
        self._names = names if inspect.signature(module.forward).parameters else ()
        self.sees_values = bool(self._names)
        self._network = GivenNetworks({"baseline": module}, self._names, text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BaselineNetwork) and (self.module, self._names) == (other.module, other._names)

    def __hash__(self) -> int:
        return hash((self.module, self._names))

    def predict(self, scope: Scope) -> Baseline:
        """Its value given the variables, which get no gradient from it."""
        inputs = tuple([_still(scope.bindings[name]) for name in self._names])
        arguments, dims, sizes = fold_inputs(self._names, inputs, self._names, self.text)
        value = call_network(self._network, **arguments)["baseline"]
        if not isinstance(value, Tensor) or not value.is_floating_point():
            came = f"one of {value.dtype}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
            raise KindError(f"{self.text}: a baseline must return a tensor of real numbers; it returned {came}.")
        count = next(iter(arguments.values())).shape[0] if arguments else 1
        if value.numel() != count or value.shape[:1] not in ((count,), ()):
            raise ShapeError(
                f"{self.text}: for {count} inputs a baseline must return one value for each, ({count},); it returned {tuple(value.shape)}."
            )
        value = value.reshape(count)
        return Baseline(unfold_output(value, dims, sizes) if arguments else Term(value.squeeze(0), ()), self.module)


def baseline_networks(estimators: tuple[Estimator | None, ...], factors: tuple[Factor, ...]) -> tuple[BaselineNetwork | None, ...]:
    """For each factor, the module that is its baseline, if it has one."""
    outer = tuple(dict.fromkeys(c for f in factors for c in f.cond_var if not any(c in g.var for g in factors)))
    return tuple(
        BaselineNetwork(e.baseline, f.cond_var or outer, f"baseline[{f}]")
        if isinstance(e, Score) and isinstance(e.baseline, nn.Module)
        else None
        for e, f in zip(estimators, factors)
    )


def holder(networks: tuple[BaselineNetwork | None, ...]) -> nn.Module:
    """What registers the modules, under their texts, with whatever the expectation is a part of."""
    module = nn.Module()
    module._modules.update({n.text: n.module for n in networks if n is not None})
    return module


def constant_baseline(estimator: Estimator) -> Baseline | None:
    """A number as a baseline."""
    number = estimator.baseline if isinstance(estimator, Score) else None
    return Baseline(Term(torch.tensor(float(number)), ()), None) if is_number(number) else None  # type: ignore[arg-type]


class _Trained(torch.autograd.Function):
    """The identity in its first argument; to the second it gives the gradient of (cost - baseline)², times the size of what comes back.

    So the sign of the loss does not matter, and the weight of each datum does.
    """

    @staticmethod
    def forward(ctx: Any, score: Tensor, value: Tensor, advantage: Tensor) -> Tensor:
        ctx.save_for_backward(advantage)
        return score.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        (gradient,) = gradients
        (advantage,) = ctx.saved_tensors
        return gradient, -2 * gradient.abs() * advantage, None


def _still(b: Binding) -> Binding:
    return b._replace(tensor=b.tensor.detach())
