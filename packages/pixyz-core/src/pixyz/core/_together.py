"""Several losses of the same data, one after the other: what they have in common runs once."""

from collections.abc import Hashable, Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from ._loss import Loss
from ._scope import Scope


class Together:
    """One evaluation for several losses, between which weights may change: the generator's draw serves the discriminator, and then,
    when that has stepped, the generator.

    Args:
        loss: what all of them are parts of.
        values: as for `estimate`.
        options: those of `estimate`.

    Raises:
        MissingVariableError, BoundVariableError, ShapeError, SupportError, KindError: as `estimate`.

    Examples:
        >>> import torch
        >>> from pixyz.distributions import Normal
        >>> p = Normal("p(z)", loc=0.0, scale=1.0)
        >>> a, b = [(sign * p.log_prob()).expectation(p) for sign in (1, -1)]
        >>> both = Together(a + b, {})
        >>> bool(both.value(a) + both.value(b) == 0)
        True
    """

    def __init__(self, loss: Loss, values: Mapping[str, Any] | None, **options: Any) -> None:
        self._scope = loss.open(values, **options)

    def value(self, loss: Loss) -> Tensor:
        """The loss, `(batch,)` or `()`, ready for `backward()`."""
        outer = self._scope
        scope = Scope(outer.shared, dict(outer.bindings), outer.batch)
        return loss.for_each_datum(scope.evaluate(loss), scope.batch).tensor

    def changed(self, weights: Iterable[nn.Parameter]) -> None:
        """These weights have changed: whatever was computed with them is computed anew."""
        new = {*weights}
        modules: dict[nn.Module, bool] = {}

        def is_kept(key: Hashable) -> bool:
            found = [x for x in (key if isinstance(key, tuple) else ()) if isinstance(x, nn.Module)]
            for module in found:
                if module not in modules:
                    modules[module] = not _holds(module, new)
            return bool(found) and all([modules[module] for module in found])

        memo = self._scope.shared.memo
        for key in [key for key in memo if not is_kept(key)]:
            del memo[key]


def _holds(module: nn.Module, weights: set[nn.Parameter]) -> bool:
    """Whether any of them is a parameter of the module or of one inside it."""
    inside: list[nn.Module | None] = [module]
    for m in inside:  # which grows by the children of each
        if m is not None:
            if not weights.isdisjoint(m._parameters.values()):
                return True
            inside += m._modules.values()
    return False
