"""Every public loss obeys the laws of a loss of `pixyz.core.testing`; and the laws fail where one is broken."""

import ast
import inspect
import re

import pytest
import torch
from torch import nn

import pixyz.losses
from pixyz.core import Estimator, Loss, Term, log_sigmoid
from pixyz.core.testing import check_loss, check_unbiased
from pixyz.distributions import Bernoulli, Deterministic, Normal, VectorQuantizer
from pixyz.losses import (
    ELBO,
    IWAE,
    MMD,
    NLL,
    ChiSquared,
    Commitment,
    CrossEntropy,
    DReG,
    EnergyDistance,
    Entropy,
    Expectation,
    InfoNCE,
    IterativeLoss,
    JensenShannon,
    KullbackLeibler,
    LogProb,
    LogRatio,
    Parameter,
    Prob,
    Renyi,
    RenyiBound,
    ReweightedWakeSleep,
    Score,
    Sinkhorn,
    SquaredHellinger,
    StickingTheLanding,
    StoppedLogProb,
    TotalCorrelation,
    TotalVariation,
    Wasserstein,
    log_mean_exp,
    logsumexp,
    maximum,
    minimum,
)

X = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
SERIES = torch.randn(4, 5, 3, generator=torch.Generator().manual_seed(2))


def q():
    return Normal("q(z|x)", loc=nn.Linear(3, 2), scale=0.8)


def of_z(name="p"):
    return Normal(f"{name}(z)", loc=nn.Parameter(torch.zeros(2)), scale=1.0)


def joint():
    return Normal("p(x|z)", loc=nn.Linear(2, 3), scale=0.5) * of_z()


def bits():
    return Bernoulli("q(b|x)", logits=nn.Linear(3, 2)), Bernoulli("p(b)", logits=nn.Parameter(torch.zeros(2)))


def pair():
    return Normal("p(z|x)", loc=nn.Linear(3, 2), scale=1.5), q()


def steps():
    inference = Normal("q(z|x,z_prev)", loc=Mixed(), scale=0.8)
    model = Normal("p(x|z)", loc=nn.Linear(2, 3), scale=0.5) * Normal("p(z|z_prev)", loc=nn.Linear(2, 2), scale=1.0)
    return IterativeLoss(ELBO(model, inference), series_var="x", update_value={"z": "z_prev"})


