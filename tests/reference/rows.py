"""All rows of the table of reference values, by name."""

import importlib.util
from collections.abc import Callable

from . import of_composed, of_core, of_distributions, of_estimators, of_flows, of_gan, of_losses, of_models, of_moments, of_sequences
from .row import Row

PARTS = {
    module.__name__.rpartition("of_")[2]: module.ROWS
    for module in (of_composed, of_core, of_distributions, of_estimators, of_flows, of_gan, of_losses, of_models, of_moments, of_sequences)
}
ROWS: dict[str, Callable[[], Row]] = {
    f"{part}: {name}": make for part, rows in sorted(PARTS.items()) for name, make in sorted(rows.items())
}
NEEDED_BY = {"ot": ("losses: Wasserstein by plans", "losses: Sinkhorn"), "torchdiffeq": ("flows: ContinuousFlow, dopri5",)}
LACKING = {
    name: library
    for library, starts in NEEDED_BY.items()
    if importlib.util.find_spec(library) is None
    for name in ROWS
    if name.startswith(starts)
}
"""The rows that cannot be evaluated here, and the library that they need."""
