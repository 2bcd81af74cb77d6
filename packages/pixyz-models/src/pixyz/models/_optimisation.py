"""One of the optimisers of a model, as it is written down."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from torch import optim
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from pixyz.core import Distribution, KindError, Loss, ParameterError

from ._options import need_finite_options

MakesOptimizer: TypeAlias = Callable[..., optim.Optimizer]
MakesScheduler: TypeAlias = Callable[..., LRScheduler]
Trained: TypeAlias = Loss | Distribution | Iterable[Loss | Distribution]


@dataclass(frozen=True, eq=False)
class Optimizer:
    """One of several optimisers of a model: what it trains, and how.

    Args:
        distributions: whose parameters it trains; a loss stands for all that it has.
        optimizer: a class from `torch.optim`.
        optimizer_params: its arguments, `{"lr": 1e-3}`.
        scheduler: a class from `torch.optim.lr_scheduler`; it goes on by one with every step of the optimiser.
        scheduler_params: its arguments, `{"T_max": 1000}`.

    Examples:
        >>> import torch
        >>> from pixyz.distributions import Normal
        >>> from pixyz.models import Model
        >>> p = Normal(var=["x"], loc=torch.nn.Parameter(torch.zeros(2)), scale=1.0)
        >>> q = Normal(var=["y"], loc=torch.nn.Parameter(torch.zeros(2)), scale=1.0, name="q")
        >>> fast = Optimizer([p], torch.optim.SGD, {"lr": 0.1})
        >>> slow = Optimizer([q], torch.optim.Adam, {"lr": 1e-4})
        >>> print(Model(-(p.log_prob() + q.log_prob()).mean(), optimizers=[fast, slow]))
        Model
          minimises:  -mean(log p(x) + log q(y))
          trains:     p(x): 2 parameters
                      q(y): 2 parameters
          optimiser:  SGD(lr=0.1) for p(x)
                      Adam(lr=0.0001) for q(y)
    """

    distributions: Trained
    optimizer: MakesOptimizer = optim.Adam
    optimizer_params: Mapping[str, Any] = field(default_factory=dict)
    scheduler: MakesScheduler | None = field(default=None, kw_only=True)
    scheduler_params: Mapping[str, Any] = field(default_factory=dict, kw_only=True)

    def __post_init__(self) -> None:
        # A generator would be empty the second time.
        if not isinstance(self.distributions, (Loss, Distribution)):
            object.__setattr__(self, "distributions", tuple(self.distributions))

    def check(self, who: str, name: str) -> None:
        """Raises an error for what makes no optimiser or scheduler that a model can step.

        Args:
            who: the model.
            name: what the optimiser is called in it.
        """
        if not callable(self.optimizer):
            raise _made_already(who, "optimizer", "torch.optim.Adam", self.optimizer)
        need_finite_options(self.optimizer_params, who, name)
        if self.scheduler is None:
            if self.scheduler_params:
                raise ParameterError(f"{who}: scheduler_params are given, but no scheduler.")
            return
        if not callable(self.scheduler):
            raise _made_already(who, "scheduler", "torch.optim.lr_scheduler.CosineAnnealingLR", self.scheduler)
        need_finite_options(self.scheduler_params, who, f"the scheduler of {name}")
        if self.scheduler is ReduceLROnPlateau:
            raise KindError(
                f"{who}: ReduceLROnPlateau waits for a measure that no step has. Make it from model.optimizers[0], "
                "and call its step(model.test(values)) after each epoch."
            )

    def __str__(self) -> str:
        said = _call(self.optimizer, self.optimizer_params)
        return said if self.scheduler is None else f"{said}, {_call(self.scheduler, self.scheduler_params)}"


def _call(made: Callable[..., object], options: Mapping[str, Any]) -> str:
    name = getattr(made, "__name__", type(made).__name__)
    return f"{name}({', '.join(f'{k}={v}' for k, v in options.items())})"


def _made_already(who: str, role: str, example: str, came: object) -> KindError:
    return KindError(f"{who}: {role} is a class, like {example}, made here; got the {type(came).__name__} itself.")
