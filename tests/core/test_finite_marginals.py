"""Marginals and posteriors of finite variables, against the full table and other sums by hand."""

import pytest
import torch
from graphical import Emission, Prior, Table, compare_with_the_table, one_hot
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from torch import nn
from zoo import Computed

from pixyz.core import LogProb, SupportError
from pixyz.distributions import Categorical, Deterministic, Normal

pytestmark = pytest.mark.usefixtures("float64")


@st.composite
def graphs(draw):
    """The sizes of up to 8 variables, the parents of each, which of them are shown, and the one that is asked for."""
    sizes = draw(st.lists(st.integers(2, 3), min_size=2, max_size=8))
    count = len(sizes)
    parents = [sorted(draw(st.sets(st.integers(0, i - 1), max_size=3))) if i else [] for i in range(count)]
    shown = sorted(draw(st.sets(st.integers(0, count - 1), min_size=1, max_size=count - 1)))
    asked = draw(st.sampled_from([i for i in range(count) if i not in shown]))
    return sizes, parents, shown, asked, draw(st.integers(0, 2**20))


@seed(0)
@settings(deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(graph=graphs())
def test_random_graphs_against_the_full_table(graph):
    """Of 2,000 graphs with `--hypothesis-profile long`."""
    compare_with_the_table(*graph)


def test_hidden_variables_that_are_computed():
    """h = f(k) between a finite variable and x; and a hidden one that is computed from what is given."""
    torch.manual_seed(4)
    double = Deterministic("f(h|k)", h=lambda k: 2 * k)
    see = Normal("p(x|h,c)", loc=lambda h, c: h.sum(-1, keepdim=True) + c * (h[:, :1] - 1), scale=1.0)
    shift = Deterministic("g(c|u)", c=lambda u: u + 1)
    weights = torch.tensor([0.3, 0.7])
    p = (see * double * Categorical("p(k)", probs=weights) * shift).marginalize_var(["h", "k", "c"])
    assert p.prob_text == "p(x|u)"
    x, u = torch.randn(5, 1), torch.randn(5, 1)
    parts = [torch.distributions.Normal(2 + (u + 1) * (2 * k - 1), 1.0).log_prob(x)[:, 0] for k in (1, 0)]
    truth = (torch.stack(parts, -1) + weights.log()).logsumexp(-1)
    torch.testing.assert_close(p.log_likelihood({"x": x, "u": u}), truth)
    torch.testing.assert_close(p.posterior("k").mean({"x": x, "u": u}), (torch.stack(parts, -1) + weights.log()).softmax(-1))


def test_copies_below_a_shared_variable():
    """N observed copies of one conditional: one call of its network, whatever N."""
    torch.manual_seed(5)
    calls = []

    class See(Emission):
        def forward(self, **given):
            calls.append(next(iter(given.values())).shape[0])
            return super().forward(**given)

    see, prior = See(3, 2), Prior("z", 3)
    p = prior
    for i in range(6):
        p = p * see.replace_var(x=f"x_{i}")
    x = torch.randn(4, 6, 2)
    ours = p.marginalize_var("z").log_likelihood({f"x_{i}": x[:, i] for i in range(6)})
    assert calls == [3]
    log_b = torch.distributions.Normal(see.means, 1.0).log_prob(x.unsqueeze(2)).sum((-1, 1))
    torch.testing.assert_close(ours, (log_b + prior.log_table()).logsumexp(-1))


def test_independent_hidden_factors_are_summed_one_by_one():
    """Twelve variables of 8 states each: 8**12 points at once would be too many."""
    torch.manual_seed(6)
    p, truth, values = None, 0.0, {}
    for i in range(12):
        prior, see = Prior(f"k_{i}", 8), Emission(8, 1, f"x_{i}", f"k_{i}")
        p = prior * see if p is None else p * prior * see
        values[f"x_{i}"] = torch.randn(3, 1)
        truth = truth + (
            torch.distributions.Normal(see.means, 1.0).log_prob(values[f"x_{i}"].unsqueeze(1)).sum(-1) + prior.log_table()
        ).logsumexp(-1)
    ours = p.marginalize_var([f"k_{i}" for i in range(12)]).log_likelihood(values)
    torch.testing.assert_close(ours, truth)


def test_samples_and_enumerated_variables_around_a_marginal():
    """A marginal inside an expectation: its evidence has sample dims and enumerated ones."""
    torch.manual_seed(7)
    net = nn.Linear(2, 2)
    inner = (Normal("p(x|z,y)", loc=lambda z, y: z + y, scale=0.7) * Prior("w", 2)).marginalize_var("w")
    assert inner.hidden_var == frozenset()  # nothing depends on w
    seen = (Emission(2, 2, "x", "k") * Table("k", ["y"], [3], 2)).marginalize_var("k")
    y = Categorical("q(y|u)", probs=net_probs())
    u, x = torch.randn(4, 2), torch.randn(4, 2)
    ours = LogProb(seen).expectation(y, estimator="enumerate").estimate({"x": x, "u": u})
    probs = y.get_params({"u": u})["probs"]
    truth = sum(probs[:, i] * seen.log_likelihood({"x": x, "y": one_hot([i] * 4, 3)}) for i in range(3))
    torch.testing.assert_close(ours, truth)
    moved = (Normal("p(x|z)", loc=net, scale=0.5) * Normal("p(z|v)", loc="v", scale=1.0)).marginalize_var("z")
    v = Normal("q(v|u)", loc="u", scale=0.3)
    drawn = v.sample({"u": u}, sample_shape=[5])
    many = moved.log_likelihood({"x": x, "v": drawn["v"]}, sample_dims={"v": 1})
    torch.testing.assert_close(many, torch.stack([moved.log_likelihood({"x": x, "v": one}) for one in drawn["v"]]))


def net_probs():
    net = nn.Linear(2, 3)
    return Computed(lambda u: net(u).softmax(-1), net)


def test_an_impossible_condition_is_named():
    p = Categorical("p(x|k)", probs=lambda k: k @ torch.tensor([[1.0, 0.0], [1.0, 0.0]])) * Prior("k", 2)
    seen = one_hot([0, 1], 2)
    assert p.marginalize_var("k").log_likelihood({"x": seen})[1] == -torch.inf
    with pytest.raises(SupportError, match=r"p\(k\|x\): x has probability zero for 1 of 2 data"):
        p.posterior("k").sample({"x": seen})
