"""Marginals and posteriors of random finite graphs on a device, against the full table on the CPU."""

import random

import pytest
from graphical import compare_with_the_table

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("float64")]


def random_graph(seed):
    """The sizes of up to 8 variables, the parents of each, which of them are shown, and the one that is asked for."""
    draw = random.Random(seed)
    sizes = [draw.randint(2, 3) for _ in range(draw.randint(2, 8))]
    parents = [sorted(draw.sample(range(i), draw.randint(0, min(i, 3)))) for i in range(len(sizes))]
    shown = sorted(draw.sample(range(len(sizes)), draw.randint(1, len(sizes) - 1)))
    asked = draw.choice([i for i in range(len(sizes)) if i not in shown])
    return sizes, parents, shown, asked, seed


@pytest.mark.parametrize("seed", range(20))
def test_random_graphs_against_the_full_table(seed, device):
    compare_with_the_table(*random_graph(seed), device)
