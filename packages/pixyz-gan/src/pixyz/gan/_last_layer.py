"""The last layer of a discriminator, which must give any number, no probability."""

import warnings
from collections.abc import Callable
from typing import Any

from torch import nn

from pixyz.core import Distribution, GivenNetworks

from ._packing import Packed

PROBABILITIES = (nn.Sigmoid, nn.Hardsigmoid, nn.Softmax, nn.Softmin, nn.LogSigmoid, nn.LogSoftmax)
SHAPES = (nn.Identity, nn.Flatten, nn.Unflatten)
"""What changes no number."""


def warn_of_probabilities(d: Distribution) -> None:
    """A warning if the network that was given for the discriminator's number ends in a layer whose numbers are probabilities."""
    layer = squashing_layer(d)
    if layer is not None:
        warnings.warn(
            f"{d.prob_text}: its network ends in a {layer}, so its numbers are probabilities, or their logarithms. It must give logits, "
            f"any number: leave the {layer} out of its network, for the loss has one where it needs it.",
            stacklevel=3,
        )


def squashing_layer(d: Distribution) -> str | None:
    """The name of that layer; None where there is none, or only a forward knows what comes last."""
    dist: Any = d.factors[0].dist
    networks: GivenNetworks | None = getattr(dist, "given_networks", None)
    for name in () if networks is None else networks.names:
        support = None if dist.is_deterministic else dist.supports.get(name)
        # A parameter that has bounds itself, as probs, may come from such a layer.
        if support is None or support.open_sides == 2:
            last = _last(networks.network_of(name)) if networks is not None else None
            if isinstance(last, PROBABILITIES):
                return type(last).__name__
    return None


def _last(network: Callable[..., Any]) -> Callable[..., Any]:
    """The layer whose numbers a network returns, as far as its modules show."""
    if isinstance(network, Packed):
        return _last(network.network)
    if isinstance(network, nn.Sequential):
        layers = [layer for layer in network if not isinstance(layer, SHAPES)]
        return _last(layers[-1]) if layers else network
    return network
