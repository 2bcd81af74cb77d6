"""Arithmetic of losses: numbers and parameters, sums, products, quotients, mean and sum over the batch."""

import math
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from . import _formula as f
from ._bindings import Factor
from ._dims import BATCH, Term, broadcast, differ, need_dense, need_one_dtype
from ._errors import KindError, ShapeError, function_of_game
from ._leaves import CONSTANT, leaves_of
from ._loss import Loss
from ._quantities import Quantities, add_quantities, scale_quantities
from ._scope import Scope
from ._variables import check_names, is_number


class Constant(Loss):
    """A number or a tensor in a formula. A tensor is `()`, or `(batch,)` for a weight per datum; an `nn.Parameter` is trained.

    Raises:
        KindError: for anything else.
        ShapeError: for a tensor with features.
    """

    constant_names = ("value",)
    value: Tensor

    def __init__(self, value: Tensor | float) -> None:
        if not isinstance(value, Tensor) and not is_number(value):
            raise KindError(f"A loss combines with losses, numbers and tensors; got a {type(value).__name__}: {str(value)[:60]!r}.")
        if isinstance(value, Tensor):
            need_dense(value, "A formula", "a constant")
        if isinstance(value, Tensor) and value.ndim > 1:
            raise ShapeError(f"A tensor in a formula is () or (batch,); this one has shape {tuple(value.shape)}.")
        if _is_known(value) and (value.isnan().any() if isinstance(value, Tensor) else math.isnan(value)):
            raise KindError(f"A constant in a formula must be a number; got {_shown(value)}, which would make the whole nan.")
        super().__init__(per_datum=isinstance(value, Tensor) and value.ndim == 1)
        self.number: float | None = None
        self.leaf_text: str | None = CONSTANT
        if isinstance(value, nn.Parameter):
            self.register_parameter("value", value)
        elif isinstance(value, Tensor):
            self.register_buffer("value", value if value.requires_grad else value.clone())
        else:
            self.number, self.leaf_text = float(value), None

    @property
    def is_finite(self) -> bool:
        """Whether it has no infinite entry; what is trained counts as finite."""
        if self.number is not None:
            return math.isfinite(self.number)
        return not _is_known(self.value) or bool(self.value.isfinite().all())

    @property
    def formula(self) -> f.Formula:
        if self.number is not None:
            return f.Number(self.number)
        if self.value.ndim == 0 and not isinstance(self.value, nn.Parameter) and not self.value.is_meta:
            return f.Number(float(f"{self.value.item():.6g}"))
        return f.Symbol("parameter" if isinstance(self.value, nn.Parameter) else "tensor")

    def quantities(self, drawn: frozenset[Factor] = frozenset()) -> Quantities | None:
        return None if isinstance(getattr(self, "value", None), nn.Parameter) else frozenset()

    @property
    def sign(self) -> int:
        """1 or -1; 0 where it is neither, or may change."""
        if self.number is not None:
            return (self.number > 0) - (self.number < 0)
        return (bool((self.value > 0).all()) - bool((self.value < 0).all())) if _is_known(self.value) else 0

    def evaluate(self, scope: Scope) -> Term:
        if self.number is not None:
            return Term(torch.tensor(self.number), ())
        return Term(self.value, (BATCH,) if self.value.ndim else ())


