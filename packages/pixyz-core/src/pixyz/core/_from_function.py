"""A loss that is no formula over distributions: a function of the variables."""

from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor, nn

from ._autocast import call_network
from ._closures import warn_of_networks
from ._dims import Term, need_dense
from ._errors import FormulaError, KindError, ShapeError
from ._formula import Density, Formula
from ._loss import Loss
from ._network import fold_inputs, unfold_output
from ._scope import Scope
from ._variables import check_names


class FromFunction(Loss):
    """What a function says of each datum, printed as `name(x,z)`; made by `Loss.from_function`.

    Args:
        function: called with the variables by keyword, each `(N, *features)`, where N is the batch and whatever an expectation
            draws; returns one value for each, `(N,)`, each of which depends on its own datum only. A module is registered; a function that
            uses one gives a warning.
        name: what it is called.
        var: the variables.

    Raises:
        KindError: if `function` cannot be called, or returns no tensor of real numbers.
        FormulaError: for names that are none, or for no variable.
        ShapeError: at an evaluation, if `function` returns another shape.

    Examples:
        >>> import torch
        >>> from pixyz.distributions import Normal
        >>> from pixyz.core import Loss
        >>> error = Loss.from_function(lambda x, z: (x - z).square().sum(-1), "error", var=["x", "z"])
        >>> print(error.expectation(Normal("q(z|x)", loc="x", scale=1.0)))
        E_q(z|x)[error(x,z)]
        >>> error.estimate({"x": torch.zeros(3, 2), "z": torch.ones(3, 2)})
        tensor([2., 2., 2.])
    """

    def __init__(self, function: Callable[..., Any], name: str, *, var: Iterable[str]) -> None:
        (self._name,) = check_names((name,), "name")
        names = check_names(var, "var")
        if not callable(function) or isinstance(function, Loss):
            raise KindError(f"{name}: a loss is made from a function or a module that computes tensors; got a {type(function).__name__}.")
        if not names:
            raise FormulaError(f"{name}: var is empty; name the variables of the function.")
        super().__init__(input_var=names)
        warn_of_networks(function, str(self))
        self.leaf_text = str(self) if isinstance(function, nn.Module) else None
        self.function = function

    @property
    def formula(self) -> Formula:
        return Density(self._name, self.input_var)

    def evaluate(self, scope: Scope) -> Term:
        inputs = tuple([scope.bindings[v] for v in self.input_var])
        memo, key = scope.shared.memo, (self, *[b.number for b in inputs])
        found = memo.get(key)
        if found is None:
            found = memo[key] = self._run(scope, inputs)
        return found

    def _run(self, scope: Scope, inputs: tuple[Any, ...]) -> Term:
        arguments, dims, sizes = fold_inputs(self.input_var, inputs, self.input_var, self)
        value = call_network(self.function, **arguments) if isinstance(self.function, nn.Module) else self.function(**arguments)
        count = arguments[self.input_var[0]].shape[0]
        if not isinstance(value, Tensor) or not value.is_floating_point():
            got = f"a tensor of {value.dtype}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
            raise KindError(f"{self}: the function must return a tensor of real numbers, ({count},); it returned {got}.")
        need_dense(value, self, "what the function returns")
        if value.shape != (count,):
            raise ShapeError(
                f"{self}: for {count} inputs the function must return one value for each, ({count},); it returned {tuple(value.shape)}."
            )
        controls = [v for v, b in zip(self.input_var, inputs) if b.number in scope.shared.controls and b.tensor.requires_grad]
        if controls and not value.requires_grad:
            raise FormulaError(
                f"{self}: the estimator 'rebar' needs the slope of {self._name} along {controls[0]}, but the function returns a value "
                "without a gradient. Compute it by operations that have one, or use estimator='score'."
            )
        return unfold_output(value, dims, sizes)