class Mixed(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Linear(5, 2)

    def forward(self, x, z_prev):
        return self.net(torch.cat([x, z_prev], -1))


def codes():
    return VectorQuantizer("q(z|x)", z=nn.Linear(3, 2), num_codes=3, dim=2)


def number(name):
    return Normal(f"{name}(y)", loc=nn.Parameter(torch.zeros(1)), scale=1.0)


class Critic(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Linear(2, 1)

    def forward(self, z):
        return self.net(z).squeeze(-1)


def square():
    return Loss.from_function(Critic(), "f", var=["z"])


def twice(make):
    """A formula in which one distribution, or one bound, stands more than once."""
    return lambda: make(NLL(q()))


def of_a_bound(make):
    return lambda: make(ELBO(joint(), q()))


CASES = {
    "ELBO": [
        lambda: ELBO(joint(), q()),
        lambda: ELBO(joint(), q(), kl="analytic", beta=nn.Parameter(torch.tensor(2.0))),
        lambda: ELBO(Normal("p(x|b)", loc=nn.Linear(2, 3), scale=1.0) * bits()[1], bits()[0], beta=2.0, estimator="score", num_samples=2),
    ],
    "IWAE": [lambda: IWAE(joint(), q(), num_samples=3)],
    "MMD": [lambda: MMD(q(), of_z())],
    "NLL": [lambda: NLL(q())],
    "ChiSquared": [lambda: ChiSquared(*pair()), lambda: ChiSquared(*pair(), analytic=False)],
    "Commitment": [lambda: Commitment(codes())],
    "CrossEntropy": [lambda: CrossEntropy(*pair())],
    "DReG": [lambda: DReG(joint(), q(), num_samples=3)],
    "EnergyDistance": [lambda: EnergyDistance(q(), of_z())],
    "Entropy": [lambda: Entropy(q()), lambda: Entropy(q(), analytic=False)],
    "Expectation": [lambda: Expectation(q(), square()), lambda: Expectation(q(), square(), aggregate="log_mean_exp", num_samples=2)],
    "InfoNCE": [lambda: InfoNCE(q()), lambda: InfoNCE(q(), Deterministic("f(t|x,z)", t=nn.Bilinear(3, 2, 1)))],
    "IterativeLoss": [steps],
    "JensenShannon": [lambda: JensenShannon(*pair())],
    "KullbackLeibler": [
        lambda: KullbackLeibler(*pair()),
        lambda: KullbackLeibler(*bits(), analytic=False, num_samples=2, estimator=Score(baseline=nn.Linear(3, 1))),
        lambda: KullbackLeibler(*bits(), analytic=False, num_samples=2, estimator="relaxed"),
    ],
    "LogProb": [lambda: LogProb(q()), lambda: LogProb(q(), mask="m"), lambda: LogProb(joint().marginalize_var("z"))],
    "LogRatio": [lambda: LogRatio(*pair())],
    "Parameter": [lambda: Parameter("a"), lambda: Parameter("a") * NLL(q())],
    "Prob": [lambda: Prob(q())],
    "Renyi": [lambda: Renyi(*pair(), 0.5), lambda: Renyi(*pair(), 0.5, analytic=False)],
    "RenyiBound": [lambda: RenyiBound(joint(), q(), 0.5, num_samples=3)],
    "ReweightedWakeSleep": [lambda: ReweightedWakeSleep(joint(), q(), num_samples=3)],
    "Sinkhorn": [lambda: pytest.importorskip("ot") and Sinkhorn(q(), of_z())],
    "SquaredHellinger": [lambda: SquaredHellinger(*pair()), lambda: SquaredHellinger(*pair(), analytic=False)],
    "StickingTheLanding": [lambda: StickingTheLanding(joint(), q())],
    "StoppedLogProb": [lambda: StoppedLogProb(q())],
    "TotalCorrelation": [lambda: TotalCorrelation(q(), 100)],
    "TotalVariation": [lambda: TotalVariation(*pair())],
    "Wasserstein": [lambda: Wasserstein(*pair(), conditional=True), lambda: Wasserstein(number("p"), number("q"), order=1)],
    "log_mean_exp": [lambda: log_mean_exp(NLL(q()), 1.0)],
    "logsumexp": [lambda: logsumexp(NLL(q()), Parameter("a"))],
    "maximum": [lambda: maximum(NLL(q()), 1.0)],
    "minimum": [lambda: minimum(NLL(q()), nn.Parameter(torch.ones(())))],
    "operators": [
        lambda: (NLL(q()) - 2.0) ** 2 / Parameter("a"),
        of_a_bound(lambda bound: bound * bound + bound**2),
        twice(lambda nll: abs(nll.exp().log().clamp(max=3.0)).mean() - nll.sum()),
        of_a_bound(lambda bound: log_sigmoid(bound.detach()) / bound),
        lambda: (Parameter("a") * NLL(q())).constant_var({"a": nn.Parameter(torch.tensor(2.0))}),
        square,
    ],
}  # fmt: skip
Z = torch.randn(4, 2, generator=torch.Generator().manual_seed(3))
VALUES = {"x": X, "z": Z, "a": torch.tensor(0.5), "z_prev": torch.zeros(4, 2), "m": torch.ones(4, 2)}
TABLE = [pytest.param(make, id=f"{name}-{i}") for name, makes in CASES.items() for i, make in enumerate(makes)]


def values_of(loss):
    found = {v: VALUES[v] for v in (*loss.input_var, *loss.optional_var) if v in VALUES}
    return {**found, "x": SERIES} if isinstance(loss, IterativeLoss) else found


def is_loss(name):
    thing = getattr(pixyz.losses, name)
    return not (inspect.isclass(thing) and (issubclass(thing, Estimator) or not issubclass(thing, Loss) or thing is Loss))


def test_the_table_has_every_public_loss():
    assert {name for name in pixyz.losses.__all__ if is_loss(name)} == CASES.keys() - {"operators"}


@pytest.mark.gpu
@pytest.mark.parametrize("make", TABLE)
def test_a_public_loss_obeys_the_laws(make, device):
    torch.manual_seed(0)
    loss = make().to(device)
    values = {v: t.to(device) for v, t in values_of(loss).items()}
    check_loss(loss, values, batch_size=None if "x" in values or "z" in values else 4)


MANY = X.repeat(20, 1)  # replicates along the batch, so that few evaluations make many draws
REPEATS = 40


def enumerated(make):
    """The loss as it is estimated, and exactly, with the same parameters."""
    left, right = bits()
    return make(left, right, estimator="score", num_samples=2), make(left, right, estimator="enumerate"), {"x": MANY}


UNBIASED = {
    "Expectation": lambda left, right, **o: Expectation(left, right.log_prob(), **o),
    "KullbackLeibler": lambda left, right, **o: KullbackLeibler(left, right, analytic=False, **o),
    "Entropy": lambda left, right, **o: Entropy(left, analytic=False, **o),
    "CrossEntropy": CrossEntropy,
    "a product": lambda left, right, **o: CrossEntropy(left, right, **o) ** 2,
}


@pytest.mark.gpu
@pytest.mark.parametrize("of", UNBIASED)
def test_what_says_that_it_is_unbiased_is_so(of, device):
    torch.manual_seed(0)
    loss, exact, values = enumerated(UNBIASED[of])
    loss, exact, values = loss.to(device), exact.to(device), {v: t.to(device) for v, t in values.items()}
    assert not loss.is_biased
    check_unbiased(loss, values, lambda: exact.estimate(values), repeats=REPEATS)


class Of(Loss):
    """A loss of one's own, made of another; a planted fault overwrites what it does."""

    def __init__(self, loss, **facts):
        super().__init__([loss], **facts)
        self.inner = loss

    @property
    def formula(self):
        return self.inner.formula

    def evaluate(self, scope):
        term = scope.evaluate(self.inner)
        return Term(self.change(term.tensor), term.dims)

    def change(self, t):
        return t


class Keeps:
    """Where nobody looks for a part."""

    def __init__(self, value):
        self.value = value


class OfAHiddenNetwork(Of):
    def __init__(self, loss):
        super().__init__(loss)
        self.kept = Keeps(nn.Linear(1, 1))

    def change(self, t):
        return self.kept.value(t.unsqueeze(-1)).squeeze(-1)


class OfAHiddenTensor(Of):
    def __init__(self, loss):
        super().__init__(loss)
        self.weights = torch.ones(4)

    def change(self, t):
        return t * self.weights


class OfAHiddenLoss(Of):
    def __init__(self, loss):
        super().__init__(Parameter("a"), input_var=["a", *loss.input_var])
        self.kept = Keeps(loss)

    def evaluate(self, scope):
        return scope.evaluate(self.kept.value)


class OfNoise(Of):
    def change(self, t):
        return t + torch.randn_like(t)


class OfAMean(Of):
    def change(self, t):
        return t - t.mean()


class OfASum(Of):
    def change(self, t):
        return t.sum()


class OfAnything(Of):
    def estimate(self, values=None, **options):
        return super().estimate({"x": torch.zeros(4, 3), **values}, **options)


class OfALittleOfTheMean(Of):
    """It moves a value by so much of itself as the mean of the batch says."""

    share = 0.0

    def change(self, t):
        return t * (1 + self.share * (t.mean() - t[0]).sign())


@pytest.mark.parametrize(("share", "holds"), [(2e-5, True), (1e-3, False)])
def test_a_value_may_differ_by_the_rounding_of_float32(share, holds):
    loss = OfALittleOfTheMean(NLL(Normal("p(x)", loc=nn.Parameter(torch.zeros(3)), scale=1.0)))
    loss.share = share
    values = {"x": torch.tensor([[1.0], [5.0]]).expand(2, 3).clone()}
    if holds:
        check_loss(loss, values)
    else:
        with pytest.raises(AssertionError, match="mixes_batch is False"):
            check_loss(loss, values)


FAULTS = {
    "a value out of the air": (OfAnything, "without x, one of its input_var, it raises no MissingVariableError"),
    "a hidden network": (OfAHiddenNetwork, "it uses parameters of shapes .* which are not among its parameters"),
    "a hidden loss": (OfAHiddenLoss, "it uses parameters of shapes .* which are not among its parameters"),
    "a hidden tensor": (OfAHiddenTensor, "after .double.. it still uses tensors in float32, of shapes .*4"),
    "noise": (OfNoise, "stochastic is False, and two evaluations are"),
    "other data": (OfAMean, "mixes_batch is False, and the value of a datum is"),
    "a sum": (OfASum, "per_datum is True, and its value has shape"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_laws_fail_where_one_is_broken(fault):
    make, message = FAULTS[fault]
    torch.manual_seed(0)
    loss = make(NLL(Normal("p(x)", loc=nn.Parameter(torch.zeros(3)), scale=1.0)))
    with pytest.raises(AssertionError, match=message):
        check_loss(loss, values_of(loss))


def test_the_laws_hold_of_a_loss_of_ones_own():
    check_loss(Of(ELBO(joint(), q())), {"x": X})


@pytest.mark.parametrize("of", ["relaxed", "straight_through", "a function"])
def test_the_law_of_bias_fails_where_it_is_broken(of):
    torch.manual_seed(0)
    left, right = Bernoulli("q(b|x)", logits=nn.Linear(3, 2)), Bernoulli("p(y|b)", logits=nn.Sequential(nn.Linear(2, 3), nn.Tanh()))
    body = right.log_prob().constant_var({"y": torch.ones(len(MANY), 3)})
    body = 2.0 * body if of == "a function" else body**3
    exact = Expectation(left, body, estimator="enumerate")
    loss = Expectation(left, body, num_samples=2, estimator="score" if of == "a function" else of)
    if of == "a function":
        exact, loss = exact.exp(), loss.exp()
    assert loss.is_biased
    check_unbiased(loss, {"x": MANY}, lambda: exact.estimate({"x": MANY}))  # says that it is biased
    loss.__dict__["is_biased"] = False
    with pytest.raises(AssertionError, match="is_biased is False, and its value and gradient are") as error:
        check_unbiased(loss, {"x": MANY}, lambda: exact.estimate({"x": MANY}), repeats=REPEATS)
    found, truth = (ast.literal_eval(row) for row in re.findall(r"\[[-\d., e]+\]", str(error.value))[-2:])
    assert len(found) == len(truth) == 1 + sum(w.numel() for w in loss.parameters())  # the value and each element of the gradient
