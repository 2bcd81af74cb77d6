"""Joints: products of conditionals, renamed and marginalised."""

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from functools import cached_property
from typing import NamedTuple

from torch import nn

from ._bindings import Factor
from ._conditionals import Summarised
from ._dims import Term
from ._distribution import Distribution
from ._elimination import Elimination
from ._errors import FormulaError
from ._fixed import Fixed
from ._formula import Density, Equation, Formula, Integral, Juxtaposed, Log, Summation
from ._leaves import register_leaves
from ._recovery import Recovered
from ._scope import Scope
from ._variables import check_names, fresh_name, suggest


class Joint(Distribution):
    """A product of conditionals, p(x,z) = p(x|z)p(z), of which some variables may be hidden.

    Made by `p * prior`, `p.replace_var(...)` and `p.marginalize_var(...)`, not by hand.

    Args:
        factors: the conditionals, in the order written.
        hidden: variables that are drawn and not shown.

    Raises:
        FormulaError: for a variable defined twice, or a cycle.
    """

    def __init__(self, factors: Sequence[Factor], hidden: Iterable[str] = ()) -> None:
        super().__init__()
        self.factors = tuple(factors)
        self.hidden_var = frozenset(hidden)
        owner: dict[str, Factor] = {}
        for factor in self.factors:
            for v in factor.var:
                if v in owner:
                    raise FormulaError(
                        f"{owner[v]} and {factor} both define {v}. Rename one with replace_var, or multiply by the other's conditional."
                    )
                owner[v] = factor
        self.ancestral = _ancestral(self.factors, owner)
        self.defined = frozenset(owner)
        self.var = tuple(v for v in owner if v not in self.hidden_var)
        self.cond_var = tuple(dict.fromkeys(c for f in self.factors for c in f.cond_var if c not in owner))
        self.fixed = {f.var[0]: f.dist.text for f in self.factors if isinstance(f.dist, Fixed)}
        self.name = _common_name(
            [
                Named(f.dist.name, not f.dist.is_deterministic, not self.hidden_var.issuperset(f.var))
                for f in self.factors
                if f.var[0] not in self.fixed
            ]
        )
        register_leaves(self, [f.dist for f in self.factors])

    @classmethod
    def of_two(cls, first: "Distribution", second: "Distribution", written: Sequence[Distribution]) -> "Joint":
        """The product of two that share no variable of their own, where `first` depends on nothing of `second`.

        Equal to `Joint` of all their factors, in as many steps as there are names, so that long chains can be multiplied up.
        """
        left, right = written
        joint = cls.__new__(cls)
        nn.Module.__init__(joint)
        joint.factors = left.factors + right.factors
        joint.hidden_var = left.hidden_var | right.hidden_var
        joint.ancestral = first.ancestral + second.ancestral
        joint.defined = left.defined | right.defined
        joint.var = left.var + right.var
        joint.cond_var = tuple(dict.fromkeys(c for p in written for c in p.cond_var if c not in joint.defined))
        joint.fixed = {**left.fixed, **right.fixed}
        joint.name = _common_name([Named(p.name, not all(f.dist.is_deterministic for f in p.factors), bool(p.var)) for p in written])
        register_leaves(joint, written)
        return joint

    @cached_property
    def elimination(self) -> Elimination:
        """How the hidden variables are summed and integrated out.

        Raises:
            IntractableError: if that has no closed form.
        """
        hidden = ", ".join(sorted(self.hidden_var))
        instead = (
            "Estimate it with log_likelihood(values, proposal=q, num_samples=1000), where q draws what is hidden, "
            f"score the joint, with {hidden} given, or bound it with an ELBO."
        )
        return Elimination(self.ancestral, self.hidden_var, who=Log(self.density), instead=instead)

    def evaluate_log_prob(self, scope: Scope, who: object) -> Term:
        return self.elimination.run(scope).log_evidence if self.hidden_var else super().evaluate_log_prob(scope, who)

    def summarised(self, what: str, scope: Scope) -> Summarised:
        shown = [f for f in self.factors if not self.hidden_var.issuperset(f.var)]
        if len(self.var) > 1 or all(f.dist.is_deterministic for f in self.factors if f not in shown):
            return super().summarised(what, scope)
        return Recovered(self._summary, scope, self.var)

    @cached_property
    def _summary(self) -> Elimination:
        """What leaves the shown variable to the last."""
        instead = "Estimate it from draws."
        return Elimination(self.ancestral, self.hidden_var.union(self.var), last=self.var, who=self.density, instead=instead)

    def showing(self, names: Iterable[str]) -> "Joint":
        return Joint(self.factors, self.hidden_var.difference(names)) if self.hidden_var else self

    def scored_var(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        if self.hidden_var:
            _ = self.elimination  # says now what cannot be done
        return super().scored_var()

    @property
    def density(self) -> Density:
        return Density(self.name, self.var, self.cond_var, tuple(self.fixed.items()))

    @property
    def formula(self) -> Formula:
        factors = [f for f in self.factors if f.var[0] not in self.fixed]
        hidden = {v: f for f in factors for v in f.var if v in self.hidden_var}
        if len(factors) == 1 and not hidden:
            return self.density if self.fixed else factors[0].dist.formula_as(factors[0])
        body: Formula = Juxtaposed(tuple(self._with_values(f) for f in factors))
        summed = tuple(v for v, f in hidden.items() if f.dist.has_enumerate)
        integrated = tuple(v for v in hidden if v not in summed)
        body = Summation(body, summed) if summed else body
        return Equation(self.density, Integral(body, integrated) if integrated else body)

    def _with_values(self, factor: Factor) -> Density:
        """The factor's node, where fixed variables stand with their values."""
        own = tuple(c for c in factor.cond_var if c not in self.fixed)
        return Density(factor.dist.name, factor.var, own, tuple((c, self.fixed[c]) for c in factor.cond_var if c in self.fixed))

    def _architecture(self) -> tuple[str, str]:
        return "", self.networks()

    def networks(self) -> str:
        """The factors, parents first, each with its family and network."""
        lines = [f"{f} ({f.dist.distribution_name}): {nn.Module.__repr__(f.dist)}" for f in self.ancestral if not isinstance(f.dist, Fixed)]
        return "\n".join(lines)


def multiply(left: Distribution, right: Distribution) -> Joint:
    """p * q: all factors of both. Hidden variables are dummies, renamed where they clash."""
    left = _without_clashes(left, right)
    right = _without_clashes(right, left)
    left_below, right_below = not right.defined.isdisjoint(left.cond_var), not left.defined.isdisjoint(right.cond_var)
    if (left_below and right_below) or not left.defined.isdisjoint(right.defined):
        return Joint(left.factors + right.factors, left.hidden_var | right.hidden_var)
    # Where nothing decides, what was written last comes first.
    first, second = (left, right) if right_below else (right, left)
    return Joint.of_two(first, second, (left, right))


class Named(NamedTuple):
    """A part of a product: its name, whether it draws something, and whether one of its variables is visible."""

    name: str
    draws: bool
    shows: bool


def _common_name(parts: Sequence[Named]) -> str:
    """The name that all have which draw something, "p" if they have several.

    What is computed on the way has no say; but where all that is drawn is hidden, as of a generator, it is all there is to name.
    """
    hides_draws = not any(p.draws and p.shows for p in parts)
    names = {p.name for p in parts if (p.shows if hides_draws else p.draws)} or {p.name for p in parts}
    return names.pop() if len(names) == 1 else "p"


def rename(p: Distribution, names: Mapping[str, str]) -> Joint:
    """p with variables renamed, all at once: swaps and chains are fine."""
    visible = (*p.var, *p.cond_var)
    for old, new in names.items():
        check_names((new,), "replace_var")
        if old not in visible:
            raise FormulaError(f"{p.prob_text} has no variable {old} to rename to {new}.{suggest(old, visible)}")
    renamed = [names.get(v, v) for v in visible]
    for new in names.values():
        if renamed.count(new) > 1:
            first, second = [v for v in visible if names.get(v, v) == new][:2]
            raise FormulaError(f"{p.prob_text}: after replace_var both {first} and {second} would be called {new}.")
    p = _rename_hidden(p, set(renamed))
    return Joint([_renamed(f, names) for f in p.factors], p.hidden_var)


def marginalize(p: Distribution, names: Iterable[str]) -> Joint:
    """p without some of its variables: ∫p(x,z)dz. A factor on which nothing else depends integrates to one and is left out."""
    gone = check_names((names,) if isinstance(names, str) else names, "marginalize_var")
    for v in gone:
        if v not in p.var:
            raise FormulaError(f"{p.prob_text} has no variable {v} to marginalise out.{suggest(v, p.var)}")
    if set(gone) == set(p.var):
        raise FormulaError(f"{p.prob_text}: marginalising out {', '.join(gone)} leaves nothing. Keep at least one variable.")
    hidden = p.hidden_var | set(gone)
    uses = Counter(c for f in p.factors for c in set(f.cond_var))
    unused: set[Factor] = set()
    for f in reversed(p.ancestral):
        if hidden.issuperset(f.var) and not any(uses[v] for v in f.var):
            unused.add(f)
            uses.subtract(set(f.cond_var))
    factors = [f for f in p.factors if f not in unused]
    smaller = {f: d for f in factors if (d := f.dist.without([c for c, v in zip(f.dist.var, f.var) if v in hidden and not uses[v]]))}
    return replace(Joint(factors, hidden.intersection(v for f in factors for v in f.var)), smaller)


def replace(p: Joint, others: Mapping[Factor, Distribution]) -> Joint:
    """p with other distributions in the place of some factors; they are told in those factors' own names."""
    factors: list[Factor] = []
    hidden = set(p.hidden_var)
    for f in p.factors:
        if f not in others:
            factors.append(f)
            continue
        d = others[f]
        names = dict(zip((*f.dist.var, *f.dist.cond_var), (*f.var, *f.cond_var)))
        d = _rename_hidden(rename(d, {v: names[v] for v in (*d.var, *d.cond_var)}), {*p.defined, *p.cond_var, *hidden})
        factors += d.factors
        hidden |= d.hidden_var
    return Joint(factors, hidden.intersection(v for f in factors for v in f.var))


def _renamed(factor: Factor, names: Mapping[str, str]) -> Factor:
    return Factor(factor.dist, tuple(names.get(v, v) for v in factor.var), tuple(names.get(v, v) for v in factor.cond_var))


def _without_clashes(p: Distribution, other: Distribution) -> Distribution:
    """p, none of whose hidden variables is called like a variable of the other."""
    return _rename_hidden(p, other.defined.union(other.cond_var)) if p.hidden_var else p


def _rename_hidden(p: Distribution, taken: Set[str]) -> Distribution:
    """p, whose hidden variables have names that are not taken."""
    clashes = p.hidden_var & taken
    if not clashes:
        return p
    names: dict[str, str] = {}
    for v in sorted(clashes):
        names[v] = fresh_name(v, {*taken, *p.defined, *p.cond_var, *names.values()})
    return Joint([_renamed(f, names) for f in p.factors], [names.get(v, v) for v in p.hidden_var])


def _ancestral(factors: tuple[Factor, ...], owner: Mapping[str, Factor]) -> tuple[Factor, ...]:
    """Parents first; where nothing decides, what was written last comes first, as in p(x|z)p(z)."""
    number = {f.var: i for i, f in enumerate(factors)}
    parents = [{number[owner[c].var] for c in f.cond_var if c in owner} for f in factors]
    children: list[list[int]] = [[] for _ in factors]
    for i, above in enumerate(parents):
        for j in above:
            children[j].append(i)
    waiting = [len(above) for above in parents]
    ready = [-i for i, count in enumerate(waiting) if count == 0]
    heapq.heapify(ready)
    done: list[Factor] = []
    while ready:
        i = -heapq.heappop(ready)
        done.append(factors[i])
        for j in children[i]:
            waiting[j] -= 1
            if waiting[j] == 0:
                heapq.heappush(ready, -j)
    if len(done) < len(factors):
        raise FormulaError(_cycle([f for f, count in reversed(list(zip(factors, waiting))) if count], owner))
    return tuple(done)


def _cycle(rest: Sequence[Factor], owner: Mapping[str, Factor]) -> str:
    path = [rest[0]]
    while True:
        parent = next(owner[c] for c in path[-1].cond_var if c in owner and owner[c] in rest)
        if parent in path:
            ring = path[path.index(parent) :]
            break
        path.append(parent)
    chain = " -> ".join(f.var[0] for f in reversed([*ring, ring[0]]))
    return f"{' and '.join(map(str, ring))} depend on one another: {chain}. A product needs an order in which it can be drawn."
