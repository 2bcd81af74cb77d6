"""Whether a loss is a lower bound, to be maximised, follows from its parts: the sign of each, and what is drawn."""

import pytest
import torch
from torch import nn

from pixyz.core import Constant
from pixyz.distributions import Bernoulli, Deterministic, Normal
from pixyz.losses import (
    ELBO,
    IWAE,
    MMD,
    NLL,
    CrossEntropy,
    DReG,
    Entropy,
    Expectation,
    InfoNCE,
    IterativeLoss,
    KullbackLeibler,
    LogProb,
    LogRatio,
    Loss,
    Parameter,
    Prob,
    RenyiBound,
    ReweightedWakeSleep,
    StickingTheLanding,
    TotalCorrelation,
    log_mean_exp,
)

Q = Normal("q(z|x)", loc=nn.Linear(3, 2), scale=1.0)
LIKELIHOOD, PRIOR = Normal("p(x|z)", loc=nn.Linear(2, 3), scale=1.0), Normal("p(z)", loc=0.0, scale=1.0, dim=2)
P = LIKELIHOOD * PRIOR
LABEL, POSTERIOR = Bernoulli("p(y|x)", logits=nn.Linear(3, 1)), Bernoulli("q(y|x)", logits=nn.Linear(3, 1))
BELOW = Normal("q(w|z)", loc=nn.Linear(2, 2), scale=1.0), Normal("p(w|z)", loc=nn.Linear(2, 2), scale=2.0)
UPPER = BELOW[1] * Normal("p(y|w)", loc=nn.Linear(2, 1), scale=1.0)
STEP_Q, STEP_P = Normal("q(z|x,z_prev)", loc=lambda x, z_prev: x + z_prev, scale=0.5), Normal("p(z|z_prev)", loc="z_prev", scale=1.0)
SETS = MMD(Normal("r(z)", loc=0.0, scale=1.0, dim=2), Normal("s(z)", loc=1.0, scale=1.0, dim=2))
RECONSTRUCTION = LogProb(LIKELIHOOD).expectation(Q)
BOUND, LIKELY = "a lower bound", "a log-likelihood"

