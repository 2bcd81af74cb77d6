"""Run in an environment where one package was installed from its wheel: says what came with it, and imports all of it."""

import importlib
import pkgutil
import re
import sys
from importlib import metadata


def closure(name: str) -> set[str]:
    """The package and the siblings that it declares, and they."""
    required = [re.match(r"pixyz-[a-z-]+", r) for r in metadata.requires(name) or [] if "extra ==" not in r]
    return {name}.union(*(closure(match[0]) for match in required if match))


def main(name: str) -> None:
    here = {d.name for d in metadata.distributions() if d.name.startswith("pixyz")}
    if here != closure(name):
        sys.exit(f"{name} declares {sorted(closure(name))}; installed are {sorted(here)}.")
    import pixyz

    extras = {re.split(r"[^\w-]", r)[0] for d in here for r in metadata.requires(d) or [] if "extra ==" in r}
    modules = [m.name for m in pkgutil.walk_packages(pixyz.__path__, "pixyz.") if not m.name.endswith("__main__")]
    for module in modules:
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:  # what only an extra brings is imported where it is used
            if error.name not in extras:
                raise
    print(f"{name} brings {', '.join(sorted(here))}; all {len(modules)} modules import.")


if __name__ == "__main__":
    main(sys.argv[1])
