"""Deterministic variables: functions written as distributions."""

from collections.abc import Iterable

from torch import Tensor

from pixyz.core import BATCH, Binding, Dims, Factor, Leaf, ParameterError, Scope, Term, constant_parameters, run_network


class Deterministic(Leaf):
    """Variables that are functions of others. Sampling computes them; in a density they are computed, bound, and add nothing.

    Args:
        var: the variables; `forward` returns a dict with one tensor `(batch, *features)` for each.
        cond_var: what they are functions of.
        name: the letter before the brackets.
        values: constants, `(*features)`, for a variable that depends on nothing.

    Examples:
        >>> import torch
        >>> class Double(Deterministic):
        ...     def __init__(self):
        ...         super().__init__(var=["y"], cond_var=["x"], name="f")
        ...     def forward(self, x):
        ...         return {"y": 2 * x}
        >>> Double().sample({"x": torch.ones(1, 2)})["y"]
        tensor([[2., 2.]])
    """

    distribution_name = "Deterministic"
    has_rsample = True
    is_deterministic = True

    def __init__(self, *, var: Iterable[str], cond_var: Iterable[str] = (), name: str = "p", **values: Tensor | float) -> None:
        super().__init__(var, cond_var, name)
        constant_parameters(self, values)
        self.constant_names = tuple(values)
        if self.has_network == bool(values) or (values and set(values) != set(self.var)):
            raise ParameterError(
                f"{self.prob_text}: a Deterministic has a forward that returns {', '.join(self.var)}, or a constant for each of them."
            )

    def conditional(self, scope: Scope, factor: Factor, inputs: tuple[Binding, ...]) -> "Computed":
        if self.constant_names:
            return Computed([Term(getattr(self, v), ()) for v in self.var])
        outputs = run_network(self, factor, inputs, scope.shared.validate)
        if set(outputs.tensors) != set(self.var):
            raise ParameterError(
                f"{factor}: forward must return {', '.join(self.var)}; it returned {', '.join(outputs.tensors) or 'nothing'}."
            )
        terms = outputs.variables()
        return Computed([terms[v] for v in self.var])


class Computed:
    """The values of a `Deterministic`, in one evaluation."""

    def __init__(self, terms: list[Term]) -> None:
        self.terms = terms
        self.dims: Dims = terms[0].dims
        self.batch = terms[0].tensor.shape[len(self.dims) - 1] if BATCH in self.dims else None

    def draw(self, dims: Dims, sizes: list[int], *, pathwise: bool) -> list[Term]:
        """What was computed; its dims are those of its inputs, whatever was asked for."""
        return self.terms
