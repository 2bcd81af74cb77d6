"""Every public family with each of its parametrisations, and the composed distributions, found by themselves."""

import functools
from typing import Any

import pixyz.distributions as d

from . import peers
from .log_densities import LOG_DENSITIES
from .rows import Subject

K, D, R = 3, 3, 2  # categories, the length of a vector, the rank of a factor

SHAPES = {"scale_tril": (D, D), "covariance_matrix": (D, D), "precision_matrix": (D, D), "cov_factor": (D, R)}


def families() -> dict[str, type[d.Family]]:
    """The public families, by name: those that declare parameters."""
    found = {name: getattr(d, name) for name in d.__all__}
    return {name: c for name, c in found.items() if isinstance(c, type) and issubclass(c, d.Family) and "parametrisations" in vars(c)}


@functools.cache
def subjects() -> dict[str, Subject]:
    """All subjects, by name."""
    found = [of_family(family, names) for family in families().values() for names in family.parametrisations]
    return {s.name: s for s in found}


def of_family(family: type[d.Family], names: tuple[str, ...]) -> Subject:
    supports = {name: family.supports[name] for name in names}
    inputs = {**supports, "x": family.value_support}
    shapes = {name: SHAPES.get(name, (K,) * s.event_rank) for name, s in inputs.items() if s.event_rank}

    def build() -> Any:
        return family(f"p(x|{','.join(names)})", **{name: name for name in names})

    return Subject(
        name=f"{family.__name__}({', '.join(names)})",
        supports=supports,
        value=family.value_support,
        build=build,
        family=family,
        density=LOG_DENSITIES.get(family.__name__, _unwritten(family)),
        peer=peers.of_torch(family, names),
        scipy=peers.by_scipy(family),
        shapes=shapes,
        kinked=family is d.Laplace,
    )


def _unwritten(family: type[d.Family]) -> Any:
    def density(**inputs: Any) -> Any:
        raise LookupError(f"tests/digits/log_densities.py has no {family.__name__}: write its log-density in mpmath.")

    return density
