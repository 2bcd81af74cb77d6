"""Leaves: single conditionals, whose parameters come from a network or from constants."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

from ._bindings import Binding, Factor
from ._constants import WithConstants
from ._dims import Term
from ._errors import FormulaError, KindError, ParameterError
from ._given_networks import WHOLE, GivenNetworks
from ._network import Outputs, run_network
from ._parser import parse_density
from ._single import Single
from ._variables import check_names


class Leaf(WithConstants, Single):
    """A single conditional whose parameters are given: its parameters come from `forward`, which subclasses write, or are given.

    Args:
        text: the distribution as papers write it, `"q(z|x)"`, in place of `var`, `cond_var` and `name`.
        network: called with the conditioning variables in the order written; it returns a dict of parameters.
        var: the variables.
        cond_var: the variables it depends on; `forward` takes them by these names.
        name: the letter before the brackets.
        given: parameters, by name. A number, a tensor or an `nn.Parameter` is a constant, the last one trained. A string names the
            conditioning variable that is the parameter. A network is called with the conditioning variables: by keyword where its signature
            has their names, else by position.

    Raises:
        FormulaError: for names that are none, or stand twice, or if `forward` does not take the conditioning variables.
        ParameterError: if a parameter is said to be a variable that is not in `cond_var`.
    """

    leaf_text: str
    constant_names: tuple[str, ...]
    given_variables: dict[str, str]
    given_networks: GivenNetworks | None
    _reserved: ClassVar[frozenset[str]] = frozenset()
    _writes_forward: ClassVar[bool] = False

    def __init__(
        self,
        text: str | None = None,
        network: Callable[..., Any] | None = None,
        /,
        *,
        var: Iterable[str] | None = None,
        cond_var: Iterable[str] | None = None,
        name: str | None = None,
        **given: Any,
    ) -> None:
        super().__init__()
        if text is not None:
            if not (var is None and cond_var is None and name is None):
                raise FormulaError(f"{type(self).__name__}: {text!r} says what var, cond_var and name would; give either.")
            name, var, cond_var = parse_density(text)
        self.var = check_names(("x",) if var is None else var, "var")
        self.cond_var = check_names(() if cond_var is None else cond_var, "cond_var")
        (self.name,) = check_names(("p" if name is None else name,), "name")
        if not self.var:
            raise FormulaError(f"{type(self).__name__}: var is empty; a distribution is over at least one variable.")
        both = [v for v in self.var if v in self.cond_var]
        if both:
            raise FormulaError(f"{self.prob_text}: {both[0]} stands on both sides of the bar.")
        # Its text, once and for all: renamed views have another, and the module tree must not depend on them.
        self.leaf_text = self.prob_text
        self._check_forward()
        self._take(given, network)

    def _take(self, given: Mapping[str, Any], network: Callable[..., Any] | None) -> None:
        """Sorts what is given into variables, networks and constants."""
        self.given_variables = {k: v for k, v in given.items() if isinstance(v, str)}
        for k, v in self.given_variables.items():
            if v not in self.cond_var:
                raise ParameterError(
                    f"{self.prob_text}: {k}={v!r} says that {k} is the variable {v}, which is not in cond_var; write cond_var=[{v!r}]."
                )
        networks = {k: v for k, v in given.items() if callable(v) and not isinstance(v, Tensor)}
        if network is not None:
            if not callable(network):
                raise KindError(f"{self.prob_text}: the network must be a module or a function; got a {type(network).__name__}.")
            networks[WHOLE] = network
        if networks and not self.cond_var:
            raise FormulaError(f"{self.prob_text} depends on nothing, so {next(iter(networks))} cannot be a network; give a constant.")
        self._register_networks(GivenNetworks(networks, self.cond_var, self.prob_text) if networks else None)
        constants = {k: v for k, v in given.items() if k not in self.given_variables and k not in networks}
        self.give_constants(constants)
        self.constant_names = tuple(constants)

    def _register_networks(self, networks: GivenNetworks | None) -> None:
        """Not by assignment, which refuses the library's own words; and no child where there is none, lest it be printed.

        In the dict as well, where it is found at once: every evaluation asks for it, and nn.Module looks among its modules last.
        """
        self.__dict__.pop("given_networks", None)
        if networks is not None:
            self.add_module("given_networks", networks)
        self.__dict__["given_networks"] = networks

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        ours = [c for c in cls.__mro__ if c.__module__.startswith("pixyz.")]
        cls._writes_forward = cls.forward is not Leaf.forward
        cls._reserved = frozenset(name for c in ours for name in (*vars(c), *vars(c).get("__annotations__", ())))

    def __setattr__(self, name: str, value: Any) -> None:
        # A tensor that is registered may be replaced under its own name: so sharding, assignment and conversion replace parameters.
        is_there = isinstance(value, nn.Parameter) and any([name in self.__dict__.get(of, ()) for of in ("_parameters", "_buffers")])
        if isinstance(value, (nn.Module, nn.Parameter)) and not is_there:
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

    def _architecture(self) -> tuple[str, str]:
        return f" ({self.distribution_name})", nn.Module.__repr__(self)

    @property
    def has_network(self) -> bool:
        """Whether a network is run for its parameters: a `forward` that the class writes, or one that was given."""
        return self.given_networks is not None or self._writes_forward

    @property
    def _returns_parameters(self) -> bool:
        """Whether only an evaluation shows which parameters there are."""
        return self._writes_forward or (self.given_networks is not None and self.given_networks.is_whole)

    def forward(self, **inputs: Tensor) -> dict[str, Any]:
        """The parameters, by name, for conditioning variables `(batch, *features)`. Subclasses write this."""
        return {} if self.given_networks is None else self.given_networks(**inputs)

    def run(self, factor: Factor, inputs: tuple[Binding, ...]) -> Outputs:
        """What the networks return for these inputs.

        Raises:
            ParameterError: if one thing is said twice.
        """
        outputs = run_network(self, factor, inputs)
        if self._writes_forward and self.given_networks is not None:
            for name, tensor in run_network(self.given_networks, factor, inputs).tensors.items():
                self._check_once(name, outputs.tensors)
                outputs.tensors[name] = tensor
        for name in (*self.constant_names, *self.given_variables):
            self._check_once(name, outputs.tensors)
        return outputs

    def _check_once(self, name: str, returned: Iterable[str]) -> None:
        if name in returned:
            raise ParameterError(f"{self.prob_text}: {name} is given and returned by a network as well; drop one.")

    def given_terms(self, inputs: tuple[Binding, ...]) -> dict[str, Term]:
        """The parameters that are constants or variables."""
        terms = {k: Term(getattr(self, k), ()) for k in self.constant_names}
        for k, v in self.given_variables.items():
            binding = inputs[self.cond_var.index(v)]
            terms[k] = Term(binding.tensor, binding.dims)
        return terms

    def extra_repr(self) -> str:
        """What is given, for `print`."""
        constants = [f"{k}={_short(getattr(self, k))}" for k in self.constant_names]
        return ", ".join([*constants, *[f"{k}={v}" for k, v in self.given_variables.items()]])

    def _check_forward(self) -> None:
        if not self._writes_forward:
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


def _short(t: Tensor) -> str:
    return f"{t.item():.6g}" if t.numel() == 1 and not t.is_meta else f"tensor({', '.join(map(str, t.shape))})"
