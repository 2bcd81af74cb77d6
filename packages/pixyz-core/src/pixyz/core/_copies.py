"""The factors of a marginal, grouped into copies of one conditional, and whether its hidden variables can be eliminated exactly."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ._bindings import Factor

OBSERVED, FINITE, GAUSSIAN = "observed", "finite", "gaussian"
MAX_ENUMERATE = 256
"""How many values a variable may have to be summed over one by one."""


@dataclass
class Copies:
    """Factors with one leaf, whose variables are of the same kinds: one network call and one potential stack serve all of them.

    Attributes:
        factor: the first of them.
        computed: the deterministic factors between the first one and the variables below, parents first.
        kinds: of its variables: observed, finite or Gaussian.
        owners: of each hidden variable the leaf that defines it, whose support or vectors it takes; None for an observed one.
        members: the variables of each copy: its own, and those that it depends on, not those that are computed in between.
    """

    factor: Factor
    computed: tuple[Factor, ...]
    kinds: tuple[str, ...]
    owners: tuple[Any, ...]
    members: list[tuple[str, ...]] = field(default_factory=list)

    @property
    def places(self) -> tuple[int, ...]:
        """Where its hidden variables stand, the finite ones first."""
        hidden = [i for i, kind in enumerate(self.kinds) if kind != OBSERVED]
        return tuple(sorted(hidden, key=lambda i: self.kinds[i] == GAUSSIAN))

    @property
    def hidden_members(self) -> list[tuple[str, ...]]:
        """The hidden variables of each copy, the finite ones first."""
        return [tuple(member[i] for i in self.places) for member in self.members]


class NotClosedError(Exception):
    """Why a hidden variable cannot be eliminated exactly; for `IntractableError`'s message."""


def kinds_of(factors: Iterable[Factor], hidden: frozenset[str]) -> dict[str, str]:
    """How each hidden variable is eliminated; those that are computed have no kind.

    Raises:
        NotClosedError: if one is neither finite nor normal.
    """
    kinds: dict[str, str] = {}
    for factor in factors:
        for v in hidden.intersection(factor.var):
            dist = factor.dist
            if dist.is_deterministic:
                continue
            if len(factor.var) > 1 or not (dist.has_enumerate or dist.is_gaussian):
                raise NotClosedError(f"{v} from {factor} ({dist.distribution_name}) has neither finitely many values nor a normal density")
            kinds[v] = FINITE if dist.has_enumerate else GAUSSIAN
    return kinds


def check_drawn(factors: Iterable[Factor], kinds: Iterable[str], names: Iterable[str]) -> None:
    """Raises an error unless each of these hidden variables has a density of its own."""
    owner = {v: f for f in factors for v in f.var}
    for v in names:
        if v not in kinds:
            raise NotClosedError(f"{v} is computed by {owner[v]}, so it has no density; ask for what it is computed from")


def computed_first(factors: Iterable[Factor], kinds: Iterable[str], hidden: frozenset[str]) -> tuple[Factor, ...]:
    """The deterministic factors that depend on nothing which is eliminated.

    Raises:
        NotClosedError: if a variable that is shown is computed from one that is eliminated.
    """
    unknown = set(kinds)
    first: list[Factor] = []
    for f in factors:
        if f.dist.is_deterministic:
            if unknown.isdisjoint(f.cond_var):
                first.append(f)
            elif hidden.issuperset(f.var):
                unknown.update(f.var)
            else:
                raise NotClosedError(f"{', '.join(f.var)} is computed by {f} from what would be integrated out, so it has no density")
    return tuple(first)


def group_copies(factors: Sequence[Factor], kinds: Mapping[str, str]) -> list[Copies]:
    """The factors that have a density, grouped, in ancestral order of the first of each.

    Args:
        factors: in ancestral order; a deterministic one only if it depends on hidden variables.
        kinds: of the hidden variables.

    Raises:
        NotClosedError: if a factor depends on a Gaussian variable, but not linearly with normal noise.
    """
    owner = {v: f for f in factors for v in f.var}
    below: dict[str, _Below] = {}

    def resolved(v: str) -> _Below:
        """What a variable is computed from, or itself."""
        found = below.get(v)
        if found is None:
            factor = owner.get(v)
            if factor is not None and factor.dist.is_deterministic:
                found = _join(factor, factor.cond_var, resolved, v)
            else:
                kind = kinds.get(v, OBSERVED)
                dist = factor.dist if factor is not None and kind != OBSERVED else None
                found = _Below((kind, dist), (v,), ((kind, dist),), ())
            below[v] = found
        return found

    groups: dict[Any, Copies] = {}
    for factor in factors:
        if factor.dist.is_deterministic:
            continue
        parts = _join(factor, (*factor.var, *factor.cond_var), resolved, factor.var[0])
        computed = parts.computed[:-1]
        _check_linear(factor, computed, kinds)
        group = groups.get(parts.key)
        if group is None:
            group = groups[parts.key] = Copies(factor, computed, tuple(k for k, _ in parts.sorts), tuple(d for _, d in parts.sorts))
        group.members.append(parts.variables)
    return list(groups.values())


@dataclass
class _Below:
    """What stands below a variable or a factor: equal keys for copies."""

    key: Any
    variables: tuple[str, ...]
    sorts: tuple[tuple[str, Any], ...]
    computed: tuple[Factor, ...]


def _join(factor: Factor, names: Iterable[str], resolved: Any, v: str) -> _Below:
    parts = [resolved(n) for n in names]
    sorts: dict[str, tuple[str, Any]] = {}
    for part in parts:
        sorts.update(zip(part.variables, part.sorts))
    place = {u: i for i, u in enumerate(sorts)}
    pattern = tuple(tuple(place[u] for u in part.variables) for part in parts)
    computed = dict.fromkeys(f for part in parts for f in part.computed)
    which = factor.var.index(v)
    return _Below((factor.dist, which, tuple(p.key for p in parts), pattern), tuple(sorts), tuple(sorts.values()), (*computed, factor))


def _check_linear(factor: Factor, computed: Iterable[Factor], kinds: Mapping[str, str]) -> None:
    dist = factor.dist
    own = dict(zip(factor.cond_var, dist.cond_var))
    for v in factor.cond_var:
        if kinds.get(v) == GAUSSIAN and not (dist.is_gaussian and own[v] in dist.linear_var):
            raise NotClosedError(
                f"{factor} ({dist.distribution_name}) is not declared linear in {v}, as a Normal with loc=nn.Linear(...) and a scale that "
                f"does not depend on {v} is"
            )
    for f in computed:
        for v in f.cond_var:
            if kinds.get(v) == GAUSSIAN:
                raise NotClosedError(f"{f} computes from {v}, which is normal, by a function that is not known to be linear")
