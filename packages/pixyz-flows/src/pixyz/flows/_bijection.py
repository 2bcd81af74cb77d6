"""What a bijection is: a map with an inverse, and the logarithm of how much it stretches volumes."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from pixyz.core import ON_HOST, Checks, IntractableError, KindError, ShapeError, is_whole
from pixyz.distributions import Interval, Support, outside

if TYPE_CHECKING:
    from ._as_transform import BijectionTransform
    from ._chain import Chain

Shape = tuple[int, ...]
Mapped = tuple[Tensor, Tensor]
"""A value, and the log-determinant of the map that gave it."""

real = Interval("a number")


class Bijection(nn.Module):
    r"""An invertible map y = f(x; c) of tensors `(batch, *features)`, which may depend on a context c.

    Both directions return the log-determinant beside the value, and keep nothing:

    $$y = f(x), \quad \log\left|\det\frac{\partial f}{\partial x}\right|, \qquad\qquad
    x = f^{-1}(y), \quad \log\left|\det\frac{\partial f^{-1}}{\partial y}\right| = -\log\left|\det\frac{\partial f}{\partial x}\right|$$

    Which side is data and which is noise is the distribution's choice, not the bijection's: an `InverseTransformedDistribution` maps data
    to noise with f, a `TransformedDistribution` noise to data. `f >> g` applies f, then g; `f.inverse` has the directions swapped.

    A subclass writes `push`, and `pull` if there is an inverse. They get values whose shape, context and domain are checked already, and
    return the log-determinant as `(batch,)`, or as `()` where it is the same for all data. What starts from data writes `start` too.

    Attributes:
        in_shape: the features of x; None where any will do.
        out_shape: the features of y.
        context: how many features the context has; 0 for none.
        domain: where the numbers of x lie; None where numbers are only moved about, so that any will do.
        codomain: where those of y lie; None where they are those of x.
        push_passes: how often its networks run for y = f(x); None where there is no such direction.
        pull_passes: how often for the inverse.

    Args:
        shape: the features of x: their number, or their shape; None where any will do.
        out_shape: those of y; as those of x, if not given.
        context: how many features the context has.

    Raises:
        KindError: for a shape or a context that is no whole number, or none of the size it must have.

    Examples:
        >>> import math
        >>> class Double(Bijection):
        ...     def push(self, x, context):
        ...         return 2 * x, x.new_tensor(x[0].numel() * math.log(2))
        ...     def pull(self, y, context):
        ...         return y / 2, y.new_tensor(-y[0].numel() * math.log(2))
        >>> y, log_det = (Double() >> Double()).forward_and_log_det(torch.ones(3, 2))
        >>> y[0], log_det
        (tensor([4., 4.]), tensor([2.7726, 2.7726, 2.7726]))
    """

    domain: Support | None = real
    codomain: Support | None = real
    push_passes: int | None = 1
    pull_passes: int | None = 1

    def __init__(self, shape: int | Sequence[int] | None = None, *, out_shape: int | Sequence[int] | None = None, context: int = 0) -> None:
        super().__init__()
        if not is_whole(context) or context < 0:
            raise KindError(f"{type(self).__name__}: context is how many features it has, a whole number; got {context!r}.")
        self.in_shape = as_shape(shape, type(self).__name__)
        self.out_shape = self.in_shape if out_shape is None else as_shape(out_shape, type(self).__name__)
        self.context = context

    @abstractmethod
    def push(self, x: Tensor, context: Tensor | None) -> Mapped:
        """f(x) and its log-determinant, `(batch,)` or `()`. Subclasses write this."""

    def pull(self, y: Tensor, context: Tensor | None) -> Mapped:
        """The x with f(x) = y and the log-determinant of the inverse. Subclasses write this, or set `pull_passes` to None."""
        raise NotImplementedError(f"{type(self).__name__} must write pull, or say pull_passes = None.")

    def start(self, x: Tensor, context: Tensor | None) -> None:
        """Sets what starts from data, by values x of the near side; composites hand on to their parts."""

    def start_back(self, y: Tensor, context: Tensor | None) -> None:
        """The same, by values y of the far side."""

    @property
    def needs_start(self) -> bool:
        """Whether anything in it waits for data to start from."""
        return any(part.needs_start for part in self.children() if isinstance(part, Bijection))

    def forward_and_log_det(self, x: Tensor, context: Tensor | None = None) -> Mapped:
        """y = f(x), `(batch, *out_shape)`, and log|det df/dx| in nats, `(batch,)`.

        Args:
            x: `(batch, *in_shape)`.
            context: `(batch, context)`, where one is needed.

        Raises:
            ShapeError: for other shapes, or a context that is missing.
            SupportError: for x outside of the domain.
            IntractableError: where there is no such direction.
        """
        self.need_push(type(self).__name__)
        if not torch.compiler.is_compiling():
            self.check(x, context, who=type(self).__name__, name="x")
        return _for_each(x, *self.push(x, context))

    def inverse_and_log_det(self, y: Tensor, context: Tensor | None = None) -> Mapped:
        """x = f⁻¹(y), `(batch, *in_shape)`, and log|det df⁻¹/dy| in nats, `(batch,)`; arguments and errors as `forward_and_log_det`."""
        self.need_pull(type(self).__name__)
        if not torch.compiler.is_compiling():
            self.check_back(y, context, who=type(self).__name__, name="y")
        return _for_each(y, *self.pull(y, context))

    def forward(self, x: Tensor, context: Tensor | None = None) -> Mapped:
        """The same as `forward_and_log_det`."""
        return self.forward_and_log_det(x, context)

    @torch.no_grad()
    def initialize(self, values: Tensor, context: Tensor | None = None) -> None:
        """Starts from data: what has not started yet is set by these values of x, `(batch, *in_shape)`.

        Raises:
            ShapeError: for shapes that do not fit, or for too few data.
        """
        self.check(values, context, who=type(self).__name__, name="x")
        self.start(values, context)

    @property
    def inverse(self) -> "Bijection":
        """The same map and the same parameters with the directions swapped."""
        return Inverse(self)

    if TYPE_CHECKING:  # bound in `_chain` and `_as_transform`, above which nothing here may reach

        def __rshift__(self, other: "Bijection") -> "Chain": ...
        def as_transform(self, context: Tensor | None = None, *, cache_size: int = 0) -> "BijectionTransform": ...

    def need_push(self, who: object) -> None:
        """Raises an error where there is no map from x to y."""
        if self.push_passes is None:
            raise IntractableError(f"{who}: {self.words} has no forward direction in closed form; only its inverse_and_log_det is known.")

    def need_pull(self, who: object) -> None:
        """Raises an error where there is no map from y to x."""
        if self.pull_passes is None:
            raise IntractableError(f"{who}: {self.words} has no inverse in closed form; only its forward_and_log_det is known.")

    @property
    def words(self) -> str:
        """What it is called in errors."""
        return f"the {type(self).__name__}"

    def check(self, x: Tensor, context: Tensor | None, *, who: object, name: str, checks: Checks = ON_HOST) -> None:
        """Raises an error unless these values and this context can be mapped.

        Args:
            x: the values.
            context: the context.
            who: the formula, for the messages.
            name: what the formula calls the values.
            checks: how the numbers in them are checked.
        """
        self._check(x, self.in_shape, self.domain, who, name, "takes", checks)
        self._check_context(x, context, who, name)

    def check_back(self, y: Tensor, context: Tensor | None, *, who: object, name: str, checks: Checks = ON_HOST) -> None:
        """The same for values that are to be mapped back."""
        self._check(y, self.out_shape, self.codomain, who, name, "gives", checks)
        self._check_context(y, context, who, name)

    def _check(self, t: Tensor, shape: Shape | None, inside: Support | None, who: object, name: str, does: str, checks: Checks) -> None:
        features = tuple(t.shape[1:])
        if t.ndim == 0 or (shape is not None and features != shape):
            expected = "(batch, *features)" if shape is None else f"features {shape}"
            raise ShapeError(f"{who}: {name} has features {features}, but {self.words} {does} {expected}.")
        like = _first_parameter(self)
        if like is not None and (t.dtype != like.dtype or t.device != like.device):
            raise KindError(
                f"{who}: {name} is {t.dtype} on {t.device}, the parameters of {self.words} are {like.dtype} on {like.device}. "
                "Convert one with .to()."
            )
        if inside is not None and checks and not checks.passed(inside.holds(t.detach(), checks), who):
            raise outside(t.detach(), inside, f"{who}: {name}, which {self.words} {does},")

    def _check_context(self, x: Tensor, context: Tensor | None, who: object, name: str) -> None:
        if context is None:
            if self.context:
                raise ShapeError(f"{who}: {self.words} needs a context of {self.context} features; none is given.")
        elif not self.context:
            raise ShapeError(f"{who}: {self.words} takes no context; make it with context={context.shape[-1]}, or give none.")
        elif tuple(context.shape[1:]) != (self.context,):
            raise ShapeError(f"{who}: the context has features {tuple(context.shape[1:])}, but {self.words} takes ({self.context},).")
        elif context.shape[0] != x.shape[0]:
            raise ShapeError(f"{who}: {name} has batch {x.shape[0]}, the context has batch {context.shape[0]}.")


class Inverse(Bijection):
    """A bijection with its directions swapped; made by `f.inverse`.

    Args:
        of: the bijection; its parameters are shared.

    Examples:
        >>> from pixyz.flows import Permutation
        >>> f = Permutation(4, seed=0)
        >>> x = torch.arange(4.0).expand(1, 4)
        >>> f.inverse.forward_and_log_det(f.forward_and_log_det(x)[0])[0]
        tensor([[0., 1., 2., 3.]])
        >>> f.inverse.inverse is f
        True
    """

    def __init__(self, of: Bijection) -> None:
        super().__init__(of.out_shape, out_shape=of.in_shape, context=of.context)
        self.of = of
        self.domain, self.codomain = of.codomain, of.domain
        self.push_passes, self.pull_passes = of.pull_passes, of.push_passes

    def push(self, x: Tensor, context: Tensor | None) -> Mapped:
        return self.of.pull(x, context)

    def pull(self, y: Tensor, context: Tensor | None) -> Mapped:
        return self.of.push(y, context)

    def start(self, x: Tensor, context: Tensor | None) -> None:
        self.of.start_back(x, context)

    def start_back(self, y: Tensor, context: Tensor | None) -> None:
        self.of.start(y, context)

    @property
    def inverse(self) -> Bijection:
        return self.of

    @property
    def words(self) -> str:
        return f"the inverse of {self.of.words}"

    def check(self, x: Tensor, context: Tensor | None, *, who: object, name: str, checks: Checks = ON_HOST) -> None:
        self.of.check_back(x, context, who=who, name=name, checks=checks)

    def check_back(self, y: Tensor, context: Tensor | None, *, who: object, name: str, checks: Checks = ON_HOST) -> None:
        self.of.check(y, context, who=who, name=name, checks=checks)

    def need_push(self, who: object) -> None:
        self.of.need_pull(who)

    def need_pull(self, who: object) -> None:
        self.of.need_push(who)


def as_shape(shape: int | Sequence[int] | None, who: str) -> Shape | None:
    """A number of features as the shape of a vector.

    Raises:
        KindError: for what is no shape.
    """
    if shape is None:
        return None
    sizes = (shape,) if isinstance(shape, int) else tuple(shape)
    if not all([is_whole(n) and n > 0 for n in sizes]):
        raise KindError(f"{who}: features must be a positive whole number, or a shape of them; got {shape!r}.")
    return sizes


def sum_features(t: Tensor) -> Tensor:
    """`(batch, *features)` summed to `(batch,)`."""
    return t.sum(-1) if t.ndim == 2 else t.flatten(1).sum(-1) if t.ndim > 2 else t


def _first_parameter(module: nn.Module) -> Tensor | None:
    """One parameter, if there is any; `next(parameters())` costs as much as a layer."""
    for parameter in module._parameters.values():
        if parameter is not None:
            return parameter
    for inner in module._modules.values():
        found = None if inner is None else _first_parameter(inner)
        if found is not None:
            return found
    return None


def _for_each(x: Tensor, y: Tensor, log_det: Tensor) -> Mapped:
    return y, log_det if log_det.ndim else log_det.expand(x.shape[0])
