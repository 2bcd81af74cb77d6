"""Comparisons of sets of points, against plain loops and known values."""

import pytest
import torch
from scipy.stats import binomtest, kstest
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import PredefinedSplit, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier
from torch import nn

from pixyz.core import KindError, ParameterError, ShapeError, SupportError
from pixyz.distributions import Deterministic
from pixyz.gan import classifier_two_sample_test, sample_quality
from pixyz.losses import MMD


def in_a_loop(real, fake, k):
    """The definitions, point by point."""

    def radius(points, i):
        return sorted(torch.dist(points[i], points[j]).item() for j in range(len(points)) if j != i)[k - 1]

    balls, fake_balls = ([radius(s, i) for i in range(len(s))] for s in (real, fake))
    holds = [[torch.dist(x, y).item() <= r for y in fake] for x, r in zip(real, balls)]
    held = [[torch.dist(x, y).item() <= r for y, r in zip(fake, fake_balls)] for x in real]
    precision = sum(any(row[j] for row in holds) for j in range(len(fake))) / len(fake)
    recall = sum(any(row) for row in held) / len(real)
    density = sum(map(sum, holds)) / (k * len(fake))
    return precision, recall, density, sum(map(any, holds)) / len(real)


@pytest.mark.parametrize(("n", "m", "dim", "k"), [(30, 20, 2, 1), (25, 40, 3, 3), (40, 40, 1, 5)])
def test_sample_quality_is_what_a_loop_finds(n, m, dim, k):
    torch.manual_seed(n)
    real, fake = torch.randn(n, dim, dtype=torch.float64), 0.7 * torch.randn(m, dim, dtype=torch.float64) + 0.5
    found = sample_quality(real, fake, k)
    assert (found.precision, found.recall, found.density, found.coverage) == pytest.approx(in_a_loop(real, fake, k), abs=1e-12)


def test_the_same_set_has_all_and_a_distant_one_nothing():
    torch.manual_seed(0)
    x = torch.randn(50, 4)
    same = sample_quality(x, x, k=3)
    assert (same.precision, same.recall, same.coverage) == (1.0, 1.0, 1.0)
    assert same.density == pytest.approx(4 / 3)  # each ball holds its centre and 3 neighbours
    apart = sample_quality(x, x + 100.0)
    assert (apart.precision, apart.recall, apart.density, apart.coverage) == (0.0, 0.0, 0.0, 0.0)
    assert str(apart) == "precision 0.00, recall 0.00, density 0.00, coverage 0.00"


def test_fakes_of_one_mode_are_precise_and_cover_half():
    torch.manual_seed(0)
    modes = torch.tensor([[-5.0, 0.0], [5.0, 0.0]])
    real = modes.repeat(200, 1) + 0.1 * torch.randn(400, 2)
    found = sample_quality(real, modes[:1] + 0.1 * torch.randn(400, 2))
    assert found.precision > 0.95
    assert found.recall < 0.51
    assert found.density == pytest.approx(0.5 * 2, abs=0.15)
    assert 0.45 < found.coverage <= 0.5


def test_an_outlier_raises_the_precision_but_hardly_the_density():
    torch.manual_seed(0)
    real, fake = torch.randn(200, 2), torch.randn(200, 2) + 20.0
    with_outlier = torch.cat([real, torch.full((1, 2), 40.0)])
    assert sample_quality(real, fake).precision == 0.0
    found = sample_quality(with_outlier, fake)
    assert found.precision == 1.0
    assert found.density == pytest.approx(0.2)
    assert found.coverage < 0.01


def test_p_values_are_uniform_where_there_is_no_difference():
    torch.manual_seed(0)
    found = [classifier_two_sample_test(torch.randn(20, 2), torch.randn(20, 2), permutations=19).p_value for _ in range(200)]
    # Of twentieths, and ties make them a little too large.
    assert kstest(found, "uniform", alternative="greater").pvalue > 0.01
    for level in (0.05, 0.2, 0.5):
        assert binomtest(sum(p <= level for p in found), 200, level).pvalue > 0.01


def test_the_accuracy_is_that_of_a_nearest_neighbour_classifier():
    torch.manual_seed(0)
    x, y = torch.randn(60, 2), torch.randn(40, 2) + 1.0
    points, labels = torch.cat([x, y]).numpy(), [0] * 60 + [1] * 40
    torch.manual_seed(1)
    fold = (torch.randperm(100) % 5).numpy()
    torch.manual_seed(1)
    found = classifier_two_sample_test(x, y, k=7, permutations=1).accuracy
    classifier = KNeighborsClassifier(7)
    want = balanced_accuracy_score(labels, cross_val_predict(classifier, points, labels, cv=PredefinedSplit(fold)))
    assert found == pytest.approx(want, abs=1e-6)


