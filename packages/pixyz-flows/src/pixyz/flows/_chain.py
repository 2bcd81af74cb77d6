"""Bijections one after another."""

from collections.abc import Iterable, Sequence
from typing import cast

from torch import Tensor, nn

from pixyz.core import FormulaError, KindError, ShapeError, SupportError
from pixyz.distributions import Support

from ._bijection import Bijection, Inverse, Mapped


class Chain(Bijection):
    r"""Bijections one after another: y = f_n(... f_2(f_1(x))), the first one first; flat, whatever it is made of.

    $$\log\left|\det\frac{\partial y}{\partial x}\right| = \sum_i \log\left|\det\frac{\partial f_i}{\partial x_{i-1}}\right|$$

    All that take a context get the same. It is made by `f >> g` as well.

    Args:
        layers: the bijections, in the order in which they are applied.

    Raises:
        FormulaError: for no layers.
        KindError: for what is no bijection.
        ShapeError: for features or contexts that do not fit one another.
        SupportError: for a layer whose domain is smaller than what comes.

    Examples:
        >>> import torch
        >>> from pixyz.flows import AffineMap, Coupling, Reverse
        >>> f = Coupling(4, map=AffineMap()) >> Reverse(4) >> Coupling(4, map=AffineMap())
        >>> len(f.layers), f.in_shape
        (3, (4,))
        >>> y, log_det = f.forward_and_log_det(torch.zeros(5, 4))
        >>> y.shape, log_det.shape
        (torch.Size([5, 4]), torch.Size([5]))
    """

    def __init__(self, layers: Iterable[Bijection]) -> None:
        flat: list[Bijection] = []
        for layer in layers:
            if not isinstance(layer, Bijection):
                raise KindError(f"Chain takes bijections; got a {type(layer).__name__}.")
            flat += _layers_of(layer)
        if not flat:
            raise FormulaError("Chain takes at least one bijection; got none.")
        shape = next((f.in_shape for f in flat if f.in_shape is not None), None)
        super().__init__(shape, context=_common_context(flat))
        self.out_shape = _check_fit(flat)
        self.domain, self.codomain = _outer(flat)
        self.push_passes, self.pull_passes = _total([f.push_passes for f in flat]), _total([f.pull_passes for f in flat])
        self.layers = nn.ModuleList(flat)

    @property
    def _each(self) -> Sequence[Bijection]:
        return cast("Sequence[Bijection]", self.layers)

    def push(self, x: Tensor, context: Tensor | None) -> Mapped:
        total: Tensor | None = None
        for layer in self._each:
            x, log_det = layer.push(x, context if layer.context else None)
            total = log_det if total is None else total + log_det
        return x, x.new_zeros(()) if total is None else total

    def pull(self, y: Tensor, context: Tensor | None) -> Mapped:
        total: Tensor | None = None
        for layer in reversed(self._each):
            y, log_det = layer.pull(y, context if layer.context else None)
            total = log_det if total is None else total + log_det
        return y, y.new_zeros(()) if total is None else total

    def start(self, x: Tensor, context: Tensor | None) -> None:
        for layer in self._each:
            layer.start(x, context if layer.context else None)
            x, _ = layer.push(x, context if layer.context else None)

    def start_back(self, y: Tensor, context: Tensor | None) -> None:
        for layer in reversed(self._each):
            layer.start_back(y, context if layer.context else None)
            y, _ = layer.pull(y, context if layer.context else None)

    @property
    def needs_start(self) -> bool:
        return any(layer.needs_start for layer in self._each)

    def need_push(self, who: object) -> None:
        if self.push_passes is None:
            for layer in self._each:
                layer.need_push(who)

    def need_pull(self, who: object) -> None:
        if self.pull_passes is None:
            for layer in self._each:
                layer.need_pull(who)


def _layers_of(f: Bijection) -> list[Bijection]:
    if isinstance(f, Chain):
        return [*f._each]
    if isinstance(f, Inverse) and isinstance(f.of, Chain):
        return [layer.inverse for layer in reversed(f.of._each)]
    return [f]


def _common_context(layers: Sequence[Bijection]) -> int:
    widths = {f.context: f for f in layers if f.context}
    if len(widths) > 1:
        said = ", ".join(f"{f.words} takes {n} features" for n, f in widths.items())
        raise ShapeError(f"Chain: all layers get the same context, but {said}.")
    return next(iter(widths), 0)


def _check_fit(layers: Sequence[Bijection]) -> tuple[int, ...] | None:
    """The features behind the last layer, if each takes what the one before it gives."""
    shape, giver = layers[0].in_shape, layers[0]
    for i, f in enumerate(layers):
        if f.in_shape is not None and shape is not None and f.in_shape != shape:
            raise ShapeError(f"Chain: layer {i}, {f.words}, takes features {f.in_shape}, but {giver.words} before it gives {shape}.")
        shape, giver = f.out_shape if f.out_shape is not None else shape, f
    return shape


def _outer(layers: Sequence[Bijection]) -> tuple[Support | None, Support | None]:
    """Where what goes in and what comes out lies, if each layer takes what comes from those before it."""
    entry: Support | None = None
    inside: Support | None = None
    for i, f in enumerate(layers):
        if f.domain is None:
            continue
        if inside is None:
            entry = f.domain
        elif inside.lower < f.domain.lower or inside.upper > f.domain.upper:
            raise SupportError(
                f"Chain: layer {i}, {f.words}, takes what is {f.domain.words}, but what comes from before it is {inside.words}."
            )
        inside = f.codomain
    return entry, inside


def _total(passes: Sequence[int | None]) -> int | None:
    known = [n for n in passes if n is not None]
    return sum(known) if len(known) == len(passes) else None


def _then(first: Bijection, second: Bijection) -> Chain:
    """f >> g: f, then g."""
    return Chain([first, second])


Bijection.__rshift__ = _then  # type: ignore[method-assign]
