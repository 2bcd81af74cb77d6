"""Which estimator each factor of an expectation gets: what was asked for, or what is best, and why."""

import math
from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple, TypeAlias

from ._bindings import Factor
from ._conditionals import ScoredConditional
from ._errors import FormulaError, IntractableError, KindError
from ._methods import Enumerate, Estimator, Pathwise, Sample, Score
from ._relaxations import Rebar, Relaxed, StraightThrough

NAMED: Mapping[str, Estimator] = {e.name: e for e in (Enumerate(), Pathwise(), Score(), Relaxed(), StraightThrough(), Rebar(), Sample())}
AnyEstimator: TypeAlias = str | Estimator | Mapping[str, str | Estimator]


class Choice(NamedTuple):
    """What was chosen for a variable, and why.

    Attributes:
        estimator: None for what is computed.
        is_auto: whether nobody asked for it.
        points: how many values it takes; or if too many only together with what is enumerated already, how many points that makes;
            None for infinitely many, or where enumeration was out of the question.
        limit: how many it may take.
    """

    estimator: Estimator | None
    is_auto: bool
    points: int | None
    limit: int

    def words(self, num_samples: int) -> str:
        """For `loss.explain`: `summed exactly (10 values)`."""
        if self.estimator is None:
            return "computed"
        said = self.estimator.words(num_samples)
        if isinstance(self.estimator, Enumerate):
            return f"{said} ({count_of(self.points or 0)} values)"
        if self.is_auto and self.points is not None:
            return f"{said} ({count_of(self.points)} values are more than {self.limit})"
        return said


def resolve(estimator: AnyEstimator, factors: tuple[Factor, ...], who: str) -> tuple[Estimator | None, ...]:
    """The estimator of each factor; None where it is chosen at an evaluation.

    Raises:
        KindError, FormulaError: if an estimator is unknown, or cannot serve its factor.
    """
    if not isinstance(estimator, (str, Estimator, Mapping)):
        raise KindError(f"{who}: estimator must be a name, an estimator, or a dict from variables to these; got {_described(estimator)}.")
    if isinstance(estimator, Mapping):
        _check_variables(estimator, {v for f in factors for v in f.var}, who)
    found = tuple(_resolved(estimator, factor, who) for factor in factors)
    if sum(isinstance(e, Rebar) for e in found) > 1:
        raise FormulaError(f"{who}: one factor of an expectation may have the estimator 'rebar'. Nest expectations, one for each.")
    return found


def _resolved(estimator: AnyEstimator, factor: Factor, who: str) -> Estimator | None:
    asked = next((estimator[v] for v in factor.var if v in estimator), "auto") if isinstance(estimator, Mapping) else estimator
    if not isinstance(asked, (str, Estimator)):
        raise KindError(f"{who}: estimator must be a name, or an estimator; got {_described(asked)} for {', '.join(factor.var)}.")
    if asked == "auto" or factor.dist.is_deterministic:
        return None
    if isinstance(asked, str) and asked not in NAMED:
        raise FormulaError(f"{who}: there is no estimator {asked!r}; choose one of auto, {', '.join(NAMED)}.")
    found = NAMED[asked] if isinstance(asked, str) else asked
    # With a temperature, the gradient is that of the relaxed draw.
    need = NAMED["relaxed"] if isinstance(found, StraightThrough) and found.temperature is not None else found
    if not need.serves(factor.dist):
        others = [repr(name) for name, e in NAMED.items() if e.serves(factor.dist) and not isinstance(e, Sample)]
        is_smooth = isinstance(found, (Relaxed, StraightThrough, Rebar))
        twin = f" its one-hot twin, {factor.dist.relaxes_as}, can;" if factor.dist.relaxes_as and is_smooth else ""
        use = " or ".join(filter(None, [", ".join(others[:-1]), *others[-1:]])) or "'sample'"
        raise FormulaError(f"{who}: {factor} ({factor.dist.distribution_name}) {need.lacks};{twin} use {use}.")
    return found


def estimator_for(estimator: AnyEstimator, drawn: Collection[str], known: Collection[str], who: str) -> AnyEstimator:
    """The estimator of one of the expectations that a loss is made of: of a dict, the entries for what that expectation draws.

    Args:
        estimator: that of the loss.
        drawn: the variables of the expectation.
        known: those of all of them.
        who: the loss, for the message.

    Raises:
        FormulaError: for an entry for a variable that none of them draws.
    """
    if not isinstance(estimator, Mapping):
        return estimator
    _check_variables(estimator, known, who)
    return {v: e for v, e in estimator.items() if v in drawn} or "auto"


def _check_variables(estimator: Mapping[str, object], known: Collection[str], who: str) -> None:
    for v in estimator:
        if v not in known:
            raise FormulaError(f"{who} has no variable {v} to choose an estimator for; it draws {', '.join(sorted(known))}.")


def choose(
    asked: Estimator | None,
    factor: Factor,
    conditional: ScoredConditional,
    points: int,
    limit: int,
    who: object,
    is_trained: Callable[[], bool] = lambda: True,
    *,
    exact: bool = False,
) -> Choice:
    """What a factor gets: what was asked, or what is best.

    Args:
        asked: by the user; None for the best.
        factor: the factor.
        conditional: it, given its inputs.
        points: how many combinations of values are enumerated already.
        limit: how many may be.
        who: the expectation.
        is_trained: whether anything to be trained stands in or above the factor; called where that matters.
        exact: whether what has nothing to be trained is summed over as well.

    Raises:
        IntractableError: if enumeration was asked for and takes too many points.
    """
    dist = factor.dist
    if dist.is_deterministic:
        return Choice(None, False, None, limit)
    if asked is not None and not isinstance(asked, Enumerate):
        return Choice(asked, False, None, limit)
    is_plain = asked is None and not dist.has_rsample and not is_trained()
    if is_plain and not exact:
        return Choice(NAMED["sample"], True, None, limit)
    if asked is not None and asked.max_enumerate is not None:
        limit = asked.max_enumerate
    size = conditional.support_size() if dist.has_enumerate else None
    total = None if size is None else points * size
    if total is not None and total <= limit:
        return Choice(asked or NAMED["enumerate"], asked is None, size, limit)
    if asked is not None:
        need = count_of(total or 0)
        more = f", or raise the limit: max_enumerate={need}, or estimator=Enumerate(max_enumerate={need})" if need.isdigit() else ""
        raise IntractableError(
            f"{who}: enumerating {', '.join(factor.var)} takes {need} points, more than {limit}. Use estimator='score'{more}."
        )
    name = "sample" if is_plain else "pathwise" if dist.has_rsample else "score"
    return Choice(NAMED[name], True, size if size is not None and size > limit else total, limit)


def parameter_names(estimators: tuple[Estimator | None, ...]) -> list[str]:
    """The names of temperatures that are given with the data."""
    found = [getattr(e, "temperature", None) for e in estimators]
    return [t for t in found if isinstance(t, str)]


def count_of(n: int) -> str:
    """A count in few characters: 10, 2^784, about 10^23."""
    if n < 10**7:
        return str(n)
    return f"2^{n.bit_length() - 1}" if n & (n - 1) == 0 else f"about 10^{int(math.log10(n))}"


def _described(value: object) -> str:
    return repr(value) if isinstance(value, (str, float, int)) else f"a {type(value).__name__}"
