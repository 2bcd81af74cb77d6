"""Networks that are given to a leaf as arguments, one for all its parameters or one for each."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from ._closures import warn_of_networks
from ._errors import FormulaError, KindError

WHOLE = "network"
"""The name of the one network that returns all parameters."""


class GivenNetworks(nn.Module):
    """The networks of a leaf; called with its conditioning variables, it returns what each of them gives, by name.

    Args:
        networks: by the name of a parameter; under `WHOLE`, one that returns a dict of several. Modules are registered, so their weights
            are found and trained; plain functions are called as they are.
        cond_var: the leaf's conditioning variables, in the order written.
        who: the leaf, for the messages.
    """

    def __init__(self, networks: Mapping[str, Callable[..., Any]], cond_var: tuple[str, ...], who: str) -> None:
        super().__init__()
        self._who = who
        self.is_whole = WHOLE in networks
        self._order = cond_var
        self._functions = {name: f for name, f in networks.items() if not isinstance(f, nn.Module)}
        for name, network in networks.items():
            if isinstance(network, nn.Module):
                if name in dir(self):
                    raise FormulaError(
                        f"{who}: {name} is a word of the module that keeps networks, so no network can be kept under it; call it otherwise."
                    )
                self.add_module(name, network)
        self._by_keyword = {name: _keywords(f, cond_var) if name != WHOLE else None for name, f in networks.items()}
        for f in self._functions.values():
            warn_of_networks(f, who)
        for name, keywords in self._by_keyword.items():
            if keywords is None and not _takes(networks[name], len(cond_var)):
                raise FormulaError(f"{who}: {name} is called with {', '.join(cond_var)}, but it takes {_signature(networks[name])}.")

    def extra_repr(self) -> str:
        """The plain functions, for `print`."""
        return ", ".join(f"{name}={getattr(f, '__name__', type(f).__name__)}" for name, f in self._functions.items())

    @property
    def names(self) -> tuple[str, ...]:
        """What is given by a network, or `WHOLE`."""
        return tuple(self._by_keyword)

    def takes(self, name: str) -> tuple[str, ...]:
        """The conditioning variables with which the network of this name is called."""
        keywords = self._by_keyword[name]
        return self._order if keywords is None else keywords

    def linear_in(self, name: str) -> frozenset[str]:
        """The variables in which the network of this name is declared affine: an `nn.Linear`, or the keys of its own `linear_maps`."""
        network, taken = self.network_of(name), self.takes(name)
        # A subclass with a forward of its own may compute anything.
        if isinstance(network, nn.Linear) and type(network).forward is nn.Linear.forward and len(taken) == 1:
            return frozenset(taken)
        maps = getattr(network, "linear_maps", None)
        return frozenset(maps).intersection(taken) if isinstance(maps, Mapping) else frozenset()

    def linear_map(self, name: str, variable: str) -> Tensor:
        """The matrix `(D, D_in)` by which the network of this name depends on a variable of `linear_in`."""
        network: Any = self.network_of(name)
        return network.weight if isinstance(network, nn.Linear) else network.linear_maps[variable]

    def network_of(self, name: str) -> Callable[..., Any]:
        """The network of this name."""
        return self._functions[name] if name in self._functions else getattr(self, name)

    def forward(self, **inputs: Tensor) -> dict[str, Any]:
        """What the networks give: by keyword where a signature has the variables' names, else by position."""
        outputs: dict[str, Any] = {}
        for name, keywords in self._by_keyword.items():
            network = self.network_of(name)
            if keywords is None:
                returned = network(*[inputs[v] for v in self._order])
            else:
                returned = network(**{v: inputs[v] for v in keywords})
            if name != WHOLE:
                outputs[name] = returned
            elif isinstance(returned, Mapping):
                outputs.update(returned)
            else:
                what = f"a tensor of shape {tuple(returned.shape)}" if isinstance(returned, Tensor) else f"a {type(returned).__name__}"
                raise KindError(
                    f'{self._who}: the network must return a dict of parameters, like {{"loc": ..., "scale": ...}}; it returned {what}. '
                    f'Or give each parameter a network of its own: "{self._who}", loc=network1, scale=network2.'
                )
        return outputs


def _takes(network: Callable[..., Any], count: int) -> bool:
    """Whether it can be called with so many arguments by position; what is built in does not say, and may."""
    signature = _signature(network)
    if signature is None:
        return True
    try:
        signature.bind(*range(count))
    except TypeError:
        return False
    return True


def _signature(network: Callable[..., Any]) -> inspect.Signature | None:
    try:
        return inspect.signature(network.forward if isinstance(network, nn.Module) else network)
    except (TypeError, ValueError):
        return None


def _keywords(network: Callable[..., Any], cond_var: tuple[str, ...]) -> tuple[str, ...] | None:
    """The variables that the signature names, if it needs no others; None for a call by position."""
    signature = _signature(network)
    if signature is None:
        return None
    parameters = signature.parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return cond_var
    names = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    required = {p.name for p in parameters if p.default is p.empty and p.kind is not p.VAR_POSITIONAL}
    taken = tuple(v for v in cond_var if v in names)
    return taken if taken and required.issubset(taken) else None
