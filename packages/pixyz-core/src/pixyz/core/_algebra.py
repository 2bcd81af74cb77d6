"""What binds the algebra's sugar to the two interfaces: `p * prior`, `p.log_prob()`, `a - 0.1 * b`, `.mean()`, `.expectation(q)`.

The interfaces stand below the operators that they are written with, so their methods are set here, in the one place that sees both.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

from ._conditioning import condition, divide
from ._constant_var import ConstantVar
from ._distribution import Distribution
from ._elementwise import Elementwise, clamp, power
from ._errors import FormulaError, KindError
from ._expectation import Expectation
from ._explanation import Explanation, explain
from ._from_function import FromFunction
from ._game import for_player
from ._graph import Graph, graph_of
from ._joint import Joint, marginalize, multiply, rename
from ._log_prob import LogProb
from ._loss import Loss, Operand
from ._operators import Mean, Product, Quotient, Sum, Total, as_loss, product_factors, signed_terms
from ._posterior import posterior


def _add(self: Loss, other: Operand) -> Loss:
    return _sum_of(self, 1, as_loss(other))


def _radd(self: Loss, other: Operand) -> Loss:
    if isinstance(other, int) and other == 0:  # the start of Python's sum()
        return self
    return _sum_of(as_loss(other), 1, self)


def _sub(self: Loss, other: Operand) -> Loss:
    return _sum_of(self, -1, as_loss(other))


def _rsub(self: Loss, other: Operand) -> Loss:
    return _sum_of(as_loss(other), -1, self)


def _sum_of(left: Loss, sign: int, right: Loss) -> Sum:
    """A sum is taken apart where its terms keep their signs, a + (b + c); a - (b + c) stays as it is written."""
    added = signed_terms(right) if sign > 0 else ((sign, right),)
    return Sum(signed_terms(left) + added, (left, right))


def _neg(self: Loss) -> Loss:
    return Sum(((-1, self),), (self,))


def _mul(self: Loss, other: Operand) -> Loss:
    return _product_of(self, as_loss(other))


def _rmul(self: Loss, other: Operand) -> Loss:
    return _product_of(as_loss(other), self)


def _product_of(left: Loss, right: Loss) -> Product:
    return Product(product_factors(left) + product_factors(right), (left, right))


def _truediv(self: Loss, other: Operand) -> Loss:
    return Quotient(self, as_loss(other))


def _rtruediv(self: Loss, other: Operand) -> Loss:
    return Quotient(as_loss(other), self)


def _pow(self: Loss, other: Operand) -> Loss:
    return power(self, as_loss(other))


def _rpow(self: Loss, other: Operand) -> Loss:
    return power(as_loss(other), self)


def _abs(self: Loss) -> Loss:
    """|a|; the same as Python's `abs(a)`."""
    return Elementwise("abs", [self])


def _exp(self: Loss) -> Loss:
    """exp(a); of a log-density the density."""
    return Elementwise("exp", [self])


def _log(self: Loss) -> Loss:
    """log(a); of a mean over draws it is biased, for the mean of logarithms is below the logarithm of the mean."""
    return Elementwise("log", [self])


def _detach(self: Loss) -> Loss:
    """stop(a): the value of a, a constant to every gradient; a score term of an expectation in it stops as well."""
    return Elementwise("detach", [self])


def _clamp(self: Loss, min: "Operand | None" = None, max: "Operand | None" = None) -> Loss:
    """min(max(a, low), high), with the gradient of `torch.clamp`: that of a on the bounds, none beyond them.

    Args:
        min: the least value; a number, a tensor or a loss.
        max: the greatest.

    Raises:
        KindError: if neither is given.
    """
    return clamp(self, min, max)


def _mean(self: Loss) -> Loss:
    """mean(a): the mean over the batch, `()`."""
    return Mean(self)


def _sum(self: Loss) -> Loss:
    """sum(a): the sum over the batch, `()`."""
    return Total(self)


def _expectation(self: Loss, q: Distribution, **options: Any) -> Loss:
    """E_q[a]; the options are those of `Expectation`."""
    return Expectation(q, self, **options)


def _explain(self: Loss, values: Mapping[str, Any] | None = None, *, gradients: bool = False, **options: Any) -> Explanation:
    """The formula as a tree with the value of every term, from one evaluation.

    Args:
        values: as for `estimate`.
        gradients: whether to give the norm of the gradient for each distribution as well.
        options: those of `estimate`.

    Examples:
        >>> import torch
        >>> from pixyz.distributions import Normal
        >>> p = Normal("p(z)", loc=1.0, scale=2.0)
        >>> loss = (p.log_prob() - 2 * p.log_prob()).mean()
        >>> print(loss.explain({"z": torch.zeros(3)}))
        term                              value   shape  how
        mean(log p(z) - 2 * log p(z))   1.73709   ()
          log p(z) - 2 * log p(z)       1.73709   (3,)
            log p(z)                   -1.73709   (3,)
            - 2 * log p(z)             -3.47417   (3,)
              log p(z)                 -1.73709   (3,)
    """
    return explain(self, values, gradients=gradients, **options)


