"""How far a set of fakes lies where real data lie, and how far it covers them, by nearest neighbours."""

from dataclasses import dataclass

from torch import Tensor

from pixyz.core import ParameterError, is_whole

from ._points import distances, need_points


@dataclass(frozen=True)
class SampleQuality:
    """What `sample_quality` found; it prints as `precision 0.98, recall 0.95, density 1.02, coverage 0.96`.

    Attributes:
        precision: the share of the fakes that lie where real data lie; 1 at best.
        recall: the share of the real data that lie where fakes lie; 1 at best.
        density: in how many balls around real data a fake lies, over the k that are expected; about 1 for fakes like the data, and above
            where they crowd in their midst.
        coverage: the share of the real data in whose balls there are fakes; 1 at best.
    """

    precision: float
    recall: float
    density: float
    coverage: float

    def __str__(self) -> str:
        return f"precision {self.precision:.2f}, recall {self.recall:.2f}, density {self.density:.2f}, coverage {self.coverage:.2f}"


def sample_quality(real: Tensor, fake: Tensor, k: int = 5) -> SampleQuality:
    r"""Precision and recall, density and coverage of fakes, in the space in which they are given.

    With $B(x_i)$ the ball around a point whose radius is the distance of its k-th nearest neighbour in its own set, for real $x_i$, N of
    them, and fakes $y_j$, M of them:

    $$\text{precision} = \frac1M \sum_j \Big[y_j \in \bigcup_i B(x_i)\Big], \qquad
    \text{recall} = \frac1N \sum_i \Big[x_i \in \bigcup_j B(y_j)\Big]$$

    $$\text{density} = \frac{1}{kM} \sum_j \sum_i \big[y_j \in B(x_i)\big], \qquad
    \text{coverage} = \frac1N \sum_i \Big[\exists j: y_j \in B(x_i)\Big]$$

    A single outlier among the real data has a large ball, which raises the precision; density and coverage are robust to it. Images
    are compared by their features under some network, rather than by their pixels.

    Args:
        real: `(N, D)`.
        fake: `(M, D)`.
        k: which neighbour; 3 in the source of precision and recall, 5 in that of density and coverage.

    Raises:
        KindError, ShapeError: for sets that cannot be compared.
        ParameterError: unless k is at least 1 and below N and M.

    Examples:
        >>> import torch
        >>> _ = torch.manual_seed(0)
        >>> real = torch.randn(1000, 2)
        >>> print(sample_quality(real, torch.randn(1000, 2)))
        precision 1.00, recall 0.99, density 1.01, coverage 0.96
        >>> print(sample_quality(real, 0.1 * torch.randn(1000, 2)))
        precision 1.00, recall 0.09, density 1.05, coverage 0.09

    Source:
        Kynkäänniemi et al. (2019), eq. 1 and 2, https://arxiv.org/abs/1904.06991; Naeem et al. (2020), eq. 3 and 4,
        https://arxiv.org/abs/2002.09797
    """
    real, fake = need_points("sample_quality", real=real, fake=fake)
    if not is_whole(k) or not 1 <= k < min(len(real), len(fake)):
        raise ParameterError(
            f"sample_quality: k is which neighbour, at least 1 and below the {len(real)} real and the {len(fake)} fake points; got {k!r}."
        )
    across = distances(real, fake)
    of_real, of_fake = _radii(real, k), _radii(fake, k)
    in_real, in_fake = across <= of_real[:, None], across <= of_fake
    return SampleQuality(
        precision=_share(in_real.any(0)),
        recall=_share(in_fake.any(1)),
        density=in_real.sum().item() / (k * len(fake)),
        coverage=_share(in_real.any(1)),
    )


def _radii(points: Tensor, k: int) -> Tensor:
    """How far the k-th nearest other point is, `(N,)`."""
    return distances(points, points).kthvalue(k + 1).values


def _share(held: Tensor) -> float:
    return held.double().mean().item()
