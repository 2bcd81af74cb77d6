"""Networks that are declared linear, and their matrices."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn


def linear_inputs(network: Callable[..., Any], inputs: tuple[str, ...]) -> frozenset[str]:
    """The inputs in which a network is declared affine.

    They are those of an `nn.Linear` or `nn.Identity`, or the keys of the network's own `linear_maps`.
    """
    if isinstance(network, (nn.Linear, nn.Identity)) and len(inputs) == 1:
        return frozenset(inputs)
    maps = getattr(network, "linear_maps", None)
    return frozenset(maps).intersection(inputs) if isinstance(maps, Mapping) else frozenset()


def matrix_of(network: Callable[..., Any], name: str) -> Tensor | None:
    """The matrix `(D, D_in)` by which a network depends on an input; None for the identity."""
    if isinstance(network, nn.Identity):
        return None
    return network.weight if isinstance(network, nn.Linear) else network.linear_maps[name]  # type: ignore[union-attr]
