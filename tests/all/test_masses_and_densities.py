"""A mass is never compared with a density: it is rejected when the formula is built, with both supports."""

import pytest
import torch
from torch import nn

from pixyz.core import FormulaError, Parameter
from pixyz.distributions import (
    Autoregressive,
    Bernoulli,
    Beta,
    Categorical,
    CustomProb,
    Deterministic,
    Dirichlet,
    DiscretizedLogistic,
    Gamma,
    MixtureModel,
    MultivariateNormal,
    Normal,
    Poisson,
    PowerSpherical,
    RelaxedCategorical,
    Truncated,
    Uniform,
    ZeroInflated,
    from_torch,
)
from pixyz.flows import Scale, TransformedDistribution
from pixyz.gan import AdversarialFDivergence, AdversarialKullbackLeibler, AdversarialWassersteinDistance
from pixyz.losses import (
    ELBO,
    IWAE,
    MMD,
    ChiSquared,
    CrossEntropy,
    DReG,
    JensenShannon,
    KullbackLeibler,
    LogRatio,
    Renyi,
    RenyiBound,
    ReweightedWakeSleep,
    SquaredHellinger,
    StickingTheLanding,
    TotalVariation,
)


class Encoder(Bernoulli):
    def __init__(self):
        super().__init__(var=["z"], cond_var=["x"], name="q")

    def forward(self, x):
        return {"probs": torch.sigmoid(x)}


DECODER = Normal("p(x|z)", loc="z", scale=1.0)
PRIOR = Normal("p(z)", loc=0.0, scale=1.0)
COIN = Bernoulli("q(z)", probs=0.3)
COUNT = Poisson("q(z)", rate=3.0)
UNIFORM = Uniform("p(z)", low=0.0, high=1.0)
MODEL, POSTERIOR = DECODER * PRIOR, Encoder()
CHOICE = Categorical("q(z)", probs=torch.tensor([0.2, 0.8]))
SIMPLEX = Dirichlet("p(z)", concentration=torch.ones(2))
PLANE = MultivariateNormal("p(z)", loc=torch.zeros(2), covariance_matrix=torch.eye(2))
CIRCLE = PowerSpherical("q(z)", loc=torch.tensor([1.0, 0.0]), concentration=torch.tensor(1.0))
EVEN = Categorical("p(k)", probs=torch.tensor([0.5, 0.5]))


def judged(make):
    p, d = Normal("p(x)", loc=nn.Parameter(torch.zeros(1)), scale=1.0), Deterministic("d(t|x)", t=nn.Linear(1, 1))
    return make(p, d, real=Bernoulli("r(x)", probs=torch.tensor([0.3])))


