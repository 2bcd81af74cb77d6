"""Sums over the steps of a sequence, against loops by hand, enumeration of all paths and closed forms, in float64."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.distributions import Normal as TorchNormal
from torch.distributions import kl_divergence
from zoo import Computed

from pixyz.core import IntractableError, KindError, LogProb, ShapeError, seeded
from pixyz.distributions import Categorical, Deterministic, Normal
from pixyz.losses import ELBO, IWAE, IterativeLoss, KullbackLeibler, Loss, Parameter

HAND_ON = {"z": "z_prev"}


@pytest.fixture(autouse=True)
def in_float64():
    torch.set_default_dtype(torch.float64)


class Encoder(Normal):
    """q(z|x,z_prev), which counts its calls."""

    def __init__(self, dropout=0.0):
        super().__init__(var=["z"], cond_var=["x", "z_prev"], name="q")
        self.layer, self.drop = nn.Linear(5, 4), nn.Dropout(dropout)
        self.calls = 0

    def forward(self, x, z_prev):
        self.calls += 1
        loc, scale = self.layer(self.drop(torch.cat([x, z_prev], -1))).chunk(2, -1)
        return {"loc": loc, "scale": F.softplus(scale) + 0.1}


class Decoder(Normal):
    """p(x|z), which counts its calls."""

    def __init__(self):
        super().__init__(var=["x"], cond_var=["z"], name="p")
        self.layer = nn.Linear(2, 3)
        self.calls = 0

    def forward(self, z):
        self.calls += 1
        return {"loc": self.layer(z), "scale": torch.full((), 0.5)}


def state_space(dropout=0.0):
    torch.manual_seed(0)
    q, decoder = Encoder(dropout), Decoder()
    transition = Normal("p(z|z_prev)", loc=nn.Linear(2, 2), scale=0.7)
    return q, decoder, transition


def series(batch=4, steps=6):
    return {"x": torch.randn(batch, steps, 3), "z_prev": torch.randn(batch, 2)}


def by_hand(q, decoder, transition, values, count, kl):
    """The same bound, step by step, for each of `count` sequences; in the draws of the library's order."""
    x, z = values["x"], values["z_prev"]
    z = z.expand(count, *z.shape) if count > 1 else z
    move = transition.given_networks.linear_map("loc", "z_prev"), dict(transition.named_parameters())["given_networks.loc.bias"]
    total = 0.0
    for t in range(x.shape[1]):
        now = x[:, t].expand(*z.shape[:-1], 3)
        loc, scale = q.layer(torch.cat([now, z], -1)).chunk(2, -1)
        scale = F.softplus(scale) + 0.1
        drawn = loc + scale * torch.empty(loc.shape).normal_()
        posterior, prior = TorchNormal(loc, scale), TorchNormal(F.linear(z, *move), 0.7)
        total = total + TorchNormal(decoder.layer(drawn), 0.5).log_prob(now).sum(-1)
        total = total - (kl_divergence(posterior, prior) if kl else posterior.log_prob(drawn) - prior.log_prob(drawn)).sum(-1)
        z = drawn
    return total.mean(0) if count > 1 else total


def gradients(value, modules):
    return torch.autograd.grad(value.sum(), [p for m in modules for p in m.parameters()], retain_graph=True)


@pytest.mark.parametrize("kl", ["sample", "analytic"])
@pytest.mark.parametrize("count", [1, 3])
def test_a_loop_by_hand(count, kl):
    q, decoder, transition = state_space()
    loss = IterativeLoss(ELBO(decoder * transition, q, num_samples=count, kl=kl), series_var=["x"], update_value=HAND_ON)
    values = series()
    with seeded(1):
        ours = loss.estimate(values)
    with seeded(1):
        theirs = by_hand(q, decoder, transition, values, count, kl == "analytic")
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    modules = (q, decoder, transition)
    for a, b in zip(gradients(ours, modules), gradients(theirs, modules)):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


def test_what_does_not_depend_on_the_recurrence_runs_once():
    q, decoder, transition = state_space()
    loss = IterativeLoss(ELBO(decoder * transition, q, num_samples=5), series_var=["x"], update_value=HAND_ON)
    values = series(steps=6)
    before = {k: v.clone() for k, v in values.items()}
    loss.estimate(values)
    assert (q.calls, decoder.calls) == (6, 1)
    assert values.keys() == before.keys()
    assert all(torch.equal(values[k], before[k]) for k in before)