def test_a_difference_is_found_and_an_impossible_one_is_not():
    torch.manual_seed(0)
    x, y = torch.randn(100, 2), torch.randn(100, 2)
    apart = classifier_two_sample_test(x, y + 100.0, permutations=19)
    assert (apart.accuracy, apart.p_value) == (1.0, 0.05)
    assert str(apart) == "accuracy 1.000, p = 0.05"
    # N(0, 1) and N(2, 1): the best classifier is right with probability Φ(1).
    shifted = classifier_two_sample_test(torch.randn(1000, 1), torch.randn(1000, 1) + 2.0, permutations=1)
    assert shifted.accuracy == pytest.approx(0.8413, abs=4 * (0.8413 * 0.1587 / 2000) ** 0.5)


@pytest.mark.parametrize("where", [0.0, 1e5, -1e6])
def test_points_far_from_the_origin_have_the_neighbours_that_they_have_in_double_precision(where):
    torch.manual_seed(0)
    x, y = torch.randn(200, 2) + where, torch.randn(200, 2) + 1.0 + where
    found = []
    for pair in ((x, y), ((x - where).double(), (y - where).double())):
        torch.manual_seed(1)
        found.append(classifier_two_sample_test(*pair, permutations=19))
    assert found[0].accuracy == pytest.approx(found[1].accuracy, abs=0.03)  # where several are as near, any
    assert found[0].p_value == 0.05
    assert str(sample_quality(x, y)) == str(sample_quality((x - where).double(), (y - where).double()))


def test_sets_of_different_sizes_start_from_one_half():
    torch.manual_seed(0)
    found = classifier_two_sample_test(torch.randn(400, 2), torch.randn(40, 2), permutations=1)
    assert found.accuracy == pytest.approx(0.5, abs=0.02)


def test_the_discrepancy_of_two_given_sets_is_that_of_their_points():
    torch.manual_seed(0)
    fake, real = torch.randn(30, 2, dtype=torch.float64), torch.randn(20, 2, dtype=torch.float64) + 1.0
    p, data = Deterministic("p(x|x_fake)", x=nn.Identity()), Deterministic("p_data(x|x_real)", x=nn.Identity())
    found = MMD(p, data).estimate({"x_fake": fake, "x_real": real})

    def mean(a, b, same):
        terms = [(-0.5 * (x - y).square().sum()).exp() for i, x in enumerate(a) for j, y in enumerate(b) if not (same and i == j)]
        return sum(terms) / len(terms)

    want = mean(fake, fake, True) + mean(real, real, True) - 2 * mean(fake, real, False)
    torch.testing.assert_close(found, want, atol=1e-12, rtol=0)


@pytest.mark.parametrize("function", [sample_quality, classifier_two_sample_test])
@pytest.mark.parametrize(
    ("pair", "error", "match"),
    [
        (([[0.0]], torch.zeros(5, 1)), KindError, r"must be a tensor, \(N, D\); got a list"),
        ((torch.zeros(5, 1, 8, 8), torch.zeros(5, 64)), ShapeError, r"got \(5, 1, 8, 8\)\. Flatten them"),
        ((torch.zeros(0, 2), torch.zeros(5, 2)), ShapeError, r"got \(0, 2\)"),
        ((torch.zeros(5, 2), torch.zeros(5, 3)), ShapeError, r"\w+ has 2 features, but \w+ has 3"),
        ((torch.zeros(5, 2).long(), torch.zeros(5, 2)), KindError, r"floating-point dtype; got torch.int64"),
        ((torch.zeros(5, 2), torch.zeros(5, 2).double()), KindError, r"Convert one with \.to\(\)"),
        ((torch.full((5, 2), torch.nan), torch.zeros(5, 2)), SupportError, "not finite"),
    ],
    ids=["list", "images", "empty", "features", "whole", "dtypes", "nan"],
)
def test_sets_that_cannot_be_compared(function, pair, error, match):
    with pytest.raises(error, match=match):
        function(*pair)


def test_what_cannot_be_asked():
    x = torch.zeros(5, 2)
    for k in (0, 5, 1.5):
        with pytest.raises(ParameterError, match="k is which neighbour, at least 1 and below the 5 real and the 5 fake points"):
            sample_quality(x, x, k)
    for k in (0, 9):
        with pytest.raises(ParameterError, match="k is how many neighbours are asked, at least 1 and at most the 8 in other folds"):
            classifier_two_sample_test(x, x, k=k)
    for folds in (1, 11):
        with pytest.raises(ParameterError, match="folds must be at least 2, and at most the 10 points"):
            classifier_two_sample_test(x, x, folds=folds)
    with pytest.raises(ParameterError, match="permutations is how often the labels are permuted, at least 1; got 0"):
        classifier_two_sample_test(x, x, permutations=0)
