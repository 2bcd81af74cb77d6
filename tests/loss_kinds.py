"""A loss of each kind, with values for its variables."""

import torch
from zoo import Decoder, Encoder, Hidden, Label, binary, prior

from pixyz.losses import ELBO, NLL, Expectation, KullbackLeibler, LogProb, Parameter


def losses():
    p, q, z, f = Decoder(), Encoder(), prior(), Label()
    joint = p * z
    semi = q * f.replace_var(x="x")
    kl = KullbackLeibler(q, z)
    return {
        "log_prob": LogProb(p),
        "joint": LogProb(joint),
        "nll": NLL(f).sum(),
        "elbo": -ELBO(joint, q).mean(),
        "elbo, 5 samples": ELBO(joint, q, num_samples=5),
        "kl form": -(p.log_prob().expectation(q) - kl).mean(),
        "kl by sampling": KullbackLeibler(q, z, analytic=False, num_samples=3),
        "enumerated": ELBO(p * z * f, semi).mean(),
        "score": f.log_prob().expectation(f, estimator="score", num_samples=4),
        "deterministic": (Decoder(z=3).replace_var(z="h") * Hidden() * z).log_prob().expectation(q),
        "arithmetic": (Parameter("beta") * kl.mean() - 0.5 * (kl / (kl + 1)).sum() + torch.tensor(2.0)),
        "product of expectations": Expectation(q, p.log_prob()) * Expectation(q, p.log_prob()),
        "nested": (p.log_prob() + f.log_prob().expectation(f)).expectation(q, num_samples=2),
    }


VALUES = {"x": binary(4), "z": torch.randn(4, 2), "y": torch.eye(3)[[0, 1, 2, 0]], "beta": torch.tensor(0.3)}


def given(loss):
    return {k: v for k, v in VALUES.items() if k in loss.input_var}