def test_dropout_is_the_same_for_the_draw_and_for_its_density():
    """Another mask for log q would make it some hundred nats lower."""
    q, *_ = state_space(dropout=0.5)
    with torch.no_grad():
        q.layer.weight.mul_(100)
        loss = IterativeLoss(LogProb(q).expectation(q), series_var=["x"], update_value=HAND_ON)
        assert loss.estimate(series()).min() > -100


class Memory(Deterministic):
    """h(h|z,h_prev), a recurrent network."""

    def __init__(self):
        super().__init__(var=["h"], cond_var=["z", "h_prev"], name="h")
        self.cell = nn.GRUCell(2, 3)

    def forward(self, z, h_prev):
        return {"h": self.cell(z, h_prev)}


@pytest.mark.parametrize("written", ["as a bound", "term by term"])
def test_a_recurrent_network_beside_what_is_drawn(written):
    torch.manual_seed(0)
    h, layer = Memory(), nn.Linear(6, 2)
    q = Normal("q(z|x,h_prev)", loc=Computed(lambda x, h_prev: layer(torch.cat([x, h_prev], -1)), layer), scale=0.3)
    p = Normal("p(x|z,h_prev)", loc=lambda z, h_prev: torch.cat([z, h_prev[:, :1]], -1), scale=0.4)
    prior = Normal("p(z|h_prev)", loc=lambda h_prev: h_prev[:, :2], scale=1.0)
    steps = {"as a bound": ELBO(p * prior, q * h, kl="analytic"), "term by term": LogProb(p).expectation(q * h) - KullbackLeibler(q, prior)}
    loss = IterativeLoss(steps[written], series_var="x", update_value={"h": "h_prev"})
    values = {"x": torch.randn(4, 5, 3), "h_prev": torch.zeros(4, 3)}
    with seeded(2):
        ours = loss.estimate(values)
    with seeded(2):
        state, theirs = values["h_prev"], 0.0
        for t in range(5):
            x = values["x"][:, t]
            posterior = TorchNormal(layer(torch.cat([x, state], -1)), torch.tensor(0.3))
            z = posterior.loc + 0.3 * torch.empty(4, 2).normal_()
            theirs = theirs + TorchNormal(torch.cat([z, state[:, :1]], -1), 0.4).log_prob(x).sum(-1)
            theirs = theirs - kl_divergence(posterior, TorchNormal(state[:, :2], torch.ones(4, 2))).sum(-1)
            state = h.cell(z, state)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("written", ["log q", "KL"])
def test_what_is_drawn_after_a_recurrent_network_runs_once_for_a_step(written):
    """q(z|h,x)f(h|z_prev,h_prev): f before q, so the density of z needs h; with dropout, a second run would have another mask."""
    torch.manual_seed(0)
    f = Deterministic("f(h|z_prev,h_prev)", lambda z_prev, h_prev: {"h": torch.tanh(z_prev + h_prev)})
    layer, drop, calls = nn.Linear(5, 2), nn.Dropout(0.5), []

    def encode(h, x):
        calls.append(len(x))
        return 100 * layer(drop(torch.cat([h, x], -1)))

    q = Normal("q(z|h,x)", loc=Computed(encode, layer), scale=0.1)
    p = Normal("p(x|z)", loc=nn.Linear(2, 3), scale=1.0) * Normal("p(z|h)", loc="h", scale=1.0)
    steps = {"log q": LogProb(q * f).expectation(q * f), "KL": ELBO(p, q * f, kl="analytic")}
    loss = IterativeLoss(steps[written], series_var="x", update_value={"z": "z_prev", "h": "h_prev"})
    start = torch.ones(4, 2)
    value = loss.estimate({"x": torch.randn(4, 5, 3), "z_prev": start, "h_prev": start})
    assert calls == [4] * 5
    assert written == "KL" or value.min() > -100


