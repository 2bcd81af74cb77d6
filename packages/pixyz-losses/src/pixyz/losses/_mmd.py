"""Distances between distributions by kernels: maximum mean discrepancy and energy distance."""

from collections.abc import Sequence

from torch import Tensor, nn

from pixyz.core import Distribution

from ._kernels import Function, Kernel, distances, kernel_of, u_statistic
from ._set_loss import SetLoss
from ._two_sided import need_same_variables


class MMD(SetLoss):
    r"""The squared maximum mean discrepancy, `()`, from one draw of each side for each datum:

    $$\mathrm{MMD}^2[p\|q] = \mathbb{E}[k(x,x')] + \mathbb{E}[k(y,y')] - 2\,\mathbb{E}[k(x,y)], \qquad x, x' \sim p,\ y, y' \sim q$$

    The U-statistic: draws are not compared with themselves, so it is unbiased for every batch, and may be negative. With a value x for
    each datum, p(z|x) stands for the mixture of p(z|x) over the data, as an aggregated posterior. In a process group it is one per rank.

    Args:
        p: the left side.
        q: the right side, over the same variables.
        kernel: `"gaussian"`, exp(-‖x-y‖²/(2σ²)); `"inverse_multiquadric"`, σ²/(σ²+‖x-y‖²); or a function of x, `(N, D)`, and y, `(M, D)`,
            that returns `(N, M)`. A module is trained with the rest.
        sigma_sqr: σ², in the squared unit of x, where the kernel has a name. A list of several adds their kernels.

    Raises:
        FormulaError: for an unknown kernel, different variables, or draws that cannot be trained.
        ShapeError: for fewer than 2 draws, or where it stands inside of an expectation.

    Examples:
        >>> from pixyz.distributions import Normal
        >>> p, q = Normal("p(z)", loc=0.0, scale=1.0), Normal("q(z)", loc=1.0, scale=1.5)
        >>> print(MMD(p, q))
        MMD[p(z)||q(z)]
        >>> MMD(p, q).estimate(batch_size=1000).shape
        torch.Size([])

    Source:
        Gretton et al. (2012), eq. 3, https://jmlr.org/papers/v13/gretton12a.html
    """

    symbol = "MMD"

    def __init__(
        self, p: Distribution, q: Distribution, kernel: str | Kernel = "gaussian", *, sigma_sqr: float | Sequence[float] = 1.0
    ) -> None:
        chosen = kernel_of(kernel, sigma_sqr, self.symbol)
        parts = []
        if isinstance(chosen, nn.Module):
            need_same_variables(p, q, self.symbol)
            parts = [chosen := Function(chosen, f"k of MMD[{p.prob_text}||{q.prob_text}]")]
        super().__init__(p, q, parts)
        self._kernel = chosen

    def of_sets(self, x: Tensor, y: Tensor) -> Tensor:
        return u_statistic(self._kernel, x, y, self)


class EnergyDistance(SetLoss):
    r"""The squared energy distance, `()`, in the unit of x, from one draw of each side for each datum:

    $$\mathcal{E}[p\|q] = 2\,\mathbb{E}\|x-y\| - \mathbb{E}\|x-x'\| - \mathbb{E}\|y-y'\|, \qquad x, x' \sim p,\ y, y' \sim q$$

    Unbiased for every batch, as `MMD`, whose kernel -‖x-y‖ gives it.

    Args:
        p: the left side.
        q: the right side, over the same variables.

    Raises:
        FormulaError, ShapeError: as `MMD`.

    Examples:
        >>> from pixyz.distributions import Normal
        >>> print(EnergyDistance(Normal("p(z)", loc=0.0, scale=1.0), Normal("q(z)", loc=1.0, scale=1.5)))
        Energy[p(z)||q(z)]

    Source:
        Székely and Rizzo (2013), https://doi.org/10.1016/j.jspi.2013.03.018
    """

    symbol = "Energy"

    def __init__(self, p: Distribution, q: Distribution) -> None:
        super().__init__(p, q)

    def of_sets(self, x: Tensor, y: Tensor) -> Tensor:
        return u_statistic(lambda a, b: -distances(a, b), x, y, self)
