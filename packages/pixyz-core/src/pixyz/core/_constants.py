"""Constants of a leaf: numbers, tensors and parameters. A number keeps its digits when the leaf is converted to another dtype."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ._dims import need_dense
from ._errors import FormulaError, KindError
from ._variables import is_number


class WithConstants(nn.Module):
    """A module whose constants are given by name: buffers, or parameters where they are trained.

    A Python number has no dtype. A buffer holds it in the default one; converted to another dtype, it has all its digits again: float64
    gets 0.1, and not what float32 made of it.

    Examples:
        >>> class Shift(WithConstants):
        ...     def __init__(self, by):
        ...         super().__init__()
        ...         self.give_constants({"by": by})
        >>> shift = Shift(0.1)
        >>> shift.by.dtype, shift.constant_in("by", torch.float64).item(), shift.double().by.item()
        (torch.float32, 0.1, 0.1)
    """

    def give_constants(self, given: Mapping[str, Any]) -> None:
        """Registers numbers and tensors as buffers, copied, and `nn.Parameter`s as parameters.

        A number takes the dtype of the tensors beside it.
        """
        dtype = next((v.dtype for v in given.values() if isinstance(v, Tensor) and v.is_floating_point()), None)
        self.__dict__["_numbers"] = {name: float(v) for name, v in given.items() if is_number(v)}
        for name, value in given.items():
            if hasattr(nn.Module, name):
                raise FormulaError(
                    f"{type(self).__name__}: {name} is a word of every nn.Module; call the variable or parameter something else."
                )
            if isinstance(value, Tensor):
                need_dense(value, type(self).__name__, name)
            if isinstance(value, nn.Parameter):
                self.register_parameter(name, value)
            elif isinstance(value, Tensor):
                self.register_buffer(name, value if value.requires_grad else value.clone())
            elif is_number(value):
                self.register_buffer(name, torch.tensor(float(value), dtype=dtype))
            else:
                raise KindError(
                    f"{type(self).__name__}: {name} must be a number, a tensor or an nn.Parameter; got a {type(value).__name__}."
                )

    def constant_in(self, name: str, dtype: torch.dtype) -> Tensor:
        """The constant in this dtype."""
        held = getattr(self, name)
        return self._with_all_digits(name, held, held.to(dtype))

    def _with_all_digits(self, name: str, held: Tensor, converted: Tensor) -> Tensor:
        """A constant after its conversion: the number that was given, where that is what the buffer held."""
        number = self.__dict__["_numbers"].get(name)
        if number is None or held.dtype == converted.dtype:
            return converted
        given = held.to(converted.device) == torch.full_like(converted, number, dtype=held.dtype)
        return torch.where(given, torch.full_like(converted, number), converted)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        held = {name: self._buffers[name] for name in self.__dict__.get("_numbers", ())}
        super()._apply(fn, recurse)
        for name, before in held.items():
            after = self._buffers[name]
            if before is not None and after is not None:
                self._buffers[name] = self._with_all_digits(name, before, after)
        return self
