"""Leaves: single conditionals, whose parameters come from a network or from constants."""

import inspect
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ._distribution import Distribution
from ._errors import FormulaError, KindError
from ._formula import Formula
from ._scope import Binding, Conditional, Factor, Scope
from ._variables import check_names, is_number


class Leaf(Distribution):
    """A single conditional: its parameters come from `forward`, which subclasses write, or from constants.

    Written by a leaf: `conditional`; and what the estimators ask, `has_rsample`, `has_enumerate` and `is_deterministic`.
    """

    distribution_name: ClassVar[str] = ""
    has_rsample: ClassVar[bool] = False
    has_enumerate: ClassVar[bool] = False
    is_deterministic: ClassVar[bool] = False
    leaf_text: str
    _reserved: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, var: Iterable[str], cond_var: Iterable[str], name: str) -> None:
        super().__init__()
        self.var = check_names(var, "var")
        self.cond_var = check_names(cond_var, "cond_var")
        (self.name,) = check_names((name,), "name")
        if not self.var:
            raise FormulaError(f"{type(self).__name__}: var is empty; a distribution is over at least one variable.")
        both = [v for v in self.var if v in self.cond_var]
        if both:
            raise FormulaError(f"{self.prob_text}: {both[0]} stands on both sides of the bar.")
        # Its text, once and for all: renamed views have another, and the module tree must not depend on them.
        self.leaf_text = self.prob_text
        self.hidden_var = frozenset()
        self._check_forward()

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        ours = [c for c in cls.__mro__ if c.__module__.startswith("pixyz.")]
        cls._reserved = frozenset(name for c in ours for name in (*vars(c), *vars(c).get("__annotations__", ())))

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, (nn.Module, nn.Parameter)):
            if name in self._reserved:
                raise FormulaError(
                    f"{type(self).__name__}: {name!r} is a word of the library's own on a distribution; "
                    f"call the network something else, like {name}_net."
                )
            if name in self.__dict__.get("constant_names", ()):
                raise FormulaError(
                    f"{type(self).__name__}: {name} is given as a constant already; call the network something else, like {name}_net."
                )
        super().__setattr__(name, value)

    @abstractmethod
    def conditional(self, scope: Scope, factor: Factor, inputs: tuple[Binding, ...]) -> Conditional:
        """This distribution given its inputs, in the order of `cond_var`. A part is asked for through the scope."""

    def kl_rule(self, other: "Leaf") -> Any:
        """A function of both conditionals that gives KL[self||other] as a term, or None if no closed form is known."""
        return None

    @property
    def factors(self) -> tuple[Factor, ...]:  # type: ignore[override]
        return (Factor(self, self.var, self.cond_var),)

    @property
    def ancestral(self) -> tuple[Factor, ...]:  # type: ignore[override]
        return self.factors

    @property
    def formula(self) -> Formula:
        return self.density

    def _architecture(self) -> tuple[str, str]:
        return f" ({self.distribution_name})", nn.Module.__repr__(self)

    @property
    def has_network(self) -> bool:
        """Whether the class writes a `forward`."""
        return type(self).forward is not nn.Module.forward

    def _check_forward(self) -> None:
        if not self.has_network:
            return
        parameters = list(inspect.signature(type(self).forward).parameters.values())[1:]
        if any(p.kind is p.VAR_KEYWORD for p in parameters):
            return
        takes = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
        required = [p.name for p in parameters if p.default is p.empty and p.name in takes]
        unknown, lacking = [v for v in required if v not in self.cond_var], [v for v in self.cond_var if v not in takes]
        if unknown or lacking:
            raise FormulaError(
                f"{self.prob_text}: {type(self).__name__}.forward takes ({', '.join(takes)}), but cond_var is "
                f"({', '.join(self.cond_var)}). The names must be the same."
            )


def constant_parameters(owner: nn.Module, given: Mapping[str, Any]) -> None:
    """Registers numbers and tensors as buffers of `owner`, copied, and `nn.Parameter`s as its parameters.

    A number takes the dtype of the tensors beside it.
    """
    dtype = next((v.dtype for v in given.values() if isinstance(v, Tensor) and v.is_floating_point()), None)
    for name, value in given.items():
        if isinstance(value, nn.Parameter):
            owner.register_parameter(name, value)
        elif isinstance(value, Tensor):
            owner.register_buffer(name, value if value.requires_grad else value.clone())
        elif is_number(value):
            owner.register_buffer(name, torch.tensor(float(value), dtype=dtype))
        else:
            raise KindError(f"{type(owner).__name__}: {name} must be a number, a tensor or an nn.Parameter; got a {type(value).__name__}.")
