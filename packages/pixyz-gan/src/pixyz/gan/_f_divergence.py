r"""The f-GAN family: divergences by their variational bounds.

$$D_f[p_\mathrm{data}\|p] = \int p(x)\, f\!\left(\frac{p_\mathrm{data}(x)}{p(x)}\right) \mathrm{d}x
\ge \mathbb{E}_{p_\mathrm{data}}[g(v(x))] - \mathbb{E}_{p}[f^*(g(v(x)))] ,$$

where v is the discriminator's number, g the output activation that keeps it in the domain of the conjugate f*.
"""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from pixyz.core import AnyEstimator, Distribution, FormulaError, Loss
from pixyz.core import formula as f

from ._duel import Adversarial, Duel
from ._judged import Judged

Function = Callable[[Tensor], Tensor]


class Divergence(NamedTuple):
    """A row of the table of divergences.

    Attributes:
        activation: g(v).
        conjugate: f*(g(v)), of v.
    """

    activation: Function
    conjugate: Function


DIVERGENCES: Mapping[str, Divergence] = {
    "kl": Divergence(lambda v: v, lambda v: torch.exp(v - 1)),
    "reverse_kl": Divergence(lambda v: -torch.exp(-v), lambda v: v - 1),
    "pearson": Divergence(lambda v: v, lambda v: v * v / 4 + v),
    "neyman": Divergence(lambda v: -torch.expm1(v), lambda v: 2 - 2 * torch.exp(v / 2)),
    "squared_hellinger": Divergence(lambda v: -torch.expm1(-v), torch.expm1),
    "jensen_shannon": Divergence(lambda v: math.log(2) + F.logsigmoid(v), lambda v: -math.log(2) - F.logsigmoid(-v)),
    "total_variation": Divergence(lambda v: torch.tanh(v) / 2, lambda v: torch.tanh(v) / 2),
}
"""By name, as in table 6 of Nowozin et al. The Jensen–Shannon one is 2 JS, in nats."""


class AdversarialFDivergence(Adversarial):
    r"""An f-divergence between the data and p, by the bound that the discriminator makes tight, `()`:

    $$\min_p \max_d \mathbb{E}_{p_\mathrm{data}(x)}[g(d(x))] - \mathbb{E}_{p(x)}[f^*(g(d(x)))]$$

    | `divergence` | $D_f[p_\mathrm{data} \Vert p]$ | $g(v)$ | $f^*(t)$ |
    |---|---|---|---|
    | `"kl"` | $\int p_\mathrm{data} \log\frac{p_\mathrm{data}}{p}$ | $v$ | $e^{t-1}$ |
    | `"reverse_kl"` | $\int p \log\frac{p}{p_\mathrm{data}}$ | $-e^{-v}$ | $-1 - \log(-t)$ |
    | `"pearson"` | $\int \frac{(p - p_\mathrm{data})^2}{p}$ | $v$ | $\frac14 t^2 + t$ |
    | `"neyman"` | $\int \frac{(p - p_\mathrm{data})^2}{p_\mathrm{data}}$ | $1 - e^{v}$ | $2 - 2\sqrt{1 - t}$ |
    | `"squared_hellinger"` | $\int (\sqrt{p} - \sqrt{p_\mathrm{data}})^2$ | $1 - e^{-v}$ | $\frac{t}{1 - t}$ |
    | `"jensen_shannon"` | $2\,\mathrm{JS}$ | $\log 2 - \log(1 + e^{-v})$ | $-\log(2 - e^t)$ |
    | `"total_variation"` | $\frac12\int \lvert p - p_\mathrm{data}\rvert$ | $\frac12\tanh v$ | $t$ |

    Args:
        p: the generator.
        d: the discriminator d(t|x), whose number is v: any number, no probability.
        real: what p imitates, if not the data.
        divergence: its name.
        estimator: as in `Expectation`.

    Raises:
        FormulaError: for an unknown divergence; and as all adversarial losses.

    Source:
        Nowozin et al. (2016), eq. 4 and table 6, https://arxiv.org/abs/1606.00709
    """

    def __init__(
        self,
        p: Distribution,
        d: Distribution,
        real: Distribution | None = None,
        *,
        divergence: str = "jensen_shannon",
        estimator: AnyEstimator | None = None,
    ) -> None:
        if divergence not in DIVERGENCES:
            raise FormulaError(f"AdversarialFDivergence: there is no divergence {divergence!r}; choose one of {', '.join(DIVERGENCES)}.")
        self._divergence = divergence
        super().__init__(p, d, real, estimator=estimator)

    def played(self, duel: Duel) -> tuple[Loss, None]:
        duel.need_ratio(type(self).__name__)
        row = DIVERGENCES[self._divergence]
        g = Judged(duel.d, row.activation, lambda v: f.Call("g", v))
        conjugate = Judged(duel.d, row.conjugate, lambda v: f.Call("f*", f.Call("g", v)))
        return duel.data(g) - duel.fake(conjugate), None
