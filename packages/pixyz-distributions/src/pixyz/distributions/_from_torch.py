"""Families made from classes of `torch.distributions`, or of any library that follows it."""

import inspect
from collections.abc import Mapping
from typing import Any, ClassVar

import torch.distributions as td
from torch import Tensor
from torch.distributions import constraints

from pixyz.core import KindError

from ._family import Family, Params, Shape
from ._supports import Constrained, Interval, Support, real, real_vectors

ALTERNATIVES = ("probs", "logits"), ("covariance_matrix", "precision_matrix", "scale_tril"), ("gate", "gate_logits")


class TorchFamily(Family):
    """A family whose functions are those of a `torch.distributions` class, where it does not write its own.

    A subclass names the class and declares parametrisations and supports.
    """

    torch_class: ClassVar[type[td.Distribution]]
    """The class."""

    @staticmethod
    def arguments(params: Params) -> Mapping[str, Tensor]:
        """The parameters as the class takes them."""
        return params

    def __init_subclass__(cls, **options: Any) -> None:
        if "torch_class" in vars(cls):
            for name, function in _functions(cls).items():
                if not cls.knows(name):
                    setattr(cls, name, staticmethod(function))
        super().__init_subclass__(**options)


def _functions(family: type[TorchFamily]) -> dict[str, Any]:
    made, base = family.torch_class, td.Distribution

    def at(params: Params) -> td.Distribution:
        arguments: dict[str, Any] = {**family.arguments(params), "validate_args": False}
        return made(**arguments)

    def spread(params: Params, shape: Shape) -> td.Distribution:
        return at(params).expand(shape[: len(shape) - family.value_support.event_rank])

    functions: dict[str, Any] = {"log_density": lambda params, x: at(params).log_prob(x)}
    if made.has_rsample:
        functions["rsample"] = lambda params, shape: spread(params, shape).rsample()
    else:
        functions["draw"] = lambda params, shape: spread(params, shape).sample()
    for name in ("mean", "variance", "mode"):
        if getattr(made, name) is not getattr(base, name):
            functions[f"{name}_of"] = lambda params, name=name: getattr(at(params), name)
    if made.entropy is not base.entropy:
        functions["entropy_of"] = lambda params: at(params).entropy()
    if made.has_enumerate_support and not any(getattr(c, "is_discrete", False) for c in _limits(made)):

        def outcomes(event: Shape, params: Params, count: int) -> Tensor:
            return at(params).enumerate_support(expand=False).reshape(-1, *event)

        functions["outcomes"] = outcomes
    # A transformed distribution has an inverse only if what it transforms has, which the class does not say; an InverseGamma's has none.
    if made.cdf is not base.cdf and made.icdf not in (base.icdf, td.TransformedDistribution.icdf):
        functions["cdf"] = lambda params, x: at(params).cdf(x)
        functions["icdf"] = lambda params, u: at(params).icdf(u)
    return functions


def _limits(made: type[td.Distribution]) -> list[Any]:
    """Where the parameters lie, as far as the class says it and not only its objects."""
    return [*made.arg_constraints.values()] if isinstance(made.arg_constraints, Mapping) else []


def from_torch(torch_class: type[td.Distribution], *, name: str | None = None) -> type[Family]:
    """A family with the parameters, supports and functions of a `torch.distributions` class, your own or another library's.

    Args:
        torch_class: the class; its `arg_constraints` and `support` say what its parameters and values are.
        name: what to call the family; the class's name, if not given.

    Returns:
        A family, to be subclassed with a network or given parameters, like any other. They are copied, and saved as a `state_dict`; to
        pickle them, subclass it in a module of yours.

    Raises:
        KindError: if `torch_class` is no such class.

    Examples:
        >>> import torch
        >>> FisherSnedecor = from_torch(torch.distributions.FisherSnedecor)
        >>> FisherSnedecor("p(x)", df1=5.0, df2=4.0).log_likelihood({"x": torch.tensor([1.0])})
        tensor([-0.9223])
    """
    if not (isinstance(torch_class, type) and issubclass(torch_class, td.Distribution)):
        raise KindError(f"from_torch takes a class of torch.distributions; got {torch_class!r:.80}.")
    limits = torch_class.arg_constraints
    if not isinstance(limits, Mapping):
        raise KindError(f"from_torch: {torch_class.__name__} says what its parameters are only of an object; write a Family for it.")
    try:
        value_support = _value_support(torch_class.support)
    except NotImplementedError:
        raise KindError(f"from_torch: {torch_class.__name__} is made of other distributions; write a Family for it.") from None
    taken = inspect.signature(torch_class.__init__).parameters.values()
    required = [p.name for p in taken if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD and p.name != "self"]
    unsaid = [name for name in required if name not in limits]
    if unsaid:
        raise KindError(
            f"from_torch: {torch_class.__name__} takes {', '.join(unsaid)}, of which arg_constraints says nothing; write a Family for it."
        )
    words = {
        "__doc__": f"The family of `{torch_class.__module__}.{torch_class.__qualname__}`.",
        "__module__": torch_class.__module__,
        "torch_class": torch_class,
        "distribution_name": name or torch_class.__name__,
        "parametrisations": _parametrisations(tuple(limits)),
        "supports": {parameter: _support(limit) for parameter, limit in limits.items()},
        "value_support": value_support,
    }
    return type(name or torch_class.__name__, (TorchFamily,), words)


def _parametrisations(names: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    for group in ALTERNATIVES:
        present = [n for n in group if n in names]
        if len(present) > 1:
            return tuple(tuple(n for n in names if n == chosen or n not in group) for chosen in present)
    return (names,)


def _value_support(limit: Any) -> Support:
    """That of the values; one that depends on the parameters may still say whether it is discrete."""
    if isinstance(limit, constraints.Constraint) and constraints.is_dependent(limit) and not limit.event_dim:
        try:
            return Interval(real.words, stepped=limit.is_discrete)
        except NotImplementedError:
            return Interval(real.words, stepped=None)
    return _support(limit)


def _support(limit: Any) -> Support:
    """A constraint as a support; one that depends on the parameters is left to the density."""
    if not isinstance(limit, constraints.Constraint) or constraints.is_dependent(limit) or limit is constraints.real:
        rank = getattr(limit, "event_dim", 0) if isinstance(limit, constraints.Constraint) else 0
        return real_vectors if rank == 1 else real
    return real_vectors if limit is constraints.real_vector else Constrained(limit)
