"""What a graph was captured for: all that decides which operations a step has."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pixyz.models import Model


class Signature(NamedTuple):
    """What must be the same for a graph to be replayed."""

    keys: frozenset[str]
    values: tuple[Any, ...]
    options: Any
    modes: tuple[bool, ...]
    weights: tuple[int, ...]
    trained: tuple[bool, ...]
    settings: tuple[Any, ...]
    context: tuple[Any, ...]
    checks: tuple[Any, ...]

    def differences(self, other: "Signature", names: "Names") -> str:
        """What is different in the other one, in words."""
        said = [*_of_values(self, other)]
        if self.options != other.options:
            said.append(f"the options are {_options(other.options)}, and were {_options(self.options)}")
        said += _flags(self.modes, other.modes, names.modules, "is in train mode", "is in evaluation mode")
        changed = [name for name, a, b in zip(names.weights, self.weights, other.weights, strict=True) if a != b]
        if changed:
            said.append(f"{_few(changed)} was replaced by another parameter")
        said += _flags(self.trained, other.trained, names.weights, "requires a gradient", "requires no gradient")
        for (name, group, keys, before), (_, _, _, after) in zip(self.settings, other.settings):
            where = f"{name}, group {group + 1}" if any(number for _, number, *_ in self.settings) else name
            said += [f"the {key} of {where} is {_show(b)}, and was {_show(a)}" for key, a, b in zip(keys, before, after) if a != b]
        for word, a, b in zip(_CONTEXT, self.context, other.context, strict=True):
            if a != b:
                said.append(f"{word} is {_show(b)}, and was {_show(a)}")
        for word, a, b in zip(("validate", "the scaling of losses"), self.checks, other.checks, strict=True):
            if a != b:
                said.append(f"{word} is {_show(b)}, and was {_show(a)}")
        return "; ".join(said) or "the settings of an optimiser are others"

    @property
    def require_gradients(self) -> list[str]:
        """The names of the values that require a gradient."""
        return [name for name, *kind in self.values if len(kind) > 1 and kind[3]]

    def __str__(self) -> str:
        return ", ".join(f"{name} {_of_value(value, where=False)}" for name, *value in self.values) or "no values"


# The weights and rates are tensors, and how a step is run is not what it computes.
_NOT_IN_A_GRAPH = frozenset(("params", "lr", "initial_lr", "foreach", "fused", "capturable", "differentiable"))
_NUMBERS = frozenset((bool, int, float, str))
_CONTEXT = ("autocast", "grad mode", "inference mode")


class Names(NamedTuple):
    """The names of what a signature lists."""

    modules: list[str]
    weights: list[str]


class Signatures:
    """Reads signatures off a model: at each step, so what does not change is looked up once.

    Args:
        model: the model.
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        loss = model.loss
        self.inputs = [*loss.input_var, *sorted(loss.optional_var)]
        named = [*loss.named_modules()]
        self._modules = [module for _, module in named]
        self._slots = [
            (module._parameters, name, f"{path}.{name}" if path else name) for path, module in named for name in module._parameters
        ]
        self.names = Names([path or str(loss) for path, _ in named], [name for *_, name in self._slots])
        self._device = model.trained_parameters[0].device.type

    def of(self, values: Mapping[str, Any], options: Mapping[str, Any], *, is_scaled: bool) -> Signature:
        """The signature of a step with these values and options, as the model and torch are now."""
        weights = [slots.get(name) for slots, name, _ in self._slots]
        settings = tuple(
            [
                _settings(type(optimizer).__name__, number, group)
                for optimizer in self._model.optimizers
                for number, group in enumerate(optimizer.param_groups)
            ]
        )
        device = self._device
        return Signature(
            frozenset(values.keys()),
            tuple([(name, *_kind_of(values[name])) for name in self.inputs if name in values]),
            tuple([(name, _hashable(options[name])) for name in sorted(options)]),
            tuple([m.training for m in self._modules]),
            tuple(map(id, weights)),
            tuple([w is not None and w.requires_grad for w in weights]),
            settings,
            (
                torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else False,
                torch.is_grad_enabled(),
                torch.is_inference_mode_enabled(),
            ),
            (self._model.validate, is_scaled),
        )


def _kind_of(value: Any) -> tuple[Any, ...]:
    if isinstance(value, Tensor):
        return value.shape, value.dtype, value.device, value.requires_grad, value.layout
    return (type(value).__name__,)


def _hashable(value: Any) -> Any:
    if value is None or type(value) in _NUMBERS:
        return value
    if isinstance(value, Tensor):
        return id(value)
    if isinstance(value, Mapping):
        return tuple([(k, _hashable(v)) for k, v in value.items()])
    return tuple(map(_hashable, value)) if isinstance(value, (list, tuple)) else value


def _settings(name: str, number: int, group: Mapping[str, Any]) -> tuple[Any, ...]:
    keys = tuple([key for key in group if key not in _NOT_IN_A_GRAPH])
    return name, number, keys, tuple([_hashable(group[key]) for key in keys])


def _of_values(before: Signature, after: Signature) -> list[str]:
    said = []
    came, went = sorted(after.keys - before.keys), sorted(before.keys - after.keys)
    if came:
        said.append(f"{_few(came)} came")
    if went:
        said.append(f"{_few(went)} did not come")
    old = {name: value for name, *value in before.values}
    for name, *value in after.values:
        if name in old and value != old[name]:
            said.append(f"{name} is {_of_value(value)}, and was {_of_value(old[name])}")
    return said


def _of_value(value: Sequence[Any], *, where: bool = True) -> str:
    if len(value) == 1:
        return f"a {value[0]}"
    shape, dtype, device, requires_grad, layout = value
    more = (" with a gradient" if requires_grad else "") + ("" if layout == torch.strided else f" {layout}")
    return f"{tuple(shape)} {_show(dtype)}" + (f" on {device}" if where else "") + more


def _flags(before: Sequence[bool], after: Sequence[bool], names: Sequence[str], yes: str, no: str) -> list[str]:
    said = []
    for flag, words in ((True, yes), (False, no)):
        changed = [name for name, a, b in zip(names, before, after, strict=True) if a != b and b is flag]
        if changed:
            said.append(f"{_few(changed)} now {words}")
    return said


def _options(options: Any) -> str:
    return ", ".join(f"{name}={value}" for name, value in options) or "none"


def _few(names: Sequence[str], most: int = 3) -> str:
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def _show(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value).removeprefix("torch.")