def test_sequences_of_different_lengths():
    """A batch with a mask is the sum over single sequences, whatever stands after their ends."""
    q, decoder, transition = state_space()
    step = ELBO(decoder * transition, q, kl="analytic")
    whole = IterativeLoss(step, series_var=["x"], update_value=HAND_ON)
    masked = IterativeLoss(step, series_var=["x"], update_value=HAND_ON, mask="m")
    lengths = torch.tensor([3, 6, 1])
    values = series(batch=3)
    mask = (torch.arange(6) < lengths.unsqueeze(-1)).double()
    x = values["x"].masked_fill(mask.unsqueeze(-1) == 0, torch.nan)
    noise = torch.randn(3, 6, 2)

    def drawn_from(noise, monkeypatch):
        each = iter(noise.unbind(1))
        monkeypatch.setattr(Normal, "rsample", staticmethod(lambda params, shape: params["loc"] + params["scale"] * next(each)))

    with pytest.MonkeyPatch.context() as patch:
        drawn_from(noise, patch)
        ours = masked.estimate({"x": x, "z_prev": values["z_prev"], "m": mask})
    alone = []
    for i, n in enumerate(lengths):
        with pytest.MonkeyPatch.context() as patch:
            drawn_from(noise[i : i + 1], patch)
            alone.append(whole.estimate({"x": x[i : i + 1, :n], "z_prev": values["z_prev"][i : i + 1]}))
    torch.testing.assert_close(ours, torch.cat(alone), rtol=1e-12, atol=1e-12)
    ours = masked.estimate({"x": x, "z_prev": values["z_prev"], "m": mask.bool()})
    assert all(g.isfinite().all() for g in gradients(ours, (q, decoder, transition)))


def chain(states=2, seed=0):
    """q(z|z_prev,x), whose values are one-hot, and a cost of a step."""
    torch.manual_seed(seed)
    layer = nn.Linear(states + 1, states)
    q = Categorical("q(z|z_prev,x)", logits=Computed(lambda z_prev, x: 2 * layer(torch.cat([z_prev, x], -1)), layer))
    weights = torch.randn(states, states)

    def cost(x, z, z_prev):
        return (x[:, 0] + (z @ weights * z_prev).sum(-1)).sin() + z[:, 0]

    return layer, q, Loss.from_function(cost, "c", var=["x", "z", "z_prev"])


def over_all_paths(layer, cost, x, first, function=lambda total: total):
    """E over every path of a function of the sum of costs, `(batch,)`."""
    states = first.shape[-1]
    one_hot = torch.eye(states)
    total = 0.0
    for path in itertools.product(range(states), repeat=x.shape[1]):
        before, log_q, costs = first, 0.0, 0.0
        for t, k in enumerate(path):
            now = one_hot[k].expand_as(first)
            log_q = log_q + (2 * layer(torch.cat([before, x[:, t]], -1))).log_softmax(-1)[:, k]
            costs = costs + cost.function(x=x[:, t], z=now, z_prev=before)
            before = now
        total = total + log_q.exp() * function(costs)
    return total


@pytest.mark.parametrize("steps", [1, 2, 5])
@pytest.mark.parametrize("states", [2, 3])
def test_a_finite_chain_is_summed_exactly(states, steps):
    layer, q, cost = chain(states)
    values = {"x": torch.randn(4, steps, 1), "z_prev": torch.zeros(4, states)}
    truth = over_all_paths(layer, cost, values["x"], values["z_prev"])
    for estimator in ("auto", "enumerate"):
        ours = IterativeLoss(cost.expectation(q, estimator=estimator), series_var=["x"], update_value=HAND_ON).estimate(values)
        torch.testing.assert_close(ours, truth, rtol=1e-12, atol=1e-12)
        for a, b in zip(gradients(ours, (layer,)), gradients(truth, (layer,))):
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_a_chain_with_a_mask_is_the_sum_over_single_sequences():
    layer, q, cost = chain(3)
    x, first, lengths = torch.randn(3, 4, 1), torch.zeros(3, 3), (4, 2, 1)
    mask = torch.arange(4) < torch.tensor(lengths).unsqueeze(-1)
    loss = IterativeLoss(cost.expectation(q), series_var=["x"], update_value=HAND_ON, mask="m")
    truth = torch.cat([over_all_paths(layer, cost, x[i : i + 1, :n], first[:1]) for i, n in enumerate(lengths)])
    torch.testing.assert_close(loss.estimate({"x": x, "z_prev": first, "m": mask}), truth, rtol=1e-12, atol=1e-12)


