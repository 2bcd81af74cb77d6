"""Whether a classifier can tell two sets apart."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from pixyz.core import ParameterError, is_whole

from ._points import distances, need_points


@dataclass(frozen=True)
class TwoSampleTest:
    """What `classifier_two_sample_test` found; it prints as `accuracy 0.502, p = 0.44`.

    Attributes:
        accuracy: of the classifier on points that it has not seen, the mean of that of both sets; about 1/2 for sets that it cannot tell
            apart, 1 for sets that it always can.
        p_value: how often chance alone would make it as large; never below `1 / (permutations + 1)`.
    """

    accuracy: float
    p_value: float

    def __str__(self) -> str:
        return f"accuracy {self.accuracy:.3f}, p = {self.p_value:.2g}"


def classifier_two_sample_test(x: Tensor, y: Tensor, *, k: int | None = None, folds: int = 5, permutations: int = 999) -> TwoSampleTest:
    """Whether two sets come from one distribution: how often a classifier knows of a point which set it is from.

    The classifier asks the nearest neighbours of a point, which lie in other folds than it does. The p-value is that of permuted labels,
    for which the accuracy is found in the same way: what is known of the folds depends on each other, so that a binomial distribution would
    find differences too often where there are none. Folds and permutations are drawn from torch's global generator.

    Args:
        x: `(N, D)`.
        y: `(M, D)`.
        k: how many neighbours; if not given, the root of how many points there are in the other folds.
        folds: into how many parts the points are cut, at least 2.
        permutations: how often the labels are permuted, at least 1.

    Raises:
        KindError, ShapeError, SupportError: for sets that cannot be compared.
        ParameterError: for fewer than 2 folds or more than points, fewer than 1 neighbour or more than there are, no permutations.

    Examples:
        >>> _ = torch.manual_seed(0)
        >>> x, y = torch.randn(200, 2), torch.randn(200, 2)
        >>> print(classifier_two_sample_test(x, y))
        accuracy 0.502, p = 0.44
        >>> print(classifier_two_sample_test(x, y + 1.0))
        accuracy 0.760, p = 0.001

    Source:
        Lopez-Paz and Oquab (2017), section 3, with the classifier C2ST-KNN of section 5, https://arxiv.org/abs/1610.06545; the
        permutations, Ojala and Garriga (2010), test 1, https://jmlr.org/papers/v11/ojala10a.html
    """
    who = "classifier_two_sample_test"
    points = torch.cat(need_points(who, x=x, y=y))
    n = len(points)
    if not is_whole(folds) or not 2 <= folds <= n:
        raise ParameterError(f"{who}: folds must be at least 2, and at most the {n} points; got {folds!r}.")
    seen = n - math.ceil(n / folds)
    if k is None:
        k = math.isqrt(seen)
    if not is_whole(k) or not 1 <= k <= seen:
        raise ParameterError(f"{who}: k is how many neighbours are asked, at least 1 and at most the {seen} in other folds; got {k!r}.")
    if not is_whole(permutations) or permutations < 1:
        raise ParameterError(f"{who}: permutations is how often the labels are permuted, at least 1; got {permutations!r}.")
    neighbours = _neighbours(points, torch.randperm(n, device=points.device) % folds, k)
    labels = (torch.arange(n, device=points.device) >= len(x)).to(points.dtype)
    accuracy = _accuracy(labels, neighbours)
    by_chance = [_accuracy(labels[torch.randperm(n, device=labels.device)], neighbours) for _ in range(permutations)]
    as_large = sum([found >= accuracy for found in by_chance])
    return TwoSampleTest(accuracy, (1 + as_large) / (1 + permutations))


def _neighbours(points: Tensor, fold: Tensor, k: int) -> Tensor:
    """The k nearest of the points in other folds, `(N, k)`."""
    return distances(points, points).masked_fill(fold[:, None] == fold, torch.inf).topk(k, largest=False).indices


def _accuracy(labels: Tensor, neighbours: Tensor) -> float:
    """Of the majority of the neighbours, the mean over both sets; where it is even, half right."""
    votes = labels[neighbours].mean(-1) - 0.5
    right = 0.5 + 0.5 * votes.sign() * (2 * labels - 1)
    second = (right * labels).sum() / labels.sum()
    first = (right * (1 - labels)).sum() / (1 - labels).sum()
    return ((first + second) / 2).item()
