"""A loss, some of whose variables have values already."""

from collections.abc import Mapping

from torch import Tensor

from ._bindings import Binding, Factor
from ._dims import BATCH, Term
from ._errors import BoundVariableError, FormulaError, KindError, ShapeError
from ._fixed import Fixed
from ._formula import At, Formula
from ._loss import Loss
from ._quantities import Quantities
from ._scope import Scope
from ._variables import is_number, need_finite, suggest


class ConstantVar(Loss):
    """A loss at these values of some of its variables, which need not be given any more; made by `loss.constant_var({"x": x})`.

    Args:
        loss: the loss.
        values: as for `estimate`, `(batch, *features)`; a number for a `Parameter`. Tensors are copied and move with the loss; an
            `nn.Parameter` is trained.

    Raises:
        FormulaError: for what is no variable of the loss, or for none.
        BoundVariableError: for a variable that the loss draws itself.
        ShapeError: for values of different batches.
    """

    def __init__(self, loss: Loss, values: Mapping[str, Tensor | float]) -> None:
        if not isinstance(values, Mapping) or not values:
            got = "an empty one" if isinstance(values, Mapping) else f"a {type(values).__name__}"
            raise KindError(f'({loss}).constant_var takes a mapping from variables to values, like {{"x": x}}; got {got}.')
        known = {*loss.input_var, *loss.optional_var}
        for v in values:
            if v not in known:
                if v in loss.bound_var:
                    raise BoundVariableError(f"{loss} draws {v} itself, so {v} cannot be constant in it.")
                raise FormulaError(f"{loss} has no variable {v} to hold constant.{suggest(str(v), known)}")
            if is_number(values[v]):
                need_finite(values[v], v, f"({loss}).constant_var")
        fixed = {v: Fixed(v, value) for v, value in values.items()}
        sizes = {v: c.value.shape[0] for v, c in fixed.items() if c.value.ndim}
        if len(set(sizes.values())) > 1:
            said = " and ".join(f"{v} has batch {n}" for v, n in sizes.items())
            raise ShapeError(f"({loss}).constant_var: {said}; one loss has one batch.")
        super().__init__(
            [loss, *fixed.values()],
            input_var=[v for v in loss.input_var if v not in fixed],
            optional_var=loss.optional_var.difference(fixed),
        )
        self._loss = loss
        self._fixed = tuple(fixed.values())

    @property
    def formula(self) -> Formula:
        return At(self._loss.formula, tuple((c.var[0], c.text) for c in self._fixed))

    def quantities(self, drawn: frozenset[Factor] = frozenset()) -> Quantities | None:
        return self._loss.quantities(drawn)

    def evaluate(self, scope: Scope) -> Term:
        bindings = {c.var[0]: _binding(c, scope) for c in self._fixed}
        batch = next((b.tensor.shape[0] for b in bindings.values() if b.dims), scope.batch)
        return scope.inside(bindings, batch, scope.samples, scope.group).evaluate(self._loss)


def _binding(constant: Fixed, scope: Scope) -> Binding:
    """The value, under one number in the whole evaluation."""
    memo, key = scope.shared.memo, ("constant_var", constant)
    found = memo.get(key)
    if found is None:
        dims = (BATCH,) if constant.value.ndim else ()
        found = memo[key] = Binding(constant.value, dims, scope.shared.number())
    return found
