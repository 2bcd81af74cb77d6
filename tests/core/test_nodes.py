"""Nodes of quadrature: integrals with singular ends and long tails, which the laws of distributions are checked by."""

import math

import pytest

from pixyz.core.testing import line

INTEGRALS = {
    "a polynomial": (line(-1.0, 2.0), lambda x: x**2, 3.0),
    "steep at the lower end": (line(0.0, 1.0), lambda x: x**-0.3, 1 / 0.7),
    "steep at a lower end that is not 0": (line(1.0, 3.0), lambda x: (x - 1) ** -0.3, 2**0.7 / 0.7),
    "steep at the upper end": (line(-1.0, 0.0), lambda x: (-x) ** -0.3, 1 / 0.7),
    "a logarithm": (line(0.0, 1.0), lambda x: x.log(), -1.0),
    "half a line": (line(0.0), lambda x: (-x).exp() * x**-0.5, math.sqrt(math.pi)),
    "half a line from 2": (line(2.0), lambda x: (2 - x).exp(), 1.0),
    "a wide half line": (line(0.0, width=1e3), lambda x: (-x / 1e3).exp() / 1e3, 1.0),
    "a line": (line(), lambda x: (-x.square() / 2).exp(), math.sqrt(2 * math.pi)),
    "a line with long tails": (line(), lambda x: 1 / (1 + x.square()), math.pi),
    "far from 0 and narrow": (
        line(center=100.0, width=0.1),
        lambda x: (-((x - 100) / 0.1).square() / 2).exp(),
        0.1 * math.sqrt(2 * math.pi),
    ),
}


@pytest.mark.parametrize("name", INTEGRALS)
def test_an_integral_is_its_closed_form(name):
    nodes, function, exact = INTEGRALS[name]
    found = (nodes.weights * function(nodes.points)).sum().item()
    assert found == pytest.approx(exact, rel=1e-9)


@pytest.mark.parametrize(("lower", "upper", "way"), [(0.0, 1.0, 1), (-1.0, 0.0, -1)])
def test_nodes_lie_as_close_to_an_end_at_0_as_to_the_other(lower, upper, way):
    """Next to 0 each is some percent farther than the one before; as 1 minus a number near 1 they would be multiples of 1e-16."""
    points = line(lower, upper).points
    assert ((points > lower) & (points < upper)).all()
    nearest = (way * points).sort().values[:50]
    assert nearest[0] < 2e-16
    ratio = nearest[1:] / nearest[:-1]
    assert ((ratio > 1.01) & (ratio < 1.1)).all()
