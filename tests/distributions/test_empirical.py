"""The distribution of a data set, held against the data."""

import copy
import pickle

import pytest
import scipy.stats
import torch
from torch import nn

from pixyz.core import FormulaError, IntractableError, KindError, ParameterError, ShapeError
from pixyz.distributions import Empirical, Normal

X = torch.randn(7, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
Y = torch.arange(7)


def pairs():
    return Empirical("p_data(x,y)", x=X, y=Y)


def test_rows_come_equally_often():
    y = Empirical(var=["y"], y=Y).sample(batch_size=20_000)["y"]
    assert scipy.stats.chisquare(torch.bincount(y, minlength=7).numpy()).pvalue > 1e-4


def test_what_belongs_together_stays_together():
    sample = pairs().sample(batch_size=50, sample_shape=[4])
    assert sample["x"].shape == (4, 50, 3)
    assert sample["y"].shape == (4, 50)
    assert sample["y"].dtype == torch.int64
    torch.testing.assert_close(sample["x"], X[sample["y"]], rtol=0, atol=0)
    assert len(sample["y"][:, 0].unique()) > 1


@pytest.mark.parametrize("rows", [X, torch.arange(6).reshape(3, 2), torch.tensor([True, False, True])], ids=["real", "whole", "bool"])
def test_mean_and_variance_are_those_of_the_rows(rows):
    p = Empirical("p(x)", x=rows)
    truth = rows.numpy().astype("float64" if rows.dtype == torch.float64 else "float32")
    torch.testing.assert_close(p.mean(), torch.as_tensor(truth.mean(0)).unsqueeze(0))
    torch.testing.assert_close(p.variance(), torch.as_tensor(truth.var(0)).unsqueeze(0))


def test_an_expectation_over_it_is_the_average_over_the_rows():
    p, data = Normal("p(x)", loc=torch.zeros(3).double(), scale=torch.ones(3).double()), Empirical("p_data(x)", x=X)
    n = 20_000
    truth = p.log_likelihood({"x": X})
    loss = p.log_prob().expectation(data, num_samples=n)
    assert str(loss) == "E_p_data(x)[log p(x)]"
    assert abs(loss.estimate().item() - truth.mean().item()) < 5 * truth.std().item() / n**0.5


def test_pairs_in_an_expectation():
    class Label(Normal):
        def forward(self, y):
            return {"loc": y.double().unsqueeze(-1).expand(-1, 3), "scale": 1.0}

    p, n = Label("p(x|y)"), 20_000
    truth = p.log_likelihood({"x": X, "y": Y})
    estimate = p.log_prob().expectation(pairs(), num_samples=n).estimate()
    assert abs(estimate.item() - truth.mean().item()) < 5 * truth.std().item() / n**0.5


def test_trained_rows_get_the_gradient_of_the_average():
    rows = nn.Parameter(X.clone())
    p, data = Normal("p(x)", loc=torch.zeros(3).double(), scale=torch.ones(3).double()), Empirical("q(x)", x=rows)
    p.log_prob().expectation(data, num_samples=40_000).estimate().sum().backward()
    assert [name for name, _ in data.named_parameters()] == ["rows_x"]
    torch.testing.assert_close(rows.grad, -X / 7, rtol=0.1, atol=0.005)


def test_it_keeps_a_copy():
    x = X.clone()
    p = Empirical("p(x)", x=x)
    x.zero_()
    torch.testing.assert_close(p.mean()[0], X.mean(0))


def test_it_is_copied_pickled_and_saved():
    p = pairs()
    for q in (copy.deepcopy(p), pickle.loads(pickle.dumps(p))):
        torch.testing.assert_close(q.rows[0], X)
    q = Empirical("p_data(x,y)", x=torch.zeros_like(X), y=torch.zeros_like(Y))
    q.load_state_dict(p.state_dict())
    torch.testing.assert_close(q.rows[1], Y)
    assert "x=tensor(7, 3), y=tensor(7,)" in str(p)


def test_a_variable_may_be_called_like_something_of_a_module():
    assert Empirical("p(mean)", mean=X).sample()["mean"].shape == (1, 3)


def test_it_compiles():
    p = Normal("p(x)", loc=torch.zeros(3).double(), scale=torch.ones(3).double())
    loss = p.log_prob().expectation(Empirical("p_data(x)", x=X), num_samples=5)
    torch.manual_seed(3)
    eager = loss.estimate()
    torch.manual_seed(3)
    torch.testing.assert_close(torch.compile(lambda: loss.estimate(), fullgraph=True, backend="eager")(), eager)


CASES = {
    "density": (
        lambda: Empirical("p_data(x)", x=X).log_likelihood({"x": X}),
        IntractableError,
        "log p_data(x): a data set has no density, its rows are points. Sample it, or take an expectation over it: f.expectation(p_data)",
    ),
    "score": (
        lambda: (
            Normal("p(x)", loc=torch.zeros(3).double(), scale=1.0)
            .log_prob()
            .expectation(Empirical("p_data(x)", x=X), estimator="score")
            .estimate()
        ),
        IntractableError,
        "log p_data(x): a data set has no density",
    ),
    "conditional": (lambda: Empirical("p(x|z)", x=X), FormulaError, "p(x|z): a data set depends on nothing; write p(x,z), with rows for z"),
    "cond_var": (lambda: Empirical(var=["x"], cond_var=["z"], x=X), FormulaError, "p(x|z): a data set depends on nothing"),
    "lacking": (lambda: Empirical("p(x,y)", x=X), ParameterError, "p(x,y): an Empirical takes rows for x, y, (N, *features) each; got x."),
    "unknown": (lambda: Empirical("p(x)", x=X, y=Y), ParameterError, "takes rows for x, (N, *features) each; got x, y."),
    "nothing": (lambda: Empirical("p(x)"), ParameterError, "got nothing."),
    "a list": (lambda: Empirical("p(x)", x=[1.0]), KindError, "the rows of x must be a tensor; got a list. Use torch.as_tensor."),
    "rank": (lambda: Empirical("p(x)", x=torch.tensor(1.0)), ShapeError, "the rows of x have shape (); they are (N, *features)"),
    "empty": (lambda: Empirical("p(x)", x=torch.zeros(0, 2)), ShapeError, "the rows of x have shape (0, 2)"),
    "unequal": (lambda: Empirical("p(x,y)", x=X, y=Y[:5]), ShapeError, "p(x,y): x has 7 rows, y has 5 rows; rows that belong together"),
    "mean of several": (lambda: pairs().mean(), IntractableError, "has no mean in closed form"),
    "entropy": (lambda: Empirical("p(x)", x=X).entropy(), IntractableError, "has no entropy in closed form"),
}


@pytest.mark.parametrize("case", CASES)
def test_errors(case):
    do, error, words = CASES[case]
    with pytest.raises(error) as caught:
        do()
    assert words in str(caught.value)