SIGNS = {
    "ELBO": (ELBO(P, Q), BOUND),
    "ELBO, second form": (ELBO(P, Q, kl="analytic"), BOUND),
    "ELBO, beta": (ELBO(P, Q, beta=4.0), BOUND),
    "ELBO, a weight for each datum": (ELBO(P, Q, kl="analytic", beta=torch.tensor([0.5, 2.0])), BOUND),
    "ELBO, free bits": (ELBO(P, Q, kl="analytic", free_bits=0.5), BOUND),
    "ELBO of two levels": (ELBO(P * BELOW[1], Q * BELOW[0], kl="auto", num_samples=2), BOUND),
    "ELBO, what q computes": (ELBO(P, Q * Deterministic("f(h|x)", h=nn.Linear(3, 3))), BOUND),
    "IWAE": (IWAE(P, Q, num_samples=3), BOUND),
    "DReG": (DReG(P, Q, num_samples=3), BOUND),
    "StickingTheLanding": (StickingTheLanding(P, Q), BOUND),
    "Renyi, 0.5": (RenyiBound(P, Q, 0.5, num_samples=2), BOUND),
    "Renyi, 3": (RenyiBound(P, Q, 3.0, num_samples=2), BOUND),
    "Renyi, -1, which crosses log p": (RenyiBound(P, Q, -1.0, num_samples=2), None),
    "InfoNCE": (InfoNCE(Q), BOUND),
    "sequence": (IterativeLoss(ELBO(LIKELIHOOD * STEP_P, STEP_Q), series_var=["x"], update_value={"z": "z_prev"}), BOUND),
    "written out": (Expectation(Q, LogProb(P) - LogProb(Q)), BOUND),
    "energy and entropy": (Expectation(Q, LogProb(P)) + Entropy(Q), BOUND),
    "reconstruction and divergence": (RECONSTRUCTION - KullbackLeibler(Q, PRIOR), BOUND),
    "half labelled": (ELBO(P, Q) + 0.1 * LogProb(LABEL), BOUND),
    "two levels of draws": (Expectation(Q, LogRatio(P, Q) + ELBO(UPPER, BELOW[0])), BOUND),
    "mixture of bounds": (log_mean_exp(ELBO(P, Q), ELBO(P, Q, num_samples=2)), BOUND),
    "mean": (ELBO(P, Q).mean(), BOUND),
    "sum": (ELBO(P, Q).sum(), BOUND),
    "twice negated": (-(-ELBO(P, Q)), BOUND),
    "scaled": (0.5 * ELBO(P, Q) / 3, BOUND),
    "negatives of negatives": (-2 * (ELBO(P, Q) / -4), BOUND),
    "a constant more": (ELBO(P, Q) + 3 - Parameter("c") + Constant(torch.ones(2)), BOUND),
    "at given values": (ELBO(P, Q).constant_var({"x": torch.zeros(2, 3)}), BOUND),
    "likelihood": (LogProb(P.marginalize_var("z")), LIKELY),
    "likelihood of a mask": (LogProb(LIKELIHOOD, mask="m").mean(), LIKELY),
    "-NLL": (-NLL(LABEL), LIKELY),
    # What has the right sign, or none.
    "-ELBO": (-ELBO(P, Q).mean(), None),
    "-2 ELBO": (-2 * ELBO(P, Q), None),
    "3 - ELBO": (3 - ELBO(P, Q), None),
    "ELBO / -2": (ELBO(P, Q) / -2, None),
    "-IWAE": (-IWAE(P, Q, num_samples=3), None),
    "NLL": (NLL(LABEL), None),
    "VAE": (-RECONSTRUCTION + KullbackLeibler(Q, PRIOR), None),
    "KL": (KullbackLeibler(Q, PRIOR), None),
    "-KL, an adversary's": (-KullbackLeibler(Q, PRIOR), None),
    "KL by draws": (KullbackLeibler(Q, PRIOR, analytic=False), None),
    "MMD": (SETS, None),
    "-MMD, of its kernel": (-SETS, None),
    "entropy, to be less": (Entropy(LABEL), None),
    "entropy, to be more": (-Entropy(LABEL), None),
    "cross-entropy": (CrossEntropy(POSTERIOR, Bernoulli("p(y)", probs=0.5)), None),
    "reconstruction alone, a generator's": (RECONSTRUCTION, None),
    "wake-sleep": (ReweightedWakeSleep(P, Q, num_samples=2), None),
    "total correlation": (TotalCorrelation(Q, 10), None),
    "bound less a likelihood": (ELBO(P, Q) - LogProb(LABEL), None),
    "contrast": (LogProb(LABEL) - LogProb(LABEL.replace_var(x="x_other")), None),
    "a ratio at data": (LogRatio(LABEL, POSTERIOR), None),
    "a scheduled weight": (Parameter("c") * ELBO(P, Q), None),
    "a trained weight": (nn.Parameter(torch.ones(())) * ELBO(P, Q), None),
    "weights of both signs": (torch.tensor([1.0, -1.0]) * ELBO(P, Q), None),
    "a trained constant": (ELBO(P, Q) + nn.Parameter(torch.ones(())), None),
    "a product": (ELBO(P, Q) * LogProb(LABEL), None),
    "a square": (ELBO(P, Q) ** 2, None),
    "an error": ((-ELBO(P, Q)).exp(), None),
    "without a gradient": (ELBO(P, Q).detach(), None),
    "a density": (1 - Prob(LABEL), None),
    "a function": (ELBO(P, Q) + Loss.from_function(lambda x: x.sum(-1), "f", var=["x"]), None),
}


@pytest.mark.parametrize(("loss", "expected"), SIGNS.values(), ids=SIGNS)
def test_what_is_to_be_maximised(loss, expected):
    assert loss.to_be_maximised == expected
