"""What keeps an encoder and its codebook together."""

from pixyz.core import Distribution, Factor, FormulaError, Loss, Quantities, Quantity, Scope, Term, need_distribution, need_finite
from pixyz.core import formula as f


class Commitment(Loss):
    r"""The terms of a vector-quantised autoencoder beside its reconstruction, `(batch,)`, summed over the features:

    $$\beta\,\|h(x) - \mathrm{sg}[e]\|^2 + \|\mathrm{sg}[h(x)] - e\|^2$$

    where h(x) is what the network returns, e the nearest code, and sg holds a gradient back. The second term trains the codebook; where a
    `VectorQuantizer` follows moving averages instead, it is left out.

    Args:
        q: a `VectorQuantizer`, renamed or not.
        beta: β, at least 0.

    Raises:
        FormulaError: for another distribution, or a negative β.
        KindError: if β is no finite number.

    Examples:
        >>> from torch import nn
        >>> from pixyz.distributions import VectorQuantizer
        >>> q = VectorQuantizer("q(z|x)", z=nn.Linear(64, 8), num_codes=32, dim=8)
        >>> print(Commitment(q))
        Commitment(q(z|x))

    Source:
        van den Oord et al. (2017), eq. 3, https://arxiv.org/abs/1711.00937
    """

    def __init__(self, q: Distribution, *, beta: float = 0.25) -> None:
        need_distribution(q, "Commitment")
        if len(q.factors) != 1 or not hasattr(q.factors[0].dist, "codebook"):
            raise FormulaError(f"Commitment takes a VectorQuantizer, which has a codebook; got {q.prob_text}.")
        need_finite(beta, "beta", f"Commitment({q.prob_text})")
        if beta < 0:
            raise FormulaError(f"Commitment({q.prob_text}): beta must be at least 0; got {beta!r}.")
        super().__init__([q], input_var=q.cond_var, optional_var=q.var)
        self.beta = float(beta)
        self._q = q

    @property
    def formula(self) -> f.Formula:
        return f.Call("Commitment", self._q.density)

    def quantities(self, drawn: frozenset[Factor] = frozenset()) -> Quantities:
        return frozenset([(Quantity.DISTANCE, -1)])

    def evaluate(self, scope: Scope) -> Term:
        return scope.conditional(self._q.factors[0]).commitment(self.beta)  # type: ignore[attr-defined]
