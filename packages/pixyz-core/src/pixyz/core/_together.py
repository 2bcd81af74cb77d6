"""Several losses of the same data, one after the other: what they have in common runs once."""

from collections.abc import Hashable, Mapping, Set
from typing import Any

from torch import Tensor, nn

from ._autocast import in_full_precision
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
        return loss.for_each_datum(in_full_precision(scope.evaluate, loss), scope.batch).tensor

    def keep(self, modules: Set[nn.Module]) -> None:
        """Whatever was not computed by these modules alone is computed anew: the others have changed."""
        memo = self._scope.shared.memo
        for key in [key for key in memo if not _is_of(modules, key)]:
            del memo[key]


def _is_of(modules: Set[nn.Module], key: Hashable) -> bool:
    """Whether a key of the memo names modules, and all of them are among these."""
    named = [x for x in key if isinstance(x, nn.Module)] if isinstance(key, tuple) else []
    return bool(named) and all([module in modules for module in named])