class Parameter(Loss):
    """A number that is given with the data, `{"beta": 0.5}`: the same formula serves a whole schedule.

    To a `torch.compile(loss)` that is called directly give a tensor, `{"beta": torch.tensor(0.5)}`: the compiler takes a Python number as
    a constant. `estimate` makes a tensor of it first.

    Args:
        name: its name among the values.

    Examples:
        >>> print(Parameter("beta") * Parameter("c"))
        beta * c
    """

    def __init__(self, name: str) -> None:
        super().__init__(input_var=check_names((name,), "Parameter"), per_datum=False)

    @property
    def formula(self) -> f.Formula:
        return f.Symbol(self.input_var[0])

    def quantities(self, drawn: frozenset[Factor] = frozenset()) -> Quantities:
        return frozenset()

    def evaluate(self, scope: Scope) -> Term:
        tensor, dims, _ = scope.bindings[self.input_var[0]]
        if BATCH in dims or tensor.ndim > len(dims):
            raise ShapeError(f"The parameter {self} is one number, (); its value has shape {tuple(tensor.shape)}.")
        if dims and not tensor.is_floating_point():  # the number of a step, which has the dim of time
            like = next((b.tensor for b in scope.bindings.values() if b.tensor.is_floating_point()), torch.empty(()))
            tensor = tensor.to(like.dtype)
        return Term(tensor, dims)


class Sum(Loss):
    """a - b + c. Flat: a thousand terms are one node.

    Args:
        terms: each with its sign.
        parts: losses that have the same parts as the terms; a sum that grows hands over itself and what is added.
    """

    _terms: tuple[tuple[int, Loss], ...]

    def __init__(self, terms: Sequence[tuple[int, Loss]], parts: Sequence[Loss]) -> None:
        super().__init__(parts)
        self.__dict__["depth"] = _levels(parts, [x for _, x in terms])
        self.__dict__["_terms"] = tuple(terms)  # not as an attribute, for that would look for parts in all of them

    @property
    def formula(self) -> f.Formula:
        return f.Sum(tuple((sign, x.formula) for sign, x in self._terms))

    def quantities(self, drawn: frozenset[Factor] = frozenset()) -> Quantities | None:
        return add_quantities([scale_quantities(loss.quantities(drawn), sign) for sign, loss in self._terms])

    def signs(self) -> dict[Loss, int]:
        return {loss: sign for sign, loss in self._terms if sign < 0}

    def each_term(self, change: Callable[[Loss], Loss]) -> Loss:
        changed = [(sign, loss.each_term(change)) for sign, loss in self._terms]
        there = [(sign, loss) for sign, loss in changed if not is_zero(loss)]
        if len(there) == 1 and there[0][0] > 0:
            return there[0][1]
        return Sum(there, [loss for _, loss in there]) if there else Constant(0.0)

    def evaluate(self, scope: Scope) -> Term:
        total: Term | None = None
        number = 0.0  # a Python number takes the dtype of what it is added to
        for sign, loss in self._terms:
            if isinstance(loss, Constant) and loss.number is not None:
                number += sign * loss.number
                continue
            term = scope.evaluate(loss)
            if total is None:
                total = term if sign > 0 else Term(-term.tensor, term.dims)
            else:
                x, y, dims = broadcast(total, term, self)
                if not dims and x.dtype != y.dtype:
                    x, y = _scalars(self, [each for _, each in self._terms], x, y, loss)
                total = Term(x + y if sign > 0 else x - y, dims)
        if total is None:
            return Term(torch.tensor(number), ())
        return Term(total.tensor + number, total.dims) if number != 0.0 else total


