"""The kinds of models that random formulas are about, a module or a package each."""

import importlib
import pkgutil
from types import ModuleType


def worlds() -> dict[str, ModuleType]:
    """Every world by its name."""
    return {name: importlib.import_module(f"{__name__}.{name}") for name in sorted(m.name for m in pkgutil.iter_modules(__path__))}
