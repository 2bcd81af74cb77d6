"""The distributions that a package declares, and an import system that finds no others.

The tests of all packages run in one environment. There a package could import what it does not declare, and no test would fail. So pytest
takes `--part losses`: it imports only what `pip install "pixyz-losses[test]"` brings. With `--bare` it imports only torch, numpy and
pytest, as on a machine that has a GPU and nothing else.
"""

import sys
from collections.abc import Iterable
from importlib import metadata
from importlib.machinery import PathFinder

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

SEEDED = {"pip", "setuptools", "wheel"}
"""What an environment has from the start."""

BARE = ("torch", "numpy", "pytest")
"""What the tests marked `gpu` need."""


def closure(requirement: str) -> set[str]:
    """The names of all distributions that a requirement such as "pixyz-losses[test]" brings, as far as they are installed."""
    found: set[tuple[str, str]] = set()
    waiting = [Requirement(requirement)]
    while waiting:
        wanted = waiting.pop()
        name = canonicalize_name(wanted.name)
        for extra in {"", *wanted.extras} - {extra for known, extra in found if known == name}:
            found.add((name, extra))
            try:
                declared = [Requirement(line) for line in metadata.requires(name) or []]
            except metadata.PackageNotFoundError:
                continue
            waiting += [r for r in declared if not r.marker or r.marker.evaluate({"extra": extra})]
    return {name for name, _ in found}


class OnlyDeclared:
    """Stands for a finder of `sys.meta_path`, and finds the modules and metadata of some distributions only.

    Args:
        names: of the distributions.
        sources: whether modules of pixyz are found, as by a PYTHONPATH, although no distribution of them is.
    """

    def __init__(self, names: Iterable[str], *, sources: bool = False) -> None:
        self.finder = next(finder for finder in sys.meta_path if finder is PathFinder or isinstance(finder, OnlyDeclared))
        self.names = {*names, *SEEDED}
        owners = metadata.packages_distributions()
        self.hidden = {top for top, of in owners.items() if not self.names & {canonicalize_name(name) for name in of}}
        pixyz = {canonicalize_name(d.name) for d in metadata.distributions() if d.name.startswith("pixyz-")}
        if not sources:
            self.hidden |= {name.replace("pixyz-", "pixyz.").replace("-", "_") for name in pixyz - self.names}

    def find_spec(self, name, path=None, target=None):
        parts = name.split(".")
        if {parts[0], ".".join(parts[:2])} & self.hidden:
            return None
        return self.finder.find_spec(name, path, target)

    def find_distributions(self, *context):
        return (d for d in self.finder.find_distributions(*context) if d.name and canonicalize_name(d.name) in self.names)

    def invalidate_caches(self) -> None:
        self.finder.invalidate_caches()


def hide_all_but(requirement: str) -> None:
    """From here on, this process imports only what a requirement brings, and the plugins of pytest, which have been imported."""
    plugins = {point.dist.name for point in metadata.entry_points(group="pytest11") if point.dist}
    _install(OnlyDeclared(set().union(*map(closure, [requirement, *plugins]))))


def hide_all_but_the_sources() -> None:
    """From here on, this process imports only the sources of pixyz and what torch, numpy and pytest bring: no plugin of pytest either."""
    _install(OnlyDeclared(set().union(*map(closure, BARE)), sources=True))


def _install(finder: OnlyDeclared) -> None:
    sys.meta_path[sys.meta_path.index(finder.finder)] = finder
