"""Families made of another, the base: what they share."""

from typing import Any, cast

from pixyz.core import Factor, KindError, Leaf, Scope, ShapeError, Term

from ._family import Family
from ._given import Given, broadcast_shapes
from ._supports import Support


class Composed(Leaf):
    """A leaf over the variables of another, its `base`, for which it asks the scope."""

    has_scores = True

    def __init__(self, base: Family, name: str | None, **given: Any) -> None:
        if not isinstance(base, Family):
            raise KindError(f"{type(self).__name__} takes a family of distributions; got a {type(base).__name__}.")
        super().__init__(var=base.var, cond_var=base.cond_var, name=base.name if name is None else name, **given)
        self.base = base
        self.has_fixed_support = base.has_fixed_support

    def support_of(self, name: str) -> Support | None:
        return self.base.support_of(name)

    def base_of(self, scope: Scope, factor: Factor) -> Given:
        """The base given its inputs."""
        return cast(Given, scope.conditional(Factor(self.base, factor.var, factor.cond_var)))


def fitting(own: Composed, name: str, term: Term, base: Given) -> Term:
    """The term in the dtype in which the base computes, if it is of the base's kind and broadcasts to its features, all or one of each."""
    tensor, dims = term
    who = own.prob_text
    features = tuple(tensor.shape[len(dims) :])
    if tensor.dtype != base.like.dtype and tensor.ndim:
        raise KindError(f"{who}: {name} is {tensor.dtype}, the parameters of the base are {base.like.dtype}. Convert one with .to().")
    if (features or dims) and broadcast_shapes([features, base.features]) != base.features:
        raise ShapeError(f"{who}: {name} has features {features}, but the base has {base.features}.")
    return Term(own.constant_in(name, base.dtype) if name in own.constant_names else tensor.to(base.dtype), dims)