def test_a_chain_of_two_variables_of_which_one_is_handed_on():
    """q(z|y,z_prev)q(y|z_prev,x): y is summed out at every step; its cost is exact under an enumerated z."""
    torch.manual_seed(0)
    a, b = nn.Linear(3, 2), nn.Linear(4, 2)
    y = Categorical("q(y|z_prev,x)", logits=Computed(lambda z_prev, x: a(torch.cat([z_prev, x], -1)), a))
    z = Categorical("q(z|y,z_prev)", logits=Computed(lambda y, z_prev: b(torch.cat([y, z_prev], -1)), b))
    cost = Loss.from_function(
        lambda x, y, z, z_prev: (x[:, 0] * y[:, 0] + z[:, 1] * z_prev[:, 0]).exp(), "c", var=["x", "y", "z", "z_prev"]
    )
    x, first = torch.randn(3, 3, 1), torch.zeros(3, 2)
    ours = IterativeLoss(cost.expectation(z * y), series_var=["x"], update_value=HAND_ON).estimate({"x": x, "z_prev": first})
    one_hot, truth = torch.eye(2), 0.0
    for path in itertools.product(range(2), repeat=6):
        before, log_q, costs = first, 0.0, 0.0
        for t in range(3):
            i, j = path[2 * t : 2 * t + 2]
            u, v = one_hot[i].expand(3, -1), one_hot[j].expand(3, -1)
            log_q = log_q + a(torch.cat([before, x[:, t]], -1)).log_softmax(-1)[:, i] + b(torch.cat([u, before], -1)).log_softmax(-1)[:, j]
            costs = costs + cost.function(x=x[:, t], y=u, z=v, z_prev=before)
            before = v
        truth = truth + log_q.exp() * costs
    torch.testing.assert_close(ours, truth, rtol=1e-12, atol=1e-12)


def test_what_no_later_step_needs_is_drawn_for_all_steps_at_once():
    """w under an enumerated chain has a closed form, and z's chain is exact; local draws are per state of z."""
    layer, q, _ = chain(2)
    local = Normal("q(w|z)", loc=lambda z: z, scale=0.5)
    cost = Loss.from_function(lambda w, z_prev: w.square().sum(-1) * (1 + z_prev[:, 0]), "c", var=["w", "z_prev"])
    exact = Loss.from_function(
        lambda x, z, z_prev: (z.square().sum(-1) + 0.5) * (1 + z_prev[:, 0]) + 0 * x[:, 0], "c", var=["x", "z", "z_prev"]
    )
    values = {"x": torch.randn(1, 3, 1).expand(50_000, 3, 1), "z_prev": torch.zeros(50_000, 2)}
    drawn = IterativeLoss(cost.expectation(local * q), series_var=["x"], update_value=HAND_ON)
    truth = over_all_paths(layer, exact, values["x"][:1], values["z_prev"][:1])
    ours = drawn.estimate(values)
    assert abs(ours.mean() - truth) < 4 * ours.std() / len(ours) ** 0.5


def z_score_of_gradient(loss, values, layer, truth, rounds=40):
    found = torch.stack([torch.autograd.grad(loss.mean().estimate(values), layer.weight)[0] for _ in range(rounds)])
    mean, error = found.mean(0), found.std(0) / rounds**0.5
    return ((mean - truth) / error).abs().max().item()


def many(count=4_000, steps=2, states=2):
    return {"x": torch.full((count, steps, 1), 0.3), "z_prev": torch.zeros(count, states)}


@pytest.mark.parametrize("count", [1, 2])
def test_scores_reach_all_later_costs(count):
    """The chain of Bernoulli variables of the classic mistake: a score of step t for the cost of step t alone is biased."""
    layer, q, cost = chain(2)
    values = many()
    truth = torch.autograd.grad(over_all_paths(layer, cost, values["x"][:1], values["z_prev"][:1]).sum(), layer.weight)[0]
    loss = IterativeLoss(cost.expectation(q, estimator="score", num_samples=count), series_var=["x"], update_value=HAND_ON)
    assert z_score_of_gradient(loss, values, layer, truth) < 4
    ours = loss.estimate(values)
    exact = over_all_paths(layer, cost, values["x"][:1], values["z_prev"][:1]).detach()
    assert abs(ours.mean() - exact) < 4 * ours.std() / len(ours) ** 0.5


