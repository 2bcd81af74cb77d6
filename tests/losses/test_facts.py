"""What a loss says of itself follows from its parts: what it registers, whether it draws, whether it is biased."""

import copy
import pickle

import pytest
import torch
from torch import nn

from pixyz.core import Loss, Term
from pixyz.distributions import Bernoulli, Deterministic, Normal
from pixyz.losses import (
    ELBO,
    IWAE,
    ChiSquared,
    CrossEntropy,
    Entropy,
    Expectation,
    IterativeLoss,
    JensenShannon,
    KullbackLeibler,
    MovingAverage,
    Parameter,
    Renyi,
    ReweightedWakeSleep,
    Score,
)


class Doubled(Loss):
    """A loss of a user's, with what the docstring of `Loss` asks for and nothing else."""

    def __init__(self, loss):
        super().__init__([loss])
        self.inner = loss

    @property
    def formula(self):
        return (2 * self.inner).formula

    def evaluate(self, scope):
        tensor, dims = scope.evaluate(self.inner)
        return Term(2 * tensor, dims)


class Kept(Doubled):
    """It says nothing of its part to the constructor."""

    def __init__(self, loss):
        Loss.__init__(self, input_var=loss.input_var)
        self.inner = loss


class KeptAndNothingSaid(Doubled):
    """It calls the constructor as those of other modules are called."""

    def __init__(self, loss):
        Loss.__init__(self)
        self.inner = loss


class KeptInATuple(Doubled):
    def __init__(self, loss):
        Loss.__init__(self, input_var=loss.input_var)
        self.both = {"losses": [(loss,)]}

    @property
    def inner(self):
        return self.both["losses"][0][0]


class KeptFromTheStart(Doubled):
    """It keeps its part before the constructor runs."""

    def __init__(self, loss):
        self.both = (loss,)
        Loss.__init__(self)

    @property
    def inner(self):
        return self.both[0]


class Scaled(Doubled):
    """With a parameter, a buffer and a network of its own."""

    def __init__(self, loss):
        super().__init__(loss)
        self.weight = nn.Parameter(torch.ones(()))
        self.register_buffer("offset", torch.zeros(()))
        self.net = nn.Linear(1, 1)

    def evaluate(self, scope):
        tensor, dims = scope.evaluate(self.inner)
        return Term(self.weight * self.net(tensor.unsqueeze(-1)).squeeze(-1) + self.offset, dims)


WRITTEN = [Doubled, Kept, KeptInATuple, KeptFromTheStart]


def mean_of_z():
    p = Normal("p(z)", loc=nn.Parameter(torch.zeros(1)), scale=1.0)
    return Loss.from_function(lambda z: z.squeeze(-1), "f", var=["z"]).expectation(p)


@pytest.mark.parametrize("written", WRITTEN)
def test_a_users_loss_is_as_random_as_its_part(written):
    """(E z)² = 0, of 40,000 pairs of draws; E[z²] = 1, were the factors drawn together."""
    w = written(mean_of_z())
    assert w.stochastic
    assert (w * w / 4).estimate(batch_size=40_000).mean().abs() < 0.03
    assert [name for name, _ in w.mean().named_parameters()] == ["p(z).loc"]


FACTS = ["stochastic", "is_biased", "mixes_batch", "compares_sets"]


@pytest.mark.parametrize("written", WRITTEN)
@pytest.mark.parametrize("fact", FACTS)
def test_a_fact_of_a_part_is_one_of_the_whole(fact, written):
    part = Parameter("a")
    assert not getattr(written(part), fact)
    part.__dict__[fact] = True
    whole = written(part)
    assert getattr(whole, fact)
    for loss in (2 * whole, whole + 1.0, abs(whole), whole / 2, whole.constant_var({"a": 1.0})):
        assert getattr(loss, fact), loss


@pytest.mark.parametrize("written", [Doubled, KeptAndNothingSaid])
def test_the_names_of_a_whole_are_those_of_its_parts(written):
    q = Normal("q(z|x)", loc="x", scale=1.0)
    part = Expectation(q, Normal("p(y|z)", loc="z", scale=1.0).log_prob() + Parameter("b"))
    whole = written(part)
    assert (whole.input_var, whole.bound_var, whole.optional_var) == (part.input_var, part.bound_var, part.optional_var)
    assert whole.per_datum
    assert whole.depth == part.depth + 1
    assert not written(part.mean()).per_datum


def test_what_a_loss_has_itself_is_registered_wherever_it_stands():
    w = Scaled(mean_of_z())
    own = ["Scaled.weight", "Scaled.net.weight", "Scaled.net.bias"]
    for whole in (w.mean(), (w + w / 3).sum(), (nn.Parameter(torch.ones(())) + w * w).exp()):
        assert [n for n, _ in whole.named_parameters() if n.startswith("Scaled")] == own
        assert "Scaled.offset" in whole.state_dict()
        assert len({*whole.parameters()} & {*w.parameters()}) == 4
    assert next(n for n, _ in w.named_parameters()) == "weight"


