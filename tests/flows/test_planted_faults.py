"""The laws are worth something: each of these faults, planted in a bijection, breaks the law that is named beside it."""

import math

import pytest
import torch
from planted import Check, changed, need_found, planted
from torch import nn

from pixyz.distributions import Normal
from pixyz.flows import (
    ActNorm,
    AffineMap,
    Chain,
    Coupling,
    MaskedAutoregressive,
    MultiScale,
    Permutation,
    Reverse,
    ShiftMap,
    SplineMap,
    TransformedDistribution,
    testing,
)


def both_ways(monkeypatch, owner, make):
    for name in ("push", "pull"):
        planted(monkeypatch, owner, name, make)


def lost_constant(monkeypatch):
    planted(monkeypatch, Coupling, "push", lambda f: lambda self, x, c: (f(self, x, c)[0], f(self, x, c)[1] + math.log(2)))


def swapped_sign(monkeypatch):
    planted(monkeypatch, AffineMap, "push", lambda f: lambda self, x, params: (f(self, x, params)[0], -f(self, x, params)[1]))


def swapped_sign_both_ways(monkeypatch):
    """The inverse cannot see it."""
    both_ways(monkeypatch, Coupling, lambda f: lambda self, x, c: (f(self, x, c)[0], -f(self, x, c)[1]))


def swapped_sign_of_the_inverse(monkeypatch):
    planted(monkeypatch, SplineMap, "pull", lambda f: lambda self, y, params: (f(self, y, params)[0], -f(self, y, params)[1]))


def jacobian_stored(monkeypatch):
    """The published flows keep the Jacobian as an attribute."""

    def make(f):
        def fault(self, x, c):
            y, self.log_det = f(self, x, c)
            return y, self.log_det

        return fault

    planted(monkeypatch, Coupling, "push", make)


def jacobian_stale(monkeypatch):
    """The published flows read the Jacobian of whatever was evaluated last."""
    kept = {}

    def make(f):
        def fault(self, x, c):
            y, log_det = f(self, x, c)
            before = kept.get(id(self), log_det)
            kept[id(self)] = log_det.detach()
            return y, before

        return fault

    planted(monkeypatch, Coupling, "push", make)


def jacobian_detached(monkeypatch):
    planted(monkeypatch, Coupling, "push", lambda f: lambda self, x, c: (f(self, x, c)[0], f(self, x, c)[1].detach()))


def jacobian_of_the_batch(monkeypatch):
    planted(
        monkeypatch,
        Coupling,
        "push",
        lambda f: lambda self, x, c: (f(self, x, c)[0], f(self, x, c)[1].sum().expand(len(x))),
    )


def wrong_inverse(monkeypatch):
    """Subtracts the shift after the scaling."""

    def make(f):
        def fault(self, y, params):
            x, log_slope = f(self, y, params)
            return x + (log_slope.exp() - 1) * params[..., 0], log_slope

        return fault

    planted(monkeypatch, AffineMap, "pull", make)


def wrong_inverse_of_a_spline(monkeypatch):
    """The bin is looked up among the widths where it should be among the heights."""

    def make(f):
        def fault(self, y, params):
            widths, slopes = params[..., : self.bins], params[..., 2 * self.bins :]
            return f(self, y, torch.cat([widths, widths, slopes], -1))

        return fault

    planted(monkeypatch, SplineMap, "pull", make)


def detached_inverse(monkeypatch):
    planted(monkeypatch, Coupling, "pull", lambda f: lambda self, y, c: tuple(t.detach() for t in f(self, y, c)))


def detached_parameters(monkeypatch):
    planted(monkeypatch, AffineMap, "push", lambda f: lambda self, x, params: f(self, x, params.detach()))


def restarts(monkeypatch):
    """Whoever calls initialize again has another map."""
    planted(monkeypatch, ActNorm, "start", lambda f: lambda self, x, c: (self.started.fill_(False), f(self, x, c)))


def restarts_after_load(monkeypatch):
    """The published ActNorm keeps in an attribute that it was started, and starts again after it was loaded."""

    def make(f):
        def fault(self, shape):
            f(self, shape)
            del self.started
            self.register_buffer("started", torch.tensor(False), persistent=False)

        return fault

    planted(monkeypatch, ActNorm, "__init__", make)


def starts_at_an_evaluation(monkeypatch):
    def make(f):
        def fault(self, x, c):
            with torch.no_grad():
                self.shift.copy_(-x.mean(0))
            return f(self, x, c)

        return fault

    planted(monkeypatch, ActNorm, "push", make)


def pixels_forgotten(monkeypatch):
    both_ways(monkeypatch, ActNorm, lambda f: lambda self, x, c: (f(self, x, c)[0], f(self, x, c)[1] / self.pixels))


def permutation_not_saved(monkeypatch):
    """The published permutation is drawn anew by every program."""

    def make(f):
        def fault(self, shape, **options):
            f(self, shape, **options)
            order = self.order
            del self.order
            self.register_buffer("order", order, persistent=False)

        return fault

    planted(monkeypatch, Permutation, "__init__", make)


