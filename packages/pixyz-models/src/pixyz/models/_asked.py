"""What a model is asked when it is trained."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from . import _after_training, _evaluation, _likelihood
from ._data import Data
from ._step import Steps

if TYPE_CHECKING:
    from pixyz.core import Distribution


class Asked(Steps):
    """What a model that was trained says of data, and draws."""

    p: "Distribution | None"
    q: "Distribution | None"

    def evaluate(self, data: Data, *, batch_size: int | None = None, names: Sequence[str] | None = None) -> _evaluation.Evaluation:
        """The test loss of all data, and every term of its formula: the mean over batches, each counted by its size.

        Args:
            data: `(N, *features)` for every variable of the test loss, or a loader that gives such mappings, or tuples.
            batch_size: how many data of a mapping are evaluated at a time; all, if not given.
            names: the variables that the tensors of a tuple are, `["x", "y"]`.

        Raises:
            ShapeError: for no data.
        """
        return _evaluation.evaluate(self, data, batch_size=batch_size, names=names)

    def sample(
        self, batch_size: int | None = None, *, given: Mapping[str, Any] | None = None, mean_of: str | Iterable[str] = ()
    ) -> dict[str, Tensor]:
        """Draws every variable of p, `(batch, *features)`.

        Args:
            batch_size: how many; the batch of what is given if not said, else 1.
            given: `(batch, *features)` for each conditioning variable, or for variables that nothing drawn stands above.
            mean_of: variables of which the mean, given what was drawn above, stands for the draw: grey pixels, not black and white.

        Raises:
            FormulaError: if the model knows no p.
        """
        return _after_training.sample(self, batch_size, given, mean_of)

    def infer(self, values: Mapping[str, Any], *, mean_of: str | Iterable[str] = ()) -> dict[str, Tensor]:
        """Draws the latent variables from q, `(batch, *features)`, or takes their means, as in `sample`.

        Raises:
            FormulaError: if the model knows no q.
        """
        return _after_training.infer(self, values, mean_of)

    def reconstruct(self, values: Mapping[str, Any]) -> dict[str, Tensor]:
        """The mean of everything that p makes of one draw from q, `(batch, *features)`: E[x|z] with z from q(z|x).

        Raises:
            FormulaError: if the model knows no p or no q.
        """
        return _after_training.reconstruct(self, values)

    def log_likelihood(
        self,
        data: Data,
        *,
        num_samples: int = 1000,
        unit: str = "nats",
        divided_by: float = 1.0,
        batch_size: int | None = 100,
        names: Sequence[str] | None = None,
    ) -> _likelihood.LogLikelihood:
        r"""The mean of log p(x) over the data, with its standard error: by importance sampling from q, or exact where there is no q.

        Data that were whole numbers v before noise was added and they were divided, x = (v + u)/s with 0 ≤ u < 1, are counted as those
        numbers, by the Jacobian of the division; D is how many numbers a datum has:

        $$\log P(v) \ge \mathbb{E}_u[\log p(x)] - D \log s, \qquad \text{bits/dim} = -\frac{\log p(x) - D \log s}{D \log 2}$$

        Args:
            data: as for `evaluate`.
            num_samples: K, the draws of q for each datum; the estimate is a lower bound in expectation, tight as K grows.
            unit: `"nats"`, of log p, or `"bits/dim"`, of -log p.
            divided_by: s, 256 for bytes in [0, 1], or 16; 1 for data that have no density, as binary pixels.
            batch_size: how many data of a mapping are evaluated at a time; what is in memory is K times as many.
            names: as for `evaluate`.

        Raises:
            FormulaError: if the model knows no p.
            ShapeError: for no data.

        Source:
            Burda et al. (2016), eq. 8, https://arxiv.org/abs/1509.00519; Theis et al. (2016), section 3.1, https://arxiv.org/abs/1511.01844
        """
        return _likelihood.log_likelihood(
            self, data, num_samples=num_samples, unit=unit, divided_by=divided_by, batch_size=batch_size, names=names
        )