def test_scores_multiply_an_aggregate_over_whole_sequences():
    """E[log 1/2 Σ_k exp Σ_t c_t] over both sequences' paths, enumerated."""
    layer, q, cost = chain(2)
    values = many()
    x, first = values["x"][:1], values["z_prev"][:1]

    def of_first(one):
        return over_all_paths(layer, cost, x, first, lambda other: torch.logaddexp(one, other) - math.log(2))

    truth_value = over_all_paths(layer, cost, x, first, of_first)
    truth = torch.autograd.grad(truth_value.sum(), layer.weight)[0]
    truth_value = truth_value.detach()
    step = cost.expectation(q, estimator="score", num_samples=2, aggregate="log_mean_exp")
    loss = IterativeLoss(step, series_var=["x"], update_value=HAND_ON)
    assert str(loss) == "E_q(z|z_prev,x)^2[log mean(exp(Σ_{t=0}^{T-1} c(x,z,z_prev)))]"
    assert z_score_of_gradient(loss, values, layer, truth) < 4
    ours = loss.estimate(values)
    assert abs(ours.mean() - truth_value) < 4 * ours.std() / len(ours) ** 0.5


def test_the_importance_weighted_bound_of_a_sequence():
    q, decoder, transition = state_space()
    loss = IterativeLoss(IWAE(decoder * transition, q, num_samples=3), series_var=["x"], update_value=HAND_ON)
    values = series()
    with seeded(5):
        ours = loss.estimate(values)
    with seeded(5):
        x, z, total = values["x"], values["z_prev"].expand(3, -1, -1), 0.0
        for t in range(6):
            now = x[:, t].expand(3, -1, -1)
            scope = {"x": now, "z_prev": z}
            loc, scale = q.layer(torch.cat([now, z], -1)).chunk(2, -1)
            drawn = loc + (F.softplus(scale) + 0.1) * torch.empty(loc.shape).normal_()
            ones = {"x": 1, "z": 1, "z_prev": 1}
            joint = (decoder * transition).log_prob() - q.log_prob()
            total = total + joint.estimate({**scope, "z": drawn}, sample_dims=ones)
            z = drawn
    torch.testing.assert_close(ours, total.logsumexp(0) - math.log(3), rtol=1e-12, atol=1e-12)


def test_too_many_states_are_scored():
    layer, q, cost = chain(20)
    values = {"x": torch.randn(2, 3, 1), "z_prev": torch.zeros(2, 20)}
    auto = IterativeLoss(cost.expectation(q, num_samples=2), series_var=["x"], update_value=HAND_ON)
    value = auto.estimate(values)
    assert any(g.abs().sum() > 0 for g in gradients(value, (layer,)))
    asked = IterativeLoss(cost.expectation(q, estimator="enumerate"), series_var=["x"], update_value=HAND_ON)
    with pytest.raises(IntractableError, match="takes 400 pairs of values at each step, more than 256"):
        asked.estimate(values)


def test_a_series_that_is_handed_on():
    """Σ_t log p(x_t|x_{t-1}): an autoregressive model, without a loop."""
    p = Normal("p(x|x_prev)", loc=lambda x_prev: 0.9 * x_prev, scale=0.3)
    loss = IterativeLoss(p.log_prob(), series_var=["x"], update_value={"x": "x_prev"})
    x, first = torch.randn(4, 7, 2), torch.randn(4, 2)
    before = torch.cat([first.unsqueeze(1), x[:, :-1]], 1)
    truth = TorchNormal(0.9 * before, 0.3).log_prob(x).sum((1, 2))
    torch.testing.assert_close(loss.estimate({"x": x, "x_prev": first}), truth)
    assert str(loss) == "Σ_{t=0}^{T-1} log p(x|x_prev)"


def test_the_number_of_the_step():
    cost = Loss.from_function(lambda x, t: x[:, 0] * t, "c", var=["x", "t"])
    x = torch.randn(3, 5, 1)
    loss = IterativeLoss(cost, series_var="x", timestep_var="t")
    torch.testing.assert_close(loss.estimate({"x": x}), (x[..., 0] * torch.arange(5)).sum(1))
    torch.testing.assert_close(IterativeLoss(cost, series_var="x", timestep_var="t", max_iter=2).estimate({"x": x}), x[:, 1, 0])
    with pytest.raises(ShapeError, match="x has 5 steps; a series of 6 steps is"):
        IterativeLoss(cost, series_var="x", timestep_var="t", max_iter=6).estimate({"x": x})