def permutation_inverted_by_itself(monkeypatch):
    planted(monkeypatch, Permutation, "pull", lambda f: lambda self, y, c: self.push(y, c))


def mean_for_a_sum(monkeypatch):
    """Of the slopes of the two numbers that are mapped."""
    both_ways(monkeypatch, Coupling, lambda f: lambda self, x, c: (f(self, x, c)[0], f(self, x, c)[1] / 2))


def context_ignored(monkeypatch):
    both_ways(monkeypatch, Coupling, lambda f: lambda self, x, c: f(self, x, None if c is None else torch.zeros_like(c)))


def mask_forgotten(monkeypatch):
    """What is kept goes into the sum as well."""

    def make(f):
        def fault(self, x, c):
            params = self.network(torch.where(self.kept_at, x, 0), c)
            return f(self, x, c)[0], self.map.push(x, params)[1].sum(1)

        return fault

    planted(monkeypatch, Coupling, "push", make)


def layers_in_the_wrong_order(monkeypatch):
    def pull(self, y, c):
        total = y.new_zeros(())
        for layer in self.layers:
            y, log_det = layer.pull(y, c if layer.context else None)
            total = total + log_det
        return y, total

    monkeypatch.setattr(Chain, "pull", pull)


def last_log_det_lost(monkeypatch):
    def push(self, x, c):
        total = x.new_zeros(())
        for layer in self.layers:
            x, log_det = layer.push(x, c if layer.context else None)
            total = log_det
        return x, total

    monkeypatch.setattr(Chain, "push", push)


def rounded_in_single_precision(monkeypatch):
    def make(f):
        def fault(self, x, params):
            y, log_slope = f(self, x, params)
            return (y.bfloat16().float() if y.dtype == torch.float32 else y), log_slope

        return fault

    planted(monkeypatch, AffineMap, "push", make)


def a_number_in_the_graph(monkeypatch):
    """What asks for a number cannot be traced in one graph."""
    planted(monkeypatch, ShiftMap, "push", lambda f: lambda self, x, params: f(self, x, params) if x.sum().item() < 1e9 else f(self, x, x))


def normalises_by_the_batch(monkeypatch):
    planted(monkeypatch, ShiftMap, "push", lambda f: lambda self, x, params: f(self, x, params + x.mean()))


def a_column_for_a_row(monkeypatch):
    both_ways(monkeypatch, Coupling, lambda f: lambda self, x, c: (f(self, x, c)[0], f(self, x, c)[1].unsqueeze(-1)))


def idle_parameter(monkeypatch):
    def make(f):
        def fault(self, shape, **options):
            f(self, shape, **options)
            self.idle = nn.Parameter(torch.zeros(1))

        return fault

    planted(monkeypatch, Coupling, "__init__", make)


def rest_lost(monkeypatch):
    """The first scale alone has a log-determinant."""

    def make(f):
        def fault(self, scales):
            f(self, scales)
            self.first = (scales[0],)  # in a tuple, lest it be registered twice

        return fault

    planted(monkeypatch, MultiScale, "__init__", make)
    planted(monkeypatch, MultiScale, "push", lambda f: lambda self, x, c: (f(self, x, c)[0], self.first[0].push(x, c)[1]))