def _constant_var(self: Loss, values: Mapping[str, Tensor | float]) -> Loss:
    """The loss at these values of some of its variables; arguments and errors are those of `ConstantVar`."""
    return ConstantVar(self, values)


def _log_prob(self: Distribution, *, mask: str | None = None) -> Loss:
    """log p(var|cond_var) as a loss; `mask` is that of `LogProb`."""
    return LogProb(self, mask=mask)


def _multiply(self: Distribution, other: Distribution) -> Joint:
    """p(x|z)p(z): the joint of both, whatever the order of multiplication."""
    if not isinstance(other, Distribution):
        raise KindError(f"{self.prob_text} multiplies with distributions; got a {type(other).__name__}.")
    return multiply(self, other)


def _replace_var(self: Distribution, **names: str) -> Joint:
    """The same distribution with variables renamed, all at once: `p.replace_var(x="x_u", y="y_u")`."""
    return rename(self, names)


def _marginalize_var(self: Distribution, names: str | Iterable[str]) -> Joint:
    """The distribution of the other variables, ∫p(x,z)dz."""
    return marginalize(self, names)


def _posterior(self: Distribution, names: str | Iterable[str] = ()) -> Distribution:
    """p(names | what else p shows), exact; without names, of what was marginalised out.

    Args:
        names: the variables to infer, shown or marginalised out.

    Raises:
        FormulaError: for a variable that p does not have.
        IntractableError: if a variable to infer, or to sum or integrate out, is neither finite nor linear-Gaussian.

    Examples:
        >>> from torch import nn
        >>> from pixyz.distributions import Normal
        >>> p = Normal("p(x|z)", loc=nn.Linear(2, 3), scale=0.1) * Normal("p(z)", loc=0.0, scale=1.0, dim=2)
        >>> print(p.posterior("z").formula)
        p(z|x) = p(x,z)/p(x)
    """
    drawn = {v for f in self.factors if not f.dist.is_deterministic for v in f.var}
    hidden = sorted(self.hidden_var & drawn)
    if not names and not hidden:
        raise FormulaError(f"{self.prob_text} hides nothing that is drawn, so say what to infer: posterior({self.var[-1]!r}).")
    return posterior(self, names or hidden)


def _condition(self: Distribution, **values: Tensor | float) -> Joint:
    """The distribution of the other variables, given these values, `(*features)`, the same for all data.

    A variable that others stand above needs their posterior, which must be exact.

    Raises:
        FormulaError: for a variable that p does not have, or if none is left.
        SupportError: for a value that is nan, or where the distributions of the variable are known to have none.
        IntractableError: if that posterior is not exact.

    Examples:
        >>> from pixyz.distributions import Normal
        >>> p = Normal("p(x|y)", loc="y", scale=1.0)
        >>> print(p.condition(y=2.0).formula, p.condition(y=2.0).mean())
        p(x|y=2) tensor([2.])
    """
    return condition(self, values)


def _divide(self: Distribution, other: Distribution) -> Distribution:
    """p(x,z)/p(x) = p(z|x): a joint divided by a marginal, or by some of its factors.

    Raises:
        FormulaError: if `other` is neither.
        IntractableError: if the conditional is not exact.
    """
    return divide(self, other)


def _graph(self: Distribution, observed: str | Iterable[str] = (), *, plates: bool = True) -> Graph:
    """The picture of the model: `p.graph(observed=["x"]).save("model.pdf")`.

    Args:
        observed: the variables to shade.
        plates: with what is repeated drawn once; otherwise every copy is drawn.

    Raises:
        FormulaError: if a variable that is not shown is to be observed.
    """
    return graph_of(self, observed, plates)


def bind() -> None:
    """Sets the methods; the package does so once."""
    loss: dict[str, Any] = {
        "__add__": _add,
        "__radd__": _radd,
        "__sub__": _sub,
        "__rsub__": _rsub,
        "__neg__": _neg,
        "__mul__": _mul,
        "__rmul__": _rmul,
        "__truediv__": _truediv,
        "__rtruediv__": _rtruediv,
        "__pow__": _pow,
        "__rpow__": _rpow,
        "__abs__": _abs,
        "abs": _abs,
        "exp": _exp,
        "log": _log,
        "detach": _detach,
        "clamp": _clamp,
        "mean": _mean,
        "sum": _sum,
        "expectation": _expectation,
        "explain": _explain,
        "constant_var": _constant_var,
        "for_player": for_player,
        "from_function": staticmethod(FromFunction),
    }
    distribution: dict[str, Any] = {
        "__mul__": _multiply,
        "log_prob": _log_prob,
        "graph": _graph,
        "replace_var": _replace_var,
        "marginalize_var": _marginalize_var,
        "posterior": _posterior,
        "condition": _condition,
        "__truediv__": _divide,
    }
    for owner, methods in ((Loss, loss), (Distribution, distribution)):
        for name, method in methods.items():
            setattr(owner, name, method)