def test_the_number_of_the_step_is_a_parameter():
    """Σ_t γ^t c(x_t), and a sum of the numbers alone."""
    cost = Loss.from_function(lambda x: x[:, 0], "c", var=["x"])
    x = torch.randn(3, 5, 1)
    discounted = IterativeLoss(Parameter("g") ** Parameter("t") * cost, series_var="x", timestep_var="t")
    torch.testing.assert_close(discounted.estimate({"x": x, "g": 0.9}), (x[..., 0] * 0.9 ** torch.arange(5)).sum(1))
    weighted = IterativeLoss(Parameter("t") * cost, series_var="x", timestep_var="t")
    torch.testing.assert_close(weighted.estimate({"x": x}), (x[..., 0] * torch.arange(5)).sum(1))
    assert IterativeLoss(Parameter("t"), max_iter=3, timestep_var="t").estimate() == 3
    with pytest.raises(KindError, match=r"timestep_var must be the name of one variable; got \['t'\]"):
        IterativeLoss(Parameter("t"), max_iter=3, timestep_var=["t"])
    with pytest.raises(ShapeError, match=r"The parameter g is one number, \(\); its value has shape \(3,\)"):
        discounted.estimate({"x": x, "g": torch.ones(3)})


def test_a_step_without_series():
    walk = Normal("p(z|z_prev)", loc="z_prev", scale=1.0)
    cost = Loss.from_function(lambda z: z.square().sum(-1), "c", var=["z"])
    loss = IterativeLoss(cost.expectation(walk, num_samples=500), update_value=HAND_ON, max_iter=4)
    assert str(loss) == "Σ_{t=0}^{3} E_p(z|z_prev)[c(z)]"
    ours = loss.estimate({"z_prev": torch.zeros(200, 1)})
    assert abs(ours.mean() - 10.0) < 4 * ours.std() / 200**0.5


class Window(Deterministic):
    """The step and the one after it."""

    def __init__(self):
        super().__init__(var=["a", "b"], cond_var=["x", "t"], name="slice")

    def forward(self, x, t):
        rows = torch.arange(len(x))
        return {"a": x[rows, t], "b": x[rows, t + 1]}


def test_slices_of_the_users_own():
    cost = Loss.from_function(lambda a, b: (a * b).sum(-1), "c", var=["a", "b"])
    x = torch.randn(3, 5, 2)
    loss = IterativeLoss(cost, series_var=["x"], slice_step=Window(), timestep_var="t", max_iter=4)
    torch.testing.assert_close(loss.estimate({"x": x}), (x[:, :-1] * x[:, 1:]).sum((1, 2)))


def test_within_other_expectations():
    """A start that is drawn, and a backward network that computes a series from the whole."""
    q, decoder, transition = state_space()
    start = Normal("q(z_prev)", loc=torch.zeros(2), scale=1.0)
    smooth = Deterministic("r(x|y)", lambda y: {"x": y.flip(1).cumsum(1).flip(1)})
    loss = IterativeLoss(ELBO(decoder * transition, q, num_samples=2), series_var=["x"], update_value=HAND_ON)
    nested = loss.expectation(start, num_samples=3).expectation(smooth)
    y = torch.randn(4, 6, 3)
    with seeded(3):
        ours = nested.estimate({"y": y})
    with seeded(3):
        first = start.rsample({"loc": torch.zeros(2), "scale": torch.tensor(1.0)}, (3, 4, 2))
        x = y.flip(1).cumsum(1).flip(1)
        theirs = by_hand(q, decoder, transition, {"x": x.expand(3, 4, 6, 3).flatten(0, 1), "z_prev": first.flatten(0, 1)}, 2, False)
    assert ours.shape == theirs.unflatten(0, (3, 4)).mean(0).shape == (4,)
    # The same number of draws in another order: only in distribution.
    assert (ours - theirs.unflatten(0, (3, 4)).mean(0)).abs().max() < 40


def test_terms_without_a_step():
    """What is the same at every step counts once for each."""
    q, decoder, transition = state_space()
    weights = Normal("p(w)", loc=0.0, scale=1.0, dim=1).log_prob()
    step = ELBO(decoder * transition, q) - 2.0 * weights + 1.0
    loss = IterativeLoss(step, series_var=["x"], update_value=HAND_ON)
    plain = IterativeLoss(ELBO(decoder * transition, q), series_var=["x"], update_value=HAND_ON)
    values, w = series(), torch.randn(4, 1)
    with seeded(1):
        ours = loss.estimate({**values, "w": w})
    with seeded(1):
        theirs = plain.estimate(values)
    torch.testing.assert_close(ours, theirs + 6 * (1 - 2 * weights.estimate({"w": w})))
