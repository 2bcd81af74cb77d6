"""Faults in integrals, divergences, mixtures, flows and families, which random formulas find."""

import pytest
import torch
from formulas.checked import check
from formulas.expressions import Apply, Term
from formulas.run import Run
from formulas.worlds.normals import Divergence, Leaf, Normals
from planted import changed, given, slowed

from pixyz.distributions import Affine, Components, LowRankMultivariateNormal, MultivariateNormal, Truncated
from pixyz.flows import MaskedAutoregressive, SplineMap

AT_MOST = 200
"""Formulas that are tried until a fault is found."""


def without_bias(f):
    return lambda self, **inputs: f(self, **inputs) - (0 if self.bias is None else self.bias)


def with_slope(factor):
    """The fault that the gradient of a value, or of each of a pair, is a little too large or too small."""

    def make(f):
        def fault(*arguments):
            found = f(*arguments)
            return tuple(slowed(t, factor) for t in found) if isinstance(found, tuple) else slowed(found, factor)

        return fault

    return make


def half_the_determinant(f):
    def whitener(params, count):
        function, log_det = f(params, count)
        return function, 0.5 * log_det

    return whitener


def in_another_order(parts, *arguments, **options):
    return (list(parts)[::-1], *arguments), options


def with_a_lower_bound(base, **options):
    return (base,), {**options, "lower": options["lower"] - 0.01}


FAULTS = {
    "a determinant counted half in an integral": ("gaussian", changed(MultivariateNormal, "whitener", half_the_determinant)),
    "a bias forgotten": ("gaussian", changed(Affine, "forward", without_bias)),
    "components in another order": ("gaussian", given(Components, in_another_order)),
    "the slope of a divergence": ("normals", changed(MultivariateNormal, "kl", with_slope(0.999))),
    "the slope of an entropy": ("normals", changed(LowRankMultivariateNormal, "entropy_of", with_slope(0.999))),
    "the slope of a spline's inverse": ("flows", changed(SplineMap, "pull", with_slope(0.999))),
    "the slope of an autoregressive inverse": ("flows", changed(MaskedAutoregressive, "pull", with_slope(1.001))),
    "a bound of a truncation": ("families", given(Truncated, with_a_lower_bound)),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found(name, monkeypatch):
    world, plant = FAULTS[name]
    plant(monkeypatch)
    run = Run(seed=0, names=(world,), compiles=False, shrinks=False)
    run.until(AT_MOST, quiet=True, stop_at_first=True)
    assert any("differs" in kind for kind in run.state["kinds"]), run.summary()


@pytest.mark.parametrize("seed", range(4))
def test_an_infinite_divergence_under_a_bound_has_no_gradient(seed):
    """The chi-squared divergence is infinite where the right side is too narrow."""
    torch.set_default_dtype(torch.float64)
    sides = Leaf(2, mean="constant", spread="vector"), Leaf(2, mean="constant", spread="trained")
    check(Normals(seed, 2, (Divergence("chi", *sides),), Apply("times", (Term(0),), 2.0), 2, 1))