def test_two_losses_of_one_class_are_numbered():
    a, b = Scaled(mean_of_z()), Scaled(Parameter("a"))
    names = [n for n, _ in (a + b - 2 * a).mean().named_parameters()]
    assert [n for n in names if n.endswith("weight") and "net" not in n] == ["Scaled.weight", "Scaled_1.weight"]


def changed_by_loading(whole, w):
    whole.load_state_dict({k: v + 1 for k, v in whole.state_dict().items()}, assign=True)


def changed_by_a_call(whole, w):
    whole.double()


def changed_by_another_network(whole, w):
    w.net = nn.Linear(1, 1, bias=False)


def changed_by_another_parameter(whole, w):
    w.weight = nn.Parameter(torch.tensor(3.0))


@pytest.mark.parametrize(
    "copied", [lambda x: x, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["same", "deepcopy", "pickle"]
)
@pytest.mark.parametrize(
    "change", [changed_by_loading, changed_by_a_call, changed_by_another_network, changed_by_another_parameter], ids=lambda c: c.__name__
)
def test_what_a_loss_has_itself_stays_one_thing(change, copied):
    w = Scaled(Parameter("a"))
    whole, w = copied((w.mean(), w))
    change(whole, w)
    inside, outside = w.state_dict(keep_vars=True), whole.state_dict(keep_vars=True)
    assert {f"Scaled.{name}": id(t) for name, t in inside.items()} == {name: id(t) for name, t in outside.items()}


NET = nn.Linear(2, 1)


def chain():
    q = Bernoulli("q(w|z)", logits=nn.Linear(3, 2)) * Bernoulli("q(z|x)", logits=nn.Linear(2, 3))
    p = Bernoulli("p(w|z)", logits=nn.Linear(3, 2)) * Bernoulli("p(z)", logits=torch.zeros(3))
    return q, p


def latent():
    return Bernoulli("q(z|x)", logits=nn.Linear(2, 3)), Bernoulli("p(z)", logits=torch.zeros(3))


def model():
    return Bernoulli("p(x|z)", logits=nn.Linear(3, 2)) * latent()[1]


def steps(q):
    p = Bernoulli("p(y|z)", logits=nn.Linear(3, 2)).log_prob()
    return IterativeLoss(Expectation(q, p, num_samples=2, estimator=Score(baseline=NET)), series_var=["x", "y"])


BASELINES = {
    "KL": lambda e: KullbackLeibler(*latent(), analytic=False, num_samples=2, estimator=e),
    "KL of a chain": lambda e: KullbackLeibler(*chain(), num_samples=2, estimator={"z": e}),
    "Entropy": lambda e: Entropy(latent()[0], analytic=False, num_samples=2, estimator=e),
    "CrossEntropy": lambda e: CrossEntropy(*latent(), num_samples=2, estimator=e),
    "JensenShannon": lambda e: JensenShannon(latent()[0], Bernoulli("p(z|x)", logits=nn.Linear(2, 3)), num_samples=2, estimator=e),
    "ELBO": lambda e: ELBO(model(), latent()[0], num_samples=2, estimator=e),
    "ELBO in two terms": lambda e: ELBO(model(), latent()[0], beta=2.0, num_samples=2, estimator=e),
    "IWAE": lambda e: IWAE(model(), latent()[0], num_samples=2, estimator=e),
    "a power": lambda e: KullbackLeibler(*latent(), analytic=False, num_samples=2, estimator=e) ** 2,
    "steps": lambda e: steps(latent()[0]),
}


@pytest.mark.parametrize("of", BASELINES)
def test_a_baseline_is_registered_wherever_it_runs(of):
    loss = BASELINES[of](Score(baseline=NET)).mean()
    assert {*NET.parameters()} <= {*loss.parameters()}
    assert any("baseline[" in name for name in loss.state_dict())


def test_the_baseline_of_a_divergence_moves_with_it():
    net = nn.Linear(2, 1)
    loss = KullbackLeibler(*latent(), analytic=False, num_samples=2, estimator=Score(baseline=net)).mean().double()
    loss.estimate({"x": torch.randn(5, 2, dtype=torch.float64)}).backward()
    assert net.weight.dtype == torch.float64
    assert net.weight.grad.abs().sum() > 0


def test_the_moving_average_of_a_divergence_is_saved():
    loss = KullbackLeibler(*latent(), analytic=False, num_samples=2, estimator=Score(baseline=MovingAverage())).mean()
    loss.estimate({"x": torch.randn(5, 2)})
    saved = loss.state_dict()
    assert saved["baseline[q(z|x)].weight"] > 0


ESTIMATED = {
    "Expectation": lambda q, p, e: Expectation(q, p.log_prob(), estimator=e),
    "KL": lambda q, p, e: KullbackLeibler(q, p, analytic=False, estimator=e),
    "KL of a chain": lambda q, p, e: KullbackLeibler(*chain(), estimator={"z": e}),
    "Entropy": lambda q, p, e: Entropy(q, analytic=False, estimator=e),
    "CrossEntropy": lambda q, p, e: CrossEntropy(q, p, estimator=e),
    "ELBO": lambda q, p, e: ELBO(model(), q, estimator=e),
    "ELBO in two terms": lambda q, p, e: ELBO(model(), q, beta=0.5, estimator=e),
    "IWAE": lambda q, p, e: IWAE(model(), q, num_samples=2, estimator=e),
    "JensenShannon": lambda q, p, e: JensenShannon(q, p, estimator={"z": e}),
    "ChiSquared": lambda q, p, e: ChiSquared(q, p, estimator=e, analytic=False),
}


@pytest.mark.parametrize("of", ESTIMATED)
@pytest.mark.parametrize(("estimator", "biased"), [("relaxed", True), ("straight_through", True), ("score", False), ("enumerate", False)])
def test_a_biased_estimator_makes_a_loss_biased(of, estimator, biased):
    loss = ESTIMATED[of](*latent(), estimator)
    assert loss.is_biased is biased
    assert (-loss.mean() * 2.0 + 1.0).is_biased is biased


def test_closed_forms_draw_nothing():
    q, p = Normal("q(z)", loc=0.0, scale=1.0), Normal("p(z)", loc=1.0, scale=1.0)
    for loss in (KullbackLeibler(q, p), Entropy(q), Renyi(q, p, 2)):
        assert not loss.stochastic
        assert not loss.is_biased
        assert not (loss.exp() / loss).is_biased


def test_what_is_only_computed_is_no_draw():
    d = Deterministic("d(z|x)", z=nn.Linear(2, 1))
    f = Normal("p(z)", loc=0.0, scale=1.0).log_prob()
    assert not Expectation(d, f).stochastic
    below = d * Normal("r(x)", loc=0.0, scale=1.0, dim=2)
    assert Expectation(below, f).stochastic
    assert Expectation(below.marginalize_var("x"), f).stochastic


def test_other_means_of_an_estimate_are_biased():
    q = Normal("q(z)", loc=0.0, scale=1.0)
    f = Normal("p(z)", loc=1.0, scale=1.0).log_prob()
    inner = Expectation(Normal("r(w)", loc=0.0, scale=1.0), Normal("p(z|w)", loc="w", scale=1.0).log_prob())
    assert not Expectation(q, f, num_samples=2, aggregate="log_mean_exp").is_biased
    assert Expectation(q, inner, num_samples=2, aggregate="log_mean_exp").is_biased
    assert not Expectation(q, inner, num_samples=2).is_biased
    assert ReweightedWakeSleep(model(), latent()[0], num_samples=2).is_biased


OPTIONS = {
    "both sampled": {"kl": "sample", "beta": 4.0},
    "free bits": {"kl": "sample", "free_bits": 0.1},
    "partly analytic": {"kl": "auto", "beta": 4.0},
}


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("estimator", ["score", {"z": "score"}, {"z": "score", "w": "score"}], ids=str)
def test_one_estimator_and_one_draw_for_both_terms_of_a_bound(options, estimator):
    q, p = (Normal(f"{s}(w|z)", loc=nn.Linear(2, 2), scale=1.0) * Normal(f"{s}(z{c})", loc=at, scale=1.0) for s, c, at in
            (("q", "|x", nn.Linear(2, 2)), ("p", "", torch.zeros(2))))  # fmt: skip
    calls = []
    q.factors[0].dist.register_forward_hook(lambda *_: calls.append(1))
    loss = ELBO(Normal("p(x|w)", loc=nn.Linear(2, 2), scale=1.0) * p, q, num_samples=3, estimator=estimator, **OPTIONS[options])
    shown = [t.how for _, t in loss.explain({"x": torch.randn(4, 2)}).rows() if "drawn" in t.how]
    assert len(shown) == 2
    assert len(set(shown)) == 1
    assert "3 times, score" in shown[0]
    assert calls == [1]


def test_an_estimator_of_what_nobody_draws_is_rejected():
    for make in (
        lambda: ELBO(model(), latent()[0], beta=2.0, estimator={"h": "score"}),
        lambda: JensenShannon(*latent(), estimator={"h": "score"}),
        lambda: KullbackLeibler(*chain(), estimator={"h": "score"}),
    ):
        with pytest.raises(Exception, match=r"has no variable h to choose an estimator for; it draws"):
            make()


def test_each_side_of_a_divergence_takes_the_estimators_of_its_own_variables():
    """The two sides hide different variables."""
    left = (Normal("p(z|a)", loc="a", scale=1.0) * Bernoulli("p(a)", probs=torch.tensor([0.5]))).marginalize_var("a")
    right = (Normal("q(z|b)", loc="b", scale=1.0) * Bernoulli("q(b)", probs=torch.tensor([0.2]))).marginalize_var("b")
    loss = JensenShannon(left, right, num_samples=5, estimator={"a": "enumerate", "b": "score", "z": "pathwise"})
    assert loss.estimate(batch_size=2).shape == (2,)
