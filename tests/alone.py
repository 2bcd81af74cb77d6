"""Imports all modules of a package from its wheel, where only what the package declares without extras can be imported.

Run it where the wheels of all packages are installed.
"""

import importlib
import pkgutil
import re
import sys
from importlib import metadata

from declared import closure, hide_all_but


def main(name: str) -> None:
    brought = {d for d in closure(name) if d.startswith("pixyz-")}
    extras = {re.split(r"[^\w-]", r)[0] for d in brought for r in metadata.requires(d) or [] if "extra ==" in r}
    hide_all_but(name)
    modules = []
    for part in sorted("pixyz." + d.removeprefix("pixyz-").replace("-", "_") for d in brought - {"pixyz-all"}):
        package = importlib.import_module(part)
        modules += [part, *(m.name for m in pkgutil.walk_packages(package.__path__, f"{part}.") if not m.name.endswith("__main__"))]
    for module in modules:
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:  # what only an extra brings is imported where it is used
            if error.name not in extras:
                raise
    print(f"{name} brings {', '.join(sorted(brought))}; all {len(modules)} modules import.")


if __name__ == "__main__":
    main(sys.argv[1])
