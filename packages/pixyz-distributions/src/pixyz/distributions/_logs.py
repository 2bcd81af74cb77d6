"""Logarithms of probabilities, whose gradients are finite where the probabilities are 0 or 1."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor


def safe_log(p: Tensor) -> Tensor:
    """log p; -inf without a gradient at 0."""
    zero = p == 0
    return torch.where(zero, 1.0, p).log().masked_fill(zero, -torch.inf)


def log_complement(p: Tensor) -> Tensor:
    """log(1-p); -inf without a gradient at 1."""
    one = p == 1
    return torch.log1p(-torch.where(one, 0.0, p)).masked_fill(one, -torch.inf)


def sigmoid(t: Tensor) -> Tensor:
    """1/(1+e^-t), whose gradient has all digits where it is nearly 1: that of torch's is the product with 1 less the value."""
    return F.logsigmoid(t).exp()


def not_exp(y: Tensor) -> Tensor:
    """1 - e^-y for y ≥ 0, whose gradient e^-y has all digits where the value is nearly 1: torch's of `expm1` is 1 plus the value."""
    small = y < 1
    return torch.where(small, -torch.expm1(-torch.where(small, y, 0.0)), 1 - (-torch.where(small, torch.inf, y)).exp())


def share(a: Tensor, b: Tensor) -> Tensor:
    """a/(a+b) for positive numbers, whose gradient does not cancel where one of them is much greater."""
    less = a < b
    ratio = torch.where(less, a, b) / torch.where(less, b, a)
    return torch.where(less, ratio / (1 + ratio), 1 / (1 + ratio))


def log_both(params: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """log π and log(1-π), from `probs` or `logits`."""
    if "logits" in params:
        return F.logsigmoid(params["logits"]), F.logsigmoid(-params["logits"])
    return safe_log(params["probs"]), log_complement(params["probs"])


def finite_log_both(params: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """log π and log(1-π), finite where a probability has rounded to 0 or 1. What is certain there keeps its value, 0, and its gradient."""
    if "logits" in params:
        return log_both(params)
    limits = torch.finfo(params["probs"].dtype)
    return params["probs"].clamp_min(limits.tiny).log(), torch.log1p(-params["probs"].clamp_max(1 - limits.eps / 2))


def both(params: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """π and 1-π, from `probs` or `logits`."""
    if "logits" in params:
        return sigmoid(params["logits"]), sigmoid(-params["logits"])
    return params["probs"], 1 - params["probs"]


def tilt(params: Mapping[str, Tensor]) -> Tensor:
    """π - 1/2, from `probs` or `logits`."""
    return 0.5 * torch.tanh(0.5 * params["logits"]) if "logits" in params else params["probs"] - 0.5


def sum_of_others(x: Tensor) -> Tensor:
    """For each element over the last dim the sum of all others; not of all less that one, which loses the digits of the smaller."""
    before, after = x.cumsum(-1), x.flip(-1).cumsum(-1).flip(-1)
    return F.pad(before[..., :-1], (1, 0)) + F.pad(after[..., 1:], (0, 1))


def log_softmax(logits: Tensor) -> Tensor:
    """log π over the last dim from log π up to a constant, to all digits also where one category is all but certain."""
    top, at = logits.max(-1, keepdim=True)
    gap = (logits - top).scatter(-1, at, 0.0)  # its own, 0, without a gradient that would cancel
    return gap - torch.log1p(gap.exp().scatter(-1, at, 0.0).sum(-1, keepdim=True))


def log_weights(params: Mapping[str, Tensor]) -> Tensor:
    """log π over the last dim, from `probs` or `logits`."""
    return log_softmax(params["logits"]) if "logits" in params else safe_log(params["probs"])


def logits_of(params: Mapping[str, Tensor]) -> Tensor:
    """log π/(1-π), from `probs` or `logits`."""
    return params["logits"] if "logits" in params else params["probs"].logit()


def times_log(x: Tensor, log_p: Tensor) -> Tensor:
    """x log p with 0 log 0 = 0; its slope in x is log p, also at 0, where that is finite."""
    if x.requires_grad:
        return x * torch.where((x == 0) & log_p.isinf(), 0.0, log_p)
    return torch.where(x == 0, 0.0, x * log_p)