COMPARED = {
    "ELBO": lambda: ELBO(MODEL, POSTERIOR),
    "ELBO, analytic": lambda: ELBO(MODEL, POSTERIOR, kl="analytic"),
    "IWAE": lambda: IWAE(MODEL, POSTERIOR, num_samples=2),
    "Renyi bound": lambda: RenyiBound(MODEL, POSTERIOR, 0.5, num_samples=2),
    "path derivative": lambda: StickingTheLanding(MODEL, POSTERIOR),
    "DReG": lambda: DReG(MODEL, POSTERIOR, num_samples=2),
    "wake-sleep": lambda: ReweightedWakeSleep(MODEL, POSTERIOR, num_samples=2),
    "KL": lambda: KullbackLeibler(COIN, UNIFORM),
    "KL, the other way round": lambda: KullbackLeibler(PRIOR, COIN),
    "KL of renamed": lambda: KullbackLeibler(COIN.replace_var(z="y"), PRIOR.replace_var(z="y")),
    "KL of joints": lambda: KullbackLeibler(COIN * Normal("q(w|z)", loc="z", scale=1.0), PRIOR * Normal("p(w|z)", loc="z", scale=1.0)),
    "KL of a posterior": lambda: KullbackLeibler((DECODER * COIN).posterior("z"), Normal("q(z|x)", loc="x", scale=1.0)),
    "JS": lambda: JensenShannon(COIN, PRIOR),
    "TV": lambda: TotalVariation(COIN, PRIOR),
    "Hellinger": lambda: SquaredHellinger(COIN, PRIOR),
    "chi": lambda: ChiSquared(COIN, PRIOR),
    "Renyi": lambda: Renyi(COIN, PRIOR, 0.5),
    "cross-entropy": lambda: CrossEntropy(COIN, PRIOR),
    "log-ratio": lambda: LogRatio(PRIOR, COIN),
    "a difference": lambda: (PRIOR.log_prob() - COIN.log_prob()).expectation(COIN),
    "a weighted difference": lambda: (Parameter("b") * MODEL.log_prob() - POSTERIOR.log_prob() / 2).expectation(POSTERIOR),
    "importance weights": lambda: MODEL.marginalize_var("z").log_likelihood({"x": torch.zeros(2, 1)}, proposal=POSTERIOR),
    "counts": lambda: KullbackLeibler(COUNT, Gamma("p(z)", concentration=1.0, rate=1.0)),
    "counts and a flow": lambda: KullbackLeibler(COUNT, TransformedDistribution(PRIOR, Scale(2.0), "p(z)")),
    "levels": lambda: KullbackLeibler(
        DiscretizedLogistic("q(z)", loc=0.5, scale=0.1, levels=5), Beta("p(z)", concentration1=1.0, concentration0=1.0)
    ),
    "truncated": lambda: KullbackLeibler(COIN, Truncated(PRIOR, lower=0.0)),
    "zero-inflated": lambda: KullbackLeibler(ZeroInflated(COUNT, gate=0.5), PRIOR),
    "autoregressive": lambda: KullbackLeibler(Autoregressive("q(z)", family=Bernoulli, dim=3), PRIOR),
    "a mixture": lambda: KullbackLeibler(MixtureModel([PRIOR.replace_var(z="z"), PRIOR.replace_var(z="z")], EVEN), COIN),
    "one-hot and simplex": lambda: KullbackLeibler(CHOICE, SIMPLEX),
    "simplex and plane": lambda: KullbackLeibler(SIMPLEX, PLANE.replace_var(z="z")),
    "circle and plane": lambda: KullbackLeibler(CIRCLE, PLANE),
    "a discrete class of torch": lambda: KullbackLeibler(
        from_torch(torch.distributions.Binomial)("q(z)", total_count=4.0, probs=0.4), PRIOR
    ),
    "KL by a discriminator": lambda: judged(AdversarialKullbackLeibler),
    "f-divergence by a discriminator": lambda: judged(AdversarialFDivergence),
    "the components of a mixture, which are added": lambda: MixtureModel(
        [Bernoulli("p(x)", probs=0.3), Normal("p(x)", loc=0.0, scale=1.0)], EVEN
    ),
}


@pytest.mark.parametrize("name", COMPARED)
def test_a_mass_is_not_compared_with_a_density(name):
    measure = r"a (mass|density)( on the \w+)? under .*\)"
    with pytest.raises(FormulaError, match=rf"has {measure}, but {measure}\. The ratio of the two has no meaning\. Take families of"):
        COMPARED[name]()


def test_the_error_names_the_formula_and_both_supports():
    expected = (
        r"^KL\[q\(z\)\|\|p\(z\)\]: z has a mass under q\(z\) \(Bernoulli: z must be 0 or 1\), but a density under p\(z\) "
        r"\(Uniform: z must be a number\)\. The ratio of the two has no meaning\. "
        r"Take families of z that are both discrete, or both continuous on the same set\.$"
    )
    with pytest.raises(FormulaError, match=expected):
        KullbackLeibler(COIN, UNIFORM)
    with pytest.raises(FormulaError, match=r"^ELBO\(p\(x,z\), q\(z\|x\)\): z has a density under p\(z\)"):
        ELBO(MODEL, POSTERIOR)


def test_a_flow_has_no_discrete_noise():
    with pytest.raises(FormulaError, match=r"its noise q\(z\) is a Bernoulli, which has masses.*Take a continuous noise"):
        TransformedDistribution(COIN, Scale(2.0), "p(x)")


ALLOWED = {
    "nested supports": lambda: KullbackLeibler(UNIFORM, Normal("q(z)", loc=0.0, scale=1.0)),
    "counts and coins": lambda: KullbackLeibler(COIN, Poisson("p(z)", rate=3.0)),
    "simplices": lambda: KullbackLeibler(RelaxedCategorical("q(z)", probs=torch.tensor([0.2, 0.8]), temperature=0.5), SIMPLEX),
    "a density of one's own": lambda: KullbackLeibler(COIN, CustomProb("p(z)", lambda z: -z.sum(-1))),
    "sets of draws": lambda: MMD(Bernoulli("q(z)", probs=torch.tensor([0.3])), Normal("p(z)", loc=0.0, scale=1.0, dim=1)),
    "the dual of a distance": lambda: judged(AdversarialWassersteinDistance),
    "a density at what is discrete": lambda: PRIOR.log_prob().expectation(COIN),
    "a sum": lambda: (PRIOR.log_prob() + COIN.log_prob()).expectation(COIN),
    "a flat prior": lambda: ELBO(DECODER, POSTERIOR),
}


@pytest.mark.parametrize("name", ALLOWED)
def test_what_is_of_one_measure_or_unknown_is_allowed(name):
    assert ALLOWED[name]() is not None
