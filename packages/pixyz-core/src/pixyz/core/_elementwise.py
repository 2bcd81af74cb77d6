"""Functions of losses, datum by datum: |a|, exp(a), max(a, b); and powers.

What stands inside shares its draws with what stands outside, and the arguments theirs with one another: nothing would make a nonlinear
function of an estimate unbiased, and so |a - a| is 0 and max(a, a) is a. Only a whole power of an estimate can be unbiased: it is a
product, and its factors draw anew.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from . import _formula as f
from ._bindings import Factor
from ._dims import Term, broadcast_all
from ._errors import KindError
from ._loss import Loss, Operand
from ._operators import Constant, Product, as_loss
from ._quantities import Quantities, add_quantities
from ._scope import Scope


class Function(NamedTuple):
    """A row of the table of functions.

    Attributes:
        compute: the value, of tensors that broadcast against one another.
        write: the formula, of those of the arguments.
        is_linear: whether its mean over the draws is that of the argument.
        takes_number: whether the second argument may be a Python number, which is cheaper than a tensor.
        is_increasing: whether it grows with each argument, and bounds a log-density where they do.
    """

    compute: Callable[..., Tensor]
    write: Callable[..., f.Formula]
    is_linear: bool = False
    takes_number: bool = False
    stops: bool = False
    is_increasing: bool = False


def _stack(*values: Tensor) -> Tensor:
    return torch.stack(torch.broadcast_tensors(*values))


def _called(name: str) -> Callable[..., f.Formula]:
    return lambda first, *others: f.Call(name, first, others)


FUNCTIONS: Mapping[str, Function] = {
    "abs": Function(torch.abs, _called("abs")),
    "exp": Function(torch.exp, lambda a: a.body if isinstance(a, f.Log) else f.Call("exp", a)),
    "log": Function(torch.log, f.Log),
    "log_sigmoid": Function(F.logsigmoid, lambda a: f.Log(f.Call("sigmoid", a))),
    "detach": Function(torch.Tensor.detach, _called("stop"), is_linear=True, stops=True),
    "power": Function(torch.pow, f.Power, takes_number=True),
    # These two have torch.clamp's gradient where both arguments are equal: that of the first.
    "at_least": Function(lambda a, low: torch.clamp(a, min=low), _called("max"), takes_number=True, is_increasing=True),
    "at_most": Function(lambda a, high: torch.clamp(a, max=high), _called("min"), takes_number=True, is_increasing=True),
    "minimum": Function(lambda *a: _stack(*a).amin(0), _called("min"), is_increasing=True),
    "maximum": Function(lambda *a: _stack(*a).amax(0), _called("max"), is_increasing=True),
    "logsumexp": Function(lambda *a: _stack(*a).logsumexp(0), _called("logsumexp"), is_increasing=True),
    "log_mean_exp": Function(lambda *a: _stack(*a).logsumexp(0) - math.log(len(a)), _called("logmeanexp"), is_increasing=True),
}
"""By name; to add a function of losses, add a row."""


class Elementwise(Loss):
    """A function of losses, datum by datum.

    Args:
        function: its name in `FUNCTIONS`.
        arguments: the losses.
    """

    _function: str

    def __init__(self, function: str, arguments: Sequence[Loss]) -> None:
        bends = not FUNCTIONS[function].is_linear and any([x.stochastic for x in arguments])
        self.__dict__["_function"] = function
        super().__init__(arguments, biased=bends)
        self._arguments = tuple(arguments)

    @property
    def _operation(self) -> str:
        return self._function

    @property
    def formula(self) -> f.Formula:
        return FUNCTIONS[self._function].write(*[x.formula for x in self._arguments])

    def quantities(self, drawn: frozenset[Factor] = frozenset()) -> Quantities | None:
        return add_quantities([x.quantities(drawn) for x in self._arguments]) if FUNCTIONS[self._function].is_increasing else None

    def evaluate(self, scope: Scope) -> Term:
        function = FUNCTIONS[self._function]
        terms = [None if isinstance(x, Constant) and x.number is not None else scope.evaluate(x) for x in self._arguments]
        first = terms[0]
        if first is not None and len(terms) == 1:
            if function.stops and scope.shared.controls:
                return _of_controls(first, self._arguments[0], scope)
            return Term(function.compute(first.tensor), first.dims)
        if first is not None and terms[1] is None and function.takes_number:
            return Term(function.compute(first.tensor, self._arguments[1].number), first.dims)
        like = next((t.tensor for t in terms if t is not None and t.tensor.is_floating_point()), torch.empty(()))
        # A Python number takes the dtype of what it meets.
        numbers = [Term(like.new_full((), getattr(x, "number", 0.0)), ()) if t is None else t for x, t in zip(self._arguments, terms)]
        tensors, dims = broadcast_all(numbers, self)
        return Term(function.compute(*tensors), dims)


def _of_controls(term: Term, loss: Loss, scope: Scope) -> Term:
    """A stopped loss where control variates are evaluated: its gradient through these stays, and no other.

    A score learns from a stopped loss, so that what is taken from its cost and given back as a slope must have that slope. At control
    variates without a gradient the loss has that of everything else alone: taken away, it leaves the value as it is.
    """
    controls = {v: b for v, b in scope.bindings.items() if b.number in scope.shared.controls and b.tensor.requires_grad}
    if not controls:
        return Term(term.tensor.detach(), term.dims)
    still = scope.inside({}, scope.batch, scope.samples, scope.group)
    for v, b in controls.items():
        still.rebind(v, b.tensor.detach(), b.dims, b)
    rest = still.evaluate(loss).tensor
    return Term(term.tensor - rest + rest.detach(), term.dims)


class WholePower(Loss):
    """a^n of an estimate, n = 2, 3, ...: the product of n estimates of a, each with draws of its own, so unbiased."""

    def __init__(self, base: Loss, exponent: int) -> None:
        super().__init__([base])
        self._power = (base, exponent)
        self._product = Product([base] * exponent, [base])

    @property
    def _operation(self) -> str:
        return "power"

    @property
    def formula(self) -> f.Formula:
        base, exponent = self._power
        return f.Power(base.formula, f.Number(exponent))

    def evaluate(self, scope: Scope) -> Term:
        return self._product.evaluate(scope)


def power(base: Loss, exponent: Loss) -> Loss:
    """a^b; by draws of their own for each factor if a is an estimate and b a whole number from 2 on."""
    if isinstance(exponent, Constant) and not exponent.is_finite:
        raise KindError(f"({base})^({exponent}): the exponent must be finite.")
    n = exponent.number if isinstance(exponent, Constant) else None
    if base.stochastic and n is not None and n >= 2 and n.is_integer():
        return WholePower(base, int(n))
    return Elementwise("power", [base, exponent])


def clamp(a: Loss, low: "Operand | None", high: "Operand | None") -> Loss:
    """min(max(a, low), high)."""
    if low is None and high is None:
        raise KindError(f"({a}).clamp() takes min=, max= or both; got neither.")
    above = a if low is None else Elementwise("at_least", [a, as_loss(low)])
    return above if high is None else Elementwise("at_most", [above, as_loss(high)])


def minimum(*losses: Operand) -> Loss:
    """min(a, b, ...), `(batch,)`: for each datum the least. Where several are, they share the gradient.

    Args:
        losses: losses, numbers and tensors.

    Raises:
        KindError: for none, or for anything else.

    Examples:
        >>> from pixyz.core import Parameter
        >>> a, b = Parameter("a"), Parameter("b")
        >>> print(minimum(a, b, 0.5), minimum(a, b, 0.5).estimate({"a": 1.0, "b": 2.0}))
        min(a, b, 0.5) tensor(0.5000)
    """
    return _of_several("minimum", losses)


def maximum(*losses: Operand) -> Loss:
    """max(a, b, ...), `(batch,)`: for each datum the greatest. Arguments and errors are those of `minimum`.

    Examples:
        >>> from pixyz.core import Parameter
        >>> print(maximum(Parameter("a"), 0.5))
        max(a, 0.5)
    """
    return _of_several("maximum", losses)


def logsumexp(*losses: Operand) -> Loss:
    r"""log(exp(a) + exp(b) + ...), `(batch,)`, without overflow. Arguments and errors are those of `minimum`.

    $$\log \sum_{i=1}^{n} \exp(a_i)$$

    Examples:
        >>> from pixyz.core import Parameter
        >>> loss = logsumexp(Parameter("a"), Parameter("b"))
        >>> print(loss, loss.estimate({"a": 1000.0, "b": 1000.0}))
        logsumexp(a, b) tensor(1000.6932)
    """
    return _of_several("logsumexp", losses)


def log_mean_exp(*losses: Operand) -> Loss:
    r"""log((exp(a) + exp(b) + ...)/n), `(batch,)`, without overflow: the log-density of an even mixture, of log-densities.

    $$\log \frac{1}{n} \sum_{i=1}^{n} \exp(a_i)$$

    Arguments and errors are those of `minimum`.

    Examples:
        >>> from pixyz.core import Parameter
        >>> loss = log_mean_exp(Parameter("a"), Parameter("b"))
        >>> print(loss, loss.estimate({"a": 1000.0, "b": 1000.0}))
        logmeanexp(a, b) tensor(1000.)
    """
    return _of_several("log_mean_exp", losses)


def log_sigmoid(loss: Operand) -> Loss:
    r"""log σ(a) = -log(1 + exp(-a)), `(batch,)`, without overflow: the log-probability of 1, whose logit is a.

    Examples:
        >>> from pixyz.core import Parameter
        >>> print(log_sigmoid(Parameter("a")), log_sigmoid(Parameter("a")).estimate({"a": -1000.0}))
        log sigmoid(a) tensor(-1000.)
    """
    return Elementwise("log_sigmoid", [as_loss(loss)])


def _of_several(function: str, losses: Sequence[Operand]) -> Loss:
    if not losses:
        raise KindError(f"{function} takes losses, like {function}(a, b); got none.")
    return Elementwise(function, [as_loss(x) for x in losses])
