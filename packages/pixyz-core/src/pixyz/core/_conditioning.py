"""Conditioning on values, and dividing a joint by a marginal."""

from collections.abc import Mapping

from torch import Tensor

from ._bindings import Factor
from ._distribution import Distribution, need_distribution
from ._errors import FormulaError, SupportError
from ._fixed import Fixed
from ._joint import Joint, marginalize
from ._measures import known_supports
from ._posterior import posterior
from ._variables import suggest


def condition(p: Distribution, values: Mapping[str, Tensor | float]) -> Joint:
    """p given that some of its variables have these values."""
    known = (*p.var, *p.cond_var)
    for v in values:
        if v not in known:
            raise FormulaError(f"{p.prob_text} has no variable {v} to condition on.{suggest(v, known)}")
    rest = [v for v in p.var if v not in values]
    if not values or not rest:
        what = "nothing is given" if not values else f"with {', '.join(p.var)} given, nothing is left"
        raise FormulaError(f"{p.prob_text}: {what}; condition on some of {', '.join(known)}, and keep at least one variable.")
    constants = {v: Fixed(v, value) for v, value in values.items()}
    for v, constant in constants.items():
        _check_value(p, v, constant)
    inferred = p if len(rest) == len(p.var) else posterior(p, rest)
    fixed = [Factor(constant, (v,), ()) for v, constant in constants.items() if v in inferred.cond_var]
    return Joint([*inferred.factors, *fixed], inferred.hidden_var.union(f.var[0] for f in fixed))


def _check_value(p: Distribution, v: str, constant: Fixed) -> None:
    """An error for a value that no datum can have."""
    value, who = constant.value.detach(), f"{p.prob_text}.condition({v}={constant.text})"
    if value.is_meta:
        return
    if value.isnan().any():
        raise SupportError(f"{who}: {int(value.isnan().sum())} of {value.numel()} numbers of {v} are nan; what is given has a value.")
    for factor, support in known_supports(p.factors, v):
        support.check(value, f"{who}: {v} of {factor} ({factor.dist.distribution_name})")


def divide(p: Distribution, q: Distribution) -> Distribution:
    """p/q where that is a conditional of p: for q a product of some of its factors, or a marginal of p."""
    need_distribution(q, f"{p.prob_text}/")
    # A dummy that p hides is not the variable of that name which q shows.
    shows = p.hidden_var.isdisjoint((*q.var, *q.cond_var))
    if shows and not q.hidden_var and set(q.factors) < set(p.factors):
        return Joint([f for f in p.factors if f not in q.factors], p.hidden_var)
    rest = [v for v in p.var if v not in q.var]
    if rest and set(q.var).issubset(p.var):
        marginal = marginalize(p, rest)
        if set(marginal.factors) == set(q.factors) and marginal.hidden_var == q.hidden_var:
            return posterior(p, rest)
    raise FormulaError(
        f"{p.prob_text}/{q.prob_text} is a distribution only where {q.prob_text} is a product of factors of {p.prob_text}, "
        "or its marginal, made by marginalize_var. For the logarithm of a ratio of densities there is LogRatio in pixyz.losses."
    )
