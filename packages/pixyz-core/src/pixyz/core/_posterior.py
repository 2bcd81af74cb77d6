"""Posteriors: the conditionals of a model the other way round, where they are exact."""

from collections.abc import Collection, Iterable

from torch import Tensor

from ._bindings import Binding, Factor
from ._checks import Checks
from ._copies import FINITE, GAUSSIAN
from ._dims import BATCH, Dims, Term, broadcast
from ._distribution import Distribution
from ._elimination import Elimination
from ._errors import FormulaError, SupportError
from ._formula import Density, Equation, Formula, Ratio
from ._joint import Joint, marginalize, replace
from ._leaves import register_leaves
from ._measures import KnownSupport, known_supports
from ._recovery import Recovered
from ._scope import Scope
from ._single import Single
from ._variables import check_names, suggest


def posterior(p: Distribution, names: Iterable[str]) -> Distribution:
    """p(names | everything else that p shows)."""
    asked = check_names((names,) if isinstance(names, str) else names, "posterior")
    known = (*p.var, *sorted(p.hidden_var.difference(p.fixed)))
    for v in asked:
        if v not in known:
            raise FormulaError(f"{p.prob_text} has no variable {v} to infer.{suggest(v, known)}")
    smaller = _of_posteriors(p, asked)
    if smaller:
        return posterior(replace(Joint(p.factors, p.hidden_var), smaller), asked)
    factors = _connected(p, asked)
    joint = Joint(factors, p.hidden_var.intersection(v for f in factors for v in f.var).difference(asked))
    return joint if set(joint.var) == set(asked) else Posterior(joint, asked)


def _connected(p: Distribution, asked: Iterable[str]) -> list[Factor]:
    """The factors that are connected with what is asked for through variables that are not given; the others say nothing about it."""
    given = {v for v in (*p.var, *p.cond_var) if v not in asked}
    near: dict[str, list[Factor]] = {}
    for f in p.factors:
        for v in (*f.var, *f.cond_var):
            if v not in given:
                near.setdefault(v, []).append(f)
    found: set[Factor] = set()
    waiting = list(asked)
    while waiting:
        for f in near.pop(waiting.pop(), ()):
            if f not in found:
                found.add(f)
                waiting += [*f.var, *f.cond_var]
    return [f for f in p.factors if f in found]


def _of_posteriors(p: Distribution, asked: Iterable[str]) -> dict[Factor, Distribution]:
    """For the factors that are posteriors themselves, of what is asked for and of what is given, those of what is asked for alone."""
    used = {c for f in p.factors for c in f.cond_var}
    found: dict[Factor, Distribution] = {}
    for f in p.factors:
        inferred = [c for c, v in zip(f.dist.var, f.var) if v in asked]
        hidden = [c for c, v in zip(f.dist.var, f.var) if v in p.hidden_var and v not in asked]
        if isinstance(f.dist, Posterior) and inferred and len(inferred) < len(f.var) and used.isdisjoint(f.var):
            (joint,) = f.dist.joint
            found[f] = posterior(marginalize(joint, hidden) if hidden else joint, inferred)
    return found


class Posterior(Single):
    r"""p(z|x) = p(x,z)/p(x), by exact elimination; made by `p.posterior("z")`.

    One finite variable can be enumerated; the draws of Gaussian variables have gradients.

    Args:
        joint: the model of what is inferred and what is given.
        var: the variables that are inferred.

    Raises:
        IntractableError: if a variable that has to be summed or integrated out is neither finite nor linear-Gaussian.
    """

    distribution_name = "posterior"

    def __init__(self, joint: Joint, var: tuple[str, ...]) -> None:
        super().__init__()
        self.var = var
        self.cond_var = (*[v for v in joint.var if v not in var], *joint.cond_var)
        self.name = joint.name
        self.joint = (joint,)  # in a tuple, lest it be registered
        instead = f"Fit a q({','.join(var)}|...) with an ELBO, and draw from it."
        self.elimination = Elimination(joint.ancestral, joint.hidden_var.union(var), last=var, who=self.density, instead=instead)
        joint.scored_var()  # plans its density now, and not while an evaluation is traced
        kinds = {self.elimination.kinds[v] for v in self.elimination.last_variables}
        self.has_rsample = kinds == {GAUSSIAN}
        self.has_enumerate = len(var) == 1 and kinds == {FINITE}
        register_leaves(self, [f.dist for f in joint.factors])

    @property
    def formula(self) -> Formula:
        (joint,) = self.joint
        return Equation(
            self.density, Ratio(joint.density, Density(joint.name, self.cond_var[: len(joint.var) - len(self.var)], joint.cond_var))
        )

    def _architecture(self) -> tuple[str, str]:
        return "", self.joint[0].networks()

    def without(self, names: Collection[str]) -> Distribution | None:
        if not names:
            return None
        (joint,) = self.joint
        return posterior(marginalize(joint, names), [v for v in self.var if v not in names])

    def support_of(self, name: str) -> KnownSupport | None:
        found = [*known_supports(self.joint[0].factors, name)]
        return next((support for _, support in sorted(found, key=lambda pair: name not in pair[0].var)), None)

    def conditional(self, scope: Scope, factor: Factor, inputs: tuple[Binding, ...]) -> "PosteriorGiven":
        inner = Scope(scope.shared, dict(zip(self.cond_var, inputs)), scope.batch, scope.samples, scope.group)
        return PosteriorGiven(self, factor, inner)


class PosteriorGiven:
    """A posterior given its inputs, in one evaluation."""

    def __init__(self, posterior: Posterior, factor: Factor, scope: Scope) -> None:
        self.posterior = posterior
        self.scope = scope
        self.recovered = Recovered(posterior.elimination, scope, posterior.var)
        self.evidence: Term = self.recovered.eliminated.log_evidence
        evidence, self.dims = self.evidence
        self.batch: int | None = evidence.shape[-1] if BATCH in self.dims else None
        checks = scope.shared.checks
        if checks and not checks.passed(checks.every(~evidence.isneginf()), factor):
            bad = int(evidence.isneginf().sum())
            raise SupportError(
                f"{factor}: {', '.join(factor.cond_var)} has probability zero for {bad} of {evidence.numel()} data, "
                "so nothing follows from it."
            )

    def log_prob(self, values: tuple[Binding, ...], factor: Factor, checks: Checks) -> Term:
        """log p(z|x) = log p(x,z) - log p(x), in nats."""
        inner = self.scope.inside(dict(zip(self.posterior.var, values)), self.scope.batch, self.scope.samples, self.scope.group)
        x, y, dims = broadcast(self.posterior.joint[0].evaluate_log_prob(inner, factor), self.evidence, factor)
        return Term(x - y, dims)

    def draw(self, dims: Dims, sizes: list[int], *, pathwise: bool) -> list[Term]:
        """One draw for each variable, `(*dims, *features)`."""
        return self.recovered.draw(dims, sizes, pathwise=pathwise)

    def statistic(self, what: str) -> Term:
        """Of one variable."""
        return self.recovered.statistic(what)

    def support_size(self) -> int:
        """The number of values of the one finite variable."""
        return self.recovered.points(self.posterior.var[0]).shape[0]

    def enumerate_support(self) -> list[Tensor]:
        """All values of the one finite variable."""
        return [self.recovered.points(self.posterior.var[0])]