def halves_swapped(monkeypatch):
    planted(monkeypatch, MultiScale, "pull", lambda f: lambda self, y, c: f(self, y.roll(y.shape[1] // 2, 1), c))


def split_without_its_scale(monkeypatch):
    """The half that is done is scaled, and the density does not know."""

    def make(f):
        def fault(self, x, c):
            y, log_det = f(self, x, c)
            return y, (log_det.new_zeros(log_det.shape) if self.swap else log_det)

        return fault

    planted(monkeypatch, Coupling, "push", make)


def coupling():
    return Coupling(3, hidden=[6])


def spline():
    return Coupling(3, hidden=[6], map=SplineMap(4))


def shift():
    return Coupling(3, hidden=[6], map=ShiftMap())


def act_norm():
    return ActNorm(3)


def scales():
    """Four numbers, of which two go on; each is mapped given the others of its scale."""
    return MultiScale([Coupling(4, hidden=[4]) >> Coupling(4, hidden=[4], swap=True), Coupling(2, hidden=[4])])


FAULTS = {
    "lost constant": (lost_constant, coupling, "log-determinant"),
    "swapped sign": (swapped_sign, coupling, "log-determinant"),
    "swapped sign, both ways": (swapped_sign_both_ways, coupling, "the log-determinant is"),
    "swapped sign of the inverse": (swapped_sign_of_the_inverse, spline, "minus the log-determinant of the inverse"),
    "Jacobian stored": (jacobian_stored, coupling, "an evaluation has changed the attribute log_det"),
    "Jacobian stale": (jacobian_stale, coupling, "log-determinant"),
    "Jacobian detached": (jacobian_detached, coupling, "log-determinant's gradient by"),
    "Jacobian of the batch": (jacobian_of_the_batch, coupling, "log-determinant"),
    "wrong inverse": (wrong_inverse, coupling, "the inverse of the forward direction"),
    "wrong inverse of a spline": (wrong_inverse_of_a_spline, spline, "the inverse of the forward direction"),
    "detached inverse": (detached_inverse, coupling, "the gradient by x"),
    "detached parameters": (detached_parameters, coupling, "the gradient by"),
    "ActNorm restarts": (restarts, act_norm, "waits for data|after initialize a second time"),
    "ActNorm restarts after load": (restarts_after_load, act_norm, "after load_state_dict it waits for data again"),
    "ActNorm starts at an evaluation": (starts_at_an_evaluation, act_norm, "an evaluation has changed"),
    "pixels forgotten": (pixels_forgotten, lambda: ActNorm((3, 2, 2)), "the log-determinant is"),
    "permutation not saved": (permutation_not_saved, lambda: Permutation(8), "load_state_dict, the value is another"),
    "permutation inverted by itself": (
        permutation_inverted_by_itself,
        lambda: Permutation(3, order=[1, 2, 0]),
        "the inverse of the forward",
    ),
    "mean for a sum": (mean_for_a_sum, coupling, "the log-determinant is"),
    "context ignored": (
        context_ignored,
        lambda: Coupling(3, hidden=[6], context=2),
        "with another context nothing changes|has no gradient",
    ),
    "mask forgotten": (mask_forgotten, lambda: Coupling(3, hidden=[6], mask="checkerboard"), "log-determinant"),
    "layers in the wrong order": (layers_in_the_wrong_order, lambda: Chain([ActNorm(3), Reverse(3)]), "the inverse of the forward"),
    "last log-determinant lost": (last_log_det_lost, lambda: Chain([ActNorm(3), Coupling(3, hidden=[6])]), "log-determinant"),
    "rounded in single precision": (rounded_in_single_precision, coupling, "in float32, 50 of them and back"),
    "a number in the graph": (a_number_in_the_graph, shift, "does not run as one graph"),
    "normalised by the batch": (normalises_by_the_batch, shift, "the inverse of the forward|first datum"),
    "a column for a row": (a_column_for_a_row, coupling, "log-determinant.* has shape"),
    "the rest of a split lost": (rest_lost, scales, "the log-determinant"),
    "halves of a split swapped": (halves_swapped, scales, "the inverse of the forward direction"),
    "a split without its scale": (split_without_its_scale, scales, "the log-determinant"),
    "idle parameter": (idle_parameter, coupling, "idle has no gradient"),
}


HELD = set()


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_breaks_a_law(monkeypatch, name):
    plant, make, law = FAULTS[name]
    data = torch.randn(5, *make().in_shape).double(), torch.randn(5, 2).double() if make().context else None
    options = {"depth": 50 if "50 of them" in law else None, "traceable": "one graph" in law, "sizes": ()}
    if (make, *options.values()) not in HELD:
        testing.check(make, *data, **options)
        HELD.add((make, *options.values()))
    plant(monkeypatch)
    with pytest.raises(AssertionError, match=law):
        testing.check(make, *data, **options)


def swapped_sign_of_a_transform(check):
    def make(f):
        def fault(*arguments):
            bijection = f(*arguments)
            push = bijection.push
            bijection.__dict__["push"] = lambda x, c: (push(x, c)[0], -push(x, c)[1])
            return bijection

        return fault

    return lambda monkeypatch: planted(monkeypatch, check.module, "from_transform", make)


def flow(name, *arguments):
    return Check("flows", name, *arguments, float64=True)


noise_without_gradient = changed(Normal, "log_density", lambda f: lambda *a: f(*a).detach())
of_draws = flow("test_what_was_drawn_scores_as_what_is_given", TransformedDistribution)
transforms = flow("test_the_values_are_the_transforms")
IN_DISTRIBUTIONS = {
    "noise without a gradient in a bound": (noise_without_gradient, flow("test_the_gradient_of_a_bound_is_that_by_hand")),
    "a lost constant of a draw": (lost_constant, of_draws),
    "a lost constant in the mass": (lost_constant, flow("test_the_density_integrates_to_one_and_is_that_of_the_draws", "RealNVP")),
    "swapped signs of an autoregressive flow": (
        lambda monkeypatch: both_ways(monkeypatch, MaskedAutoregressive, lambda f: lambda *a: (f(*a)[0], -f(*a)[1])),
        flow("test_the_density_is_that_of_the_noise_times_the_jacobian", "MAF", ""),
    ),
    "a swapped sign in a posterior": (swapped_sign_both_ways, flow("test_the_bound_is_that_of_the_three_densities")),
    "a swapped sign of a transform": (swapped_sign_of_a_transform(transforms), transforms),
}


@pytest.mark.parametrize("name", IN_DISTRIBUTIONS)
def test_a_fault_is_found_in_a_distribution(monkeypatch, name):
    need_found(monkeypatch, *IN_DISTRIBUTIONS[name])
