"""Joints: products of conditionals, renamed and marginalised."""

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property

from torch import nn

from ._dims import Term
from ._distribution import Distribution
from ._elimination import Elimination
from ._errors import FormulaError
from ._fixed import Fixed
from ._formula import Density, Equation, Formula, Integral, Juxtaposed, Log, Summation
from ._leaves import register_leaves
from ._scope import Factor, Scope
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
        self.var = tuple(v for v in owner if v not in self.hidden_var)
        self.cond_var = tuple(dict.fromkeys(c for f in self.factors for c in f.cond_var if c not in owner))
        names = {f.dist.name for f in self.factors if not isinstance(f.dist, Fixed)}
        self.name = names.pop() if len(names) == 1 else "p"
        register_leaves(self, [f.dist for f in self.factors])

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

    def showing(self, names: Iterable[str]) -> "Joint":
        return Joint(self.factors, self.hidden_var.difference(names)) if self.hidden_var else self

    def scored_var(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        if self.hidden_var:
            _ = self.elimination  # says now what cannot be done
        return super().scored_var()

    @property
    def density(self) -> Density:
        return self._density_of(self.name, self.var, self.cond_var, self._fixed())

    @property
    def formula(self) -> Formula:
        fixed = self._fixed()
        factors = [f for f in self.factors if f.var[0] not in fixed]
        hidden = {v: f for f in factors for v in f.var if v in self.hidden_var}
        if len(factors) == 1 and not hidden:
            return self.density
        body: Formula = Juxtaposed(tuple(self._density_of(f.dist.name, f.var, f.cond_var, fixed) for f in factors))
        summed = tuple(v for v, f in hidden.items() if f.dist.has_enumerate)
        integrated = tuple(v for v in hidden if v not in summed)
        body = Summation(body, summed) if summed else body
        return Equation(self.density, Integral(body, integrated) if integrated else body)

    def _fixed(self) -> dict[str, str]:
        """The variables that have one value, and its text."""
        return {f.var[0]: f.dist.text for f in self.factors if isinstance(f.dist, Fixed)}

    def _density_of(self, name: str, var: tuple[str, ...], cond_var: tuple[str, ...], fixed: Mapping[str, str]) -> Density:
        """The node where fixed variables stand with their values."""
        own = tuple(c for c in cond_var if c not in fixed)
        given = {c: fixed[c] for c in cond_var if c in fixed} if var is not self.var else fixed
        return Density(name, var, own, tuple(given.items()))

    def _architecture(self) -> tuple[str, str]:
        return "", self.networks()

    def networks(self) -> str:
        """The factors, parents first, each with its family and network."""
        lines = [f"{f} ({f.dist.distribution_name}): {nn.Module.__repr__(f.dist)}" for f in self.ancestral if not isinstance(f.dist, Fixed)]
        return "\n".join(lines)


def multiply(left: Distribution, right: Distribution) -> Joint:
    """p * q: all factors of both. Hidden variables are dummies, renamed where they clash."""
    left_factors = _rename_hidden(left, _names(right))
    taken = {v for f in left_factors[0] for v in (*f.var, *f.cond_var)}
    right_factors = _rename_hidden(right, taken)
    return Joint(left_factors[0] + right_factors[0], left_factors[1] | right_factors[1])


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
    factors, hidden = _rename_hidden(p, set(renamed))
    return Joint([_renamed(f, names) for f in factors], hidden)


def marginalize(p: Distribution, names: Iterable[str]) -> Joint:
    """p without some of its variables: ∫p(x,z)dz. A factor on which nothing else depends integrates to one and is left out."""
    gone = check_names((names,) if isinstance(names, str) else names, "marginalize_var")
    for v in gone:
        if v not in p.var:
            raise FormulaError(f"{p.prob_text} has no variable {v} to marginalise out.{suggest(v, p.var)}")
    if set(gone) == set(p.var):
        raise FormulaError(f"{p.prob_text}: marginalising out {', '.join(gone)} leaves nothing. Keep at least one variable.")
    hidden = p.hidden_var | set(gone)
    factors = list(p.factors)
    for f in reversed(p.ancestral):
        used = {c for other in factors for c in other.cond_var}
        if hidden.issuperset(f.var) and used.isdisjoint(f.var):
            factors.remove(f)
    left = {v for f in factors for v in f.var}
    return Joint(factors, hidden & left)


def _names(p: Distribution) -> set[str]:
    return {v for f in p.factors for v in (*f.var, *f.cond_var)}


def _renamed(factor: Factor, names: Mapping[str, str]) -> Factor:
    return Factor(factor.dist, tuple(names.get(v, v) for v in factor.var), tuple(names.get(v, v) for v in factor.cond_var))


def _rename_hidden(p: Distribution, taken: set[str]) -> tuple[tuple[Factor, ...], frozenset[str]]:
    clashes = p.hidden_var & taken
    if not clashes:
        return p.factors, p.hidden_var
    names: dict[str, str] = {}
    for v in sorted(clashes):
        names[v] = fresh_name(v, taken | _names(p) | set(names.values()))
    return tuple(_renamed(f, names) for f in p.factors), frozenset(names.get(v, v) for v in p.hidden_var)


def _ancestral(factors: tuple[Factor, ...], owner: Mapping[str, Factor]) -> tuple[Factor, ...]:
    """Parents first; where nothing decides, what was written last comes first, as in p(x|z)p(z)."""
    rest = list(reversed(factors))
    done: list[Factor] = []
    known: set[str] = set()
    while rest:
        ready = next((f for f in rest if all(c in known or c not in owner for c in f.cond_var)), None)
        if ready is None:
            raise FormulaError(_cycle(rest, owner))
        rest.remove(ready)
        done.append(ready)
        known.update(ready.var)
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
