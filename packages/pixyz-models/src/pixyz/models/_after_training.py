"""What a trained model is asked for: draws, reconstructions and latent variables."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pixyz.core import Distribution, FormulaError, Joint, suggest

from ._data import on_device
from ._modes import evaluating

if TYPE_CHECKING:
    from ._asked import Asked


def device_of(model: "Asked") -> torch.device:
    """Where the model's parameters are."""
    return model.trained_parameters[0].device


def generative(model: "Asked", wanted: str) -> Distribution:
    """The generative model, or an error that says how to give it."""
    name = type(model).__name__
    if model.p is None:
        raise FormulaError(f"{name} knows no generative model p, which {wanted} needs. Give it when you make the model: {name}(..., p=p).")
    return model.p


def inference(model: "Asked", wanted: str) -> Distribution:
    """The inference model, or an error that says how to give it."""
    name = type(model).__name__
    if model.q is None:
        raise FormulaError(
            f"{name} knows no inference model q, which {wanted} needs. Give it when you make the model: {name}(..., q=q); "
            'where it is exact, p.posterior("z") is one.'
        )
    return model.q


def sample(model: "Asked", batch_size: int | None, given: Mapping[str, Any] | None, mean_of: str | Iterable[str]) -> dict[str, Tensor]:
    """Draws from p."""
    p = generative(model, "sample")
    return _drawn(p, on_device(given or {}, device_of(model)), mean_of, batch_size=batch_size)


def infer(model: "Asked", values: Mapping[str, Any], mean_of: str | Iterable[str]) -> dict[str, Tensor]:
    """Draws from q."""
    return _drawn(inference(model, "infer"), on_device(values, device_of(model)), mean_of, batch_size=None)


def reconstruct(model: "Asked", values: Mapping[str, Any]) -> dict[str, Tensor]:
    """The means of what p makes of a draw from q."""
    p, q = generative(model, "reconstruct"), inference(model, "reconstruct")
    whole = p.showing(p.hidden_var)
    below = set(q.var)
    made = []
    for factor in whole.ancestral:
        if below.isdisjoint(factor.var) and not below.isdisjoint(factor.cond_var):
            below.update(factor.var)
            made.append(factor)
    if not made:
        raise FormulaError(f"reconstruct: nothing of {p.prob_text} depends on what {q.prob_text} draws. Give a p(x|...) that does.")
    with evaluating(p, q):
        known = q.sample(on_device(values, device_of(model)))
        means = Joint(made).sample_mean(known, return_all=False)
    return {v: mean for v, mean in means.items() if v in p.var}


def _drawn(p: Distribution, given: Mapping[str, Any], mean_of: str | Iterable[str], *, batch_size: int | None) -> dict[str, Tensor]:
    """A draw of each variable, or the mean of its conditional given what was drawn above it."""
    means = (mean_of,) if isinstance(mean_of, str) else tuple(mean_of)
    for v in means:
        if v not in p.var or v in given:
            known = [name for name in p.var if name not in given]
            raise FormulaError(f"{p.prob_text} draws no {v} of which to take the mean.{suggest(v, known)}")
    with evaluating(p):
        if not means:
            return p.sample(given, batch_size=batch_size, return_all=False)
        whole = p.showing(p.hidden_var)
        known = whole.sample(given, batch_size=batch_size)
        for factor in whole.ancestral:
            if not set(means).isdisjoint(factor.var):
                mean = Joint([factor]).sample_mean(known, return_all=False)
                known.update({v: mean[v].expand_as(known[v]) for v in means if v in mean})
    return {v: known[v] for v in p.var if v not in given}