class Product(Loss):
    """a * b. All factors but one draw samples of their own, so that a product of two estimates is unbiased.

    Args:
        factors: in the order written.
        parts: as for `Sum`.
    """

    _factors: tuple[Loss, ...]

    def __init__(self, factors: Sequence[Loss], parts: Sequence[Loss]) -> None:
        super().__init__(parts)
        self.__dict__["depth"] = _levels(parts, factors)
        self.__dict__["_factors"] = tuple(factors)
        _check_games(self)
        _check_factors(self, parts)

    @property
    def formula(self) -> f.Formula:
        return f.Product(tuple(x.formula for x in self._factors))

    def quantities(self, drawn: frozenset[Factor] = frozenset()) -> Quantities | None:
        others = [x for x in self._factors if not isinstance(x, Constant)]
        sign = math.prod([x.sign for x in self._factors if isinstance(x, Constant)])
        return scale_quantities(others[0].quantities(drawn), sign) if len(others) == 1 else None

    def each_term(self, change: Callable[[Loss], Loss]) -> Loss:
        others = [x for x in self._factors if not isinstance(x, (Constant, Parameter))]
        if len(others) != 1:
            return change(self)
        changed = [x.each_term(change) if x is others[0] else x for x in self._factors]
        return Constant(0.0) if any([is_zero(x) for x in changed]) else Product(changed, changed)

    def evaluate(self, scope: Scope) -> Term:
        total: Term | None = None
        number = 1.0
        inner = scope
        for loss in self._factors:
            if isinstance(loss, Constant) and loss.number is not None:
                number *= loss.number
                continue
            term = inner.evaluate(loss)
            if loss.stochastic:
                inner = scope.apart()
            if total is None:
                total = term
            else:
                x, y, dims = broadcast(total, term, self)
                if not dims and x.dtype != y.dtype:
                    x, y = _scalars(self, self._factors, x, y, loss)
                total = Term(x * y, dims)
        if total is None:
            return Term(torch.tensor(number), ())
        return Term(total.tensor * number, total.dims) if number != 1.0 else total


class Quotient(Loss):
    """a / b. What stands below draws samples of its own."""

    def __init__(self, top: Loss, bottom: Loss) -> None:
        super().__init__([top, bottom], biased=bottom.stochastic)
        self._pair = (top, bottom)
        _check_games(self)
        _check_factors(self, (bottom,))

    @property
    def formula(self) -> f.Formula:
        return f.Ratio(self._pair[0].formula, self._pair[1].formula)

    def quantities(self, drawn: frozenset[Factor] = frozenset()) -> Quantities | None:
        top, bottom = self._pair
        return scale_quantities(top.quantities(drawn), bottom.sign) if isinstance(bottom, Constant) else None

    def each_term(self, change: Callable[[Loss], Loss]) -> Loss:
        top, bottom = self._pair
        if not isinstance(bottom, (Constant, Parameter)):
            return change(self)
        changed = top.each_term(change)
        return changed if is_zero(changed) else Quotient(changed, bottom)

    def evaluate(self, scope: Scope) -> Term:
        top, bottom = self._pair
        inner = scope.apart() if bottom.stochastic else scope
        if isinstance(bottom, Constant) and bottom.number is not None:
            term = scope.evaluate(top)
            return Term(term.tensor / bottom.number, term.dims)
        if isinstance(top, Constant) and top.number is not None:
            term = inner.evaluate(bottom)
            return Term(top.number / term.tensor, term.dims)
        x, y, dims = broadcast(scope.evaluate(top), inner.evaluate(bottom), self)
        return Term(x / y, dims)


class Reduction(Loss):
    """The mean or the sum over the batch, `()`."""

    name = ""

    def __init__(self, loss: Loss) -> None:
        super().__init__([loss], per_datum=False, mixes_batch=loss.per_datum)
        self._loss = loss

    @property
    def formula(self) -> f.Formula:
        return f.Call(self.name, self._loss.formula)

    def quantities(self, drawn: frozenset[Factor] = frozenset()) -> Quantities | None:
        return self._loss.quantities(drawn)

    def each_term(self, change: Callable[[Loss], Loss]) -> Loss:
        changed = self._loss.each_term(change)
        return changed if is_zero(changed) else type(self)(changed)

    def _of_own_data(self, scope: Scope) -> Scope:
        """A scope whose batch is that of the values needed here: beside data of another batch, what is drawn from constants has it too."""
        bound = [scope.bindings[v] for v in self.input_var]
        sizes = [b.tensor.shape[len(b.dims) - 1] for b in bound if BATCH in b.dims]
        if not sizes or differ(sizes) or sizes[0] == scope.batch:
            return scope
        return scope.inside({}, sizes[0], scope.samples, scope.group)


