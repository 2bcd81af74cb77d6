"""Whether this environment is sound.

The old `pixyz` 0.3 is one regular package; these packages share the name as a namespace. Beside each other, it hides them or is
overwritten by them, and removing it afterwards takes files of theirs along. pip reports none of this.

`python -m pixyz.core` says how it is. Where the old package hides `pixyz.core` too, run this file by its path.
"""

import sys
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path


def _installed() -> list[metadata.Distribution]:
    """The distributions of ours that are here, by name."""
    ours = {d.name: d for d in metadata.distributions() if (d.name or "").startswith("pixyz-")}
    return [ours[name] for name in sorted(ours)]


def find_problems() -> list[str]:
    """What is wrong here, a sentence each; nothing, if all is well."""
    problems = []
    spec = find_spec("pixyz")
    if spec is not None and spec.origin is not None:
        problems.append(f"An old pixyz stands at {spec.origin}; it and these packages cannot stand side by side.")
    for package in _installed():
        gone = [str(f) for f in package.files or [] if f.suffix == ".py" and not Path(f.locate()).exists()]
        if gone:
            problems.append(f"{package.name} has lost {', '.join(gone)}, as when an old pixyz is uninstalled after it.")
    return problems


def remedy() -> str:
    """The two commands that mend it."""
    names = " ".join(f"{d.name}=={d.version}" for d in _installed()) or "pixyz-all"
    return (
        "Mend it with these two commands (from a clone of the repository, the second one with --find-links dist):\n"
        "  python -m pip uninstall --yes pixyz\n"
        f"  python -m pip install --force-reinstall --no-deps {names}"
    )


def check_namespace() -> None:
    """Refuses to be imported from an old `pixyz`.

    Raises:
        ImportError: if `pixyz` is a regular package, which the namespace never is.
    """
    if getattr(sys.modules["pixyz"], "__file__", None) is not None:
        raise ImportError("\n".join([*find_problems(), remedy()]))


def main() -> int:
    """Prints what is here and what is wrong with it; returns the exit status."""
    problems = find_problems()
    print("\n".join([*problems, remedy()] if problems else [f"{d.name} {d.version}" for d in _installed()] + ["All is well."]))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
