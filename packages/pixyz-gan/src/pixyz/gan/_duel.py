"""The two sides that a discriminator tells apart."""

from collections.abc import Callable, Mapping
from typing import cast

from pixyz.core import AnyEstimator, Distribution, FormulaError, Game, Loss, need_distribution, need_one_measure

from ._averaged import Aliased, Averaged, Drawn
from ._judged import Judged, need_discriminator
from ._last_layer import warn_of_probabilities


class Duel:
    """p, which imitates, and what it imitates: the data that are given, or another distribution.

    Args:
        p: what draws the fakes.
        d: the discriminator.
        real: what draws the real ones; None if they are given.
        estimator: as in `Expectation`, for both; of a dict, each side takes what it draws.

    Raises:
        FormulaError: if the discriminator sees nothing that p draws, `real` does not draw what p does, or neither draws a variable for
            which there is an estimator.
    """

    def __init__(self, p: Distribution, d: Distribution, real: Distribution | None, estimator: AnyEstimator | None) -> None:
        need_distribution(p, "The generator")
        need_discriminator(d)
        self.p, self.d, self.real, self.estimator = p, d, real, estimator
        self.seen = tuple(v for v in d.cond_var if v in p.var)
        if not self.seen:
            raise FormulaError(
                f"{d.prob_text} sees nothing that {p.prob_text} draws, {', '.join(p.var)}, so it cannot tell it from anything. "
                f"The order is generator, discriminator."
            )
        if real is not None:
            need_distribution(real, "real")
            lacking = [v for v in self.seen if v not in (*real.var, *real.cond_var)]
            if lacking:
                raise FormulaError(f"{d.prob_text} sees {', '.join(lacking)} of {p.prob_text}, of which {real.prob_text} knows nothing.")
        drawn = {*_drawn(p), *(() if real is None else _drawn(real))}
        unknown = [v for v in estimator if v not in drawn] if isinstance(estimator, Mapping) else []
        if unknown:
            raise FormulaError(f"There is an estimator for {', '.join(unknown)}, but only {', '.join(sorted(drawn))} are drawn.")

    def need_ratio(self, who: str) -> None:
        """An error where both sides are distributions whose densities have no ratio, for what a discriminator is to estimate it."""
        if self.real is not None:
            need_one_measure((self.p.factors, self.real.factors), self.seen, f"{who}({self.p.prob_text}, real={self.real.prob_text})")

    @property
    def trains_real(self) -> bool:
        """Whether the other side has parameters too."""
        return self.real is not None and any(w.requires_grad for w in self.real.parameters())

    def fake(self, f: Loss) -> Loss:
        """E_p[f]."""
        return Averaged(f, self.p, estimator=self._estimator_of(self.p))

    def data(self, f: Loss) -> Loss:
        """E_p_data[f]."""
        return Averaged(f, self.real, estimator=None if self.real is None else self._estimator_of(self.real))

    @property
    def fake_output(self) -> Loss:
        """What d says of a fake, or of whatever x is bound to."""
        return Judged(self.d)

    @property
    def data_output(self) -> Loss:
        """What d says of what is real, beside a fake: of x_data."""
        return Judged(self.d.replace_var(**self.names_of_data))

    @property
    def names_of_data(self) -> dict[str, str]:
        """What the variables that both sides have are called on the real one."""
        return {v: f"{v}_data" for v in self.seen}

    def pair(self, f: Loss) -> Loss:
        """E_p_data E_p[f], of a real x_data and a fake x, those of one place in the batch."""
        if self.real is None:
            return self._beside_data(self.fake(f))
        return self._over_real_beside(Drawn(self.p, f, estimator=self._estimator_of(self.p)))

    def against_mean(self, f: Callable[[Loss], Loss]) -> Loss:
        """E_p[f(E_p_data[d(x_data)])]."""
        if self.real is None:
            return self._beside_data(self.fake(f(Averaged(self.data_output))))
        return self.fake(f(self._over_real_beside(self.data_output)))

    def _beside_data(self, loss: Loss) -> Loss:
        """The loss, in which x_data is what is given as x."""
        return Aliased(loss, {second: v for v, second in self.names_of_data.items()})

    def _over_real_beside(self, loss: Loss) -> Loss:
        """The mean of the loss, in which x_data is what the real side draws."""
        real = cast(Distribution, self.real)
        names = {v: second for v, second in self.names_of_data.items() if v in real.var}
        estimator = self._estimator_of(real)
        if isinstance(estimator, Mapping):
            estimator = {names.get(v, v): e for v, e in estimator.items()}
        return Averaged(loss, real.replace_var(**names), estimator=estimator)

    def _estimator_of(self, q: Distribution) -> AnyEstimator | None:
        """What was asked for the variables that q draws; None if that is nothing."""
        if not isinstance(self.estimator, Mapping):
            return self.estimator
        return {v: e for v, e in self.estimator.items() if v in _drawn(q)} or None


def _drawn(q: Distribution) -> list[str]:
    return [v for factor in q.ancestral for v in factor.var]


class Adversarial(Game):
    """An objective of two players; a subclass says what they play for.

    Args:
        p: the generator: whatever draws what the discriminator sees, such as `(generator * prior).marginalize_var("z")`.
        d: the discriminator d(t|x), a `Deterministic` or `Bernoulli` whose number is a logit, not a probability.
        real: what p imitates: the values that are given, or, if it is said, what this distribution draws. If it has parameters, they are
            trained with those of p.
        estimator: where the gradient of what is drawn comes from, as in `Expectation`; pathwise where the family allows it, else the score.
            Of a dict, each side takes what it draws.

    Raises:
        FormulaError: for a discriminator that is none, or that does not see what p draws; for an estimator of what nobody draws.
        ParameterError: for a player without parameters, or a parameter of both.
    """

    def __init__(
        self, p: Distribution, d: Distribution, real: Distribution | None = None, *, estimator: AnyEstimator | None = None
    ) -> None:
        duel = Duel(p, d, real, estimator)
        warn_of_probabilities(d)
        objective, loss = self.played(duel)
        super().__init__(objective, self.minimisers(duel), d, loss=loss)

    def minimisers(self, duel: Duel) -> list[Distribution]:
        """Who plays against the discriminator."""
        return [duel.p, duel.real] if duel.real is not None and duel.trains_real else [duel.p]

    def played(self, duel: Duel) -> tuple[Loss, Loss | None]:
        """What the discriminator maximises, and what the others minimise if that is something else."""
        raise NotImplementedError
