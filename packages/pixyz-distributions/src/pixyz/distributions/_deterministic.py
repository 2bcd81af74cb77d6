"""Deterministic variables: functions written as distributions."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from pixyz.core import BATCH, Binding, Dims, Factor, Leaf, ParameterError, Scope, Term, stack_terms, union


class Deterministic(Leaf):
    """Variables that are functions of others. Sampling computes them; in a density they are computed, bound, and add nothing.

    Args:
        text: the variables as papers write them, `"f(h|z)"`, in place of `var`, `cond_var` and `name`.
        network: called with what they are functions of, in the order written; it returns a dict of variables.
        var: the variables; `forward` returns a dict with one tensor `(batch, *features)` for each.
        cond_var: what they are functions of.
        name: the letter before the brackets.
        values: for each variable a constant `(*features)`, a network, or the name of the variable that it equals.

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

    def __init__(
        self,
        text: str | None = None,
        network: Callable[..., Any] | None = None,
        /,
        *,
        var: Iterable[str] | None = None,
        cond_var: Iterable[str] | None = None,
        name: str | None = None,
        **values: Any,
    ) -> None:
        super().__init__(text, network, var=var, cond_var=cond_var, name=name, **values)
        unknown = [v for v in values if v not in self.var]
        lacking = [v for v in self.var if v not in values]
        if unknown or (lacking and not self.has_network):
            raise ParameterError(
                f"{self.prob_text}: a Deterministic has a forward that returns {', '.join(self.var)}, or a value for each of them."
            )

    def conditional(self, scope: Scope, factor: Factor, inputs: tuple[Binding, ...]) -> "Computed":
        terms = self.given_terms(inputs)
        if self.has_network:
            terms.update(self.run(factor, inputs).variables())
        if terms.keys() != {*self.var}:
            raise ParameterError(f"{factor}: forward must return {', '.join(self.var)}; it returned {', '.join(terms) or 'nothing'}.")
        return Computed([terms[v] for v in self.var])


class Computed:
    """The values of a `Deterministic`, in one evaluation."""

    def __init__(self, terms: list[Term]) -> None:
        self.terms = terms
        self.dims: Dims = union(*[t.dims for t in terms])
        sizes = [tensor.shape[len(dims) - 1] for tensor, dims in terms if BATCH in dims]
        self.batch: int | None = sizes[0] if sizes else None

    def along(self, steps: Sequence["Computed"], dim: int) -> "Computed":
        """These values of one factor as one, along a new dim."""
        return Computed([stack_terms([s.terms[i] for s in steps], dim) for i in range(len(self.terms))])

    def draw(self, dims: Dims, sizes: list[int], *, pathwise: bool) -> list[Term]:
        """What was computed; its dims are those of its inputs, whatever was asked for."""
        return self.terms

    def statistic(self, what: str) -> Term:
        """What was computed is its own mean and mode."""
        if len(self.terms) > 1 or what not in ("mean", "mode"):
            raise NotImplementedError
        return self.terms[0]