class Mean(Reduction):
    """mean(a): the mean over the batch.

    Raises:
        ShapeError: when evaluated on an empty batch, whose mean is no number.
    """

    name = "mean"

    def evaluate(self, scope: Scope) -> Term:
        tensor, dims = self._of_own_data(scope).evaluate(self._loss)
        if BATCH not in dims:
            return Term(tensor, dims)
        if tensor.shape[-1] == 0:
            raise ShapeError(f"{self}: the batch is empty, and the mean over nothing is no number. Leave empty batches out.")
        return Term(tensor.mean() if len(dims) == 1 else tensor.mean(-1), dims[:-1])


class Total(Reduction):
    """sum(a): the sum over the batch."""

    name = "sum"

    def evaluate(self, scope: Scope) -> Term:
        scope = self._of_own_data(scope)
        tensor, dims = scope.evaluate(self._loss)
        if BATCH in dims:
            return Term(tensor.sum(-1), dims[:-1])
        return Term(tensor * scope.batch, dims) if self._loss.per_datum else Term(tensor, dims)


def _levels(parts: Sequence[Loss], operands: Sequence[Loss]) -> int:
    """The depth of a sum or a product: of a part that was taken apart, its own."""
    ends = operands if len(parts) > 2 else (operands[0], operands[-1])
    return max([x.depth + any([x is end for end in ends]) for x in parts])


def _check_games(loss: Loss) -> None:
    """An error where an operator that takes some sums apart does not so with a game."""

    def look(term: Loss) -> Loss:
        if term is loss:
            raise function_of_game(loss)
        return Constant(0.0)

    if loss.is_game:
        loss.each_term(look)


def _check_factors(loss: Loss, factors: Iterable[Loss]) -> None:
    """An error for an infinite number or tensor before a loss."""
    for x in factors:
        if isinstance(x, Constant) and not x.is_finite:
            raise KindError(f"{loss}: a factor must be finite; got {_shown(x.value if x.number is None else x.number)}.")


def _scalars(who: Loss, parts: Iterable[Loss], x: Tensor, y: Tensor, last: Loss) -> tuple[Tensor, Tensor]:
    """Two numbers of different dtypes, of which x is that of the parts so far: a weight takes the dtype of what it meets."""
    if sum(not _is_weight(part) for part in parts) > 1:
        need_one_dtype(x, y, who)
    return (x, y.to(x.dtype)) if _is_weight(last) else (x.to(y.dtype), y)


def _is_weight(loss: Loss) -> bool:
    """Whether it is made of constants and parameters alone, which fit any dtype."""
    alone = all(getattr(leaf, "leaf_text", None) == CONSTANT for leaf in leaves_of(loss))
    return alone and not loss.per_datum and not loss.mixes_batch


def _is_known(value: Tensor | float) -> bool:
    """Whether it stays as it is, so that it can be checked once; what is trained, or has no data yet, does not."""
    return not (isinstance(value, nn.Parameter) or (isinstance(value, Tensor) and value.is_meta))


def _shown(value: Tensor | float) -> str:
    return f"a tensor of shape {tuple(value.shape)} with such entries" if isinstance(value, Tensor) and value.ndim else f"{float(value)}"


def as_loss(value: Loss | Tensor | float) -> Loss:
    """A loss as it is; a number or a tensor as a `Constant`."""
    return value if isinstance(value, Loss) else Constant(value)


def is_zero(loss: Loss) -> bool:
    """Whether it is the number 0, which no sum has as a term."""
    return isinstance(loss, Constant) and loss.number == 0.0


def signed_terms(loss: Loss) -> tuple[tuple[int, Loss], ...]:
    """The terms of a sum, or the loss as the only one."""
    return loss._terms if isinstance(loss, Sum) else ((1, loss),)


def product_factors(loss: Loss) -> tuple[Loss, ...]:
    """The factors of a product, or the loss as the only one."""
    return loss._factors if isinstance(loss, Product) else (loss,)
