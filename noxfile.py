"""All that is run on this repository. `nox -l` lists the sessions; each makes its own environment."""

from pathlib import Path

import nox

nox.needs_version = ">=2025.5"
nox.options.default_venv_backend = "virtualenv"
nox.options.reuse_venv = "yes"
nox.options.sessions = ["tests"]

PACKAGES = sorted(path.parent for path in Path(__file__).parent.glob("packages/*/pyproject.toml"))


def develop(session: nox.Session, *extra: str) -> None:
    """Installs all packages, editable, with torch as constraints.txt has it."""
    session.install("--no-compile", "-c", "constraints.txt", "torch", "numpy", "hatchling", "editables", *extra)
    editable = [argument for path in PACKAGES for argument in ("-e", str(path))]
    session.install("--no-build-isolation", "--no-deps", *editable)


@nox.session
def tests(session: nox.Session) -> None:
    """All tests. Arguments go to pytest: nox -s tests -- -k elbo"""
    develop(session, "pytest", "pytest-xdist", "scipy", "scikit-learn", "matplotlib", "tqdm")
    session.run("pytest", *(session.posargs or ["-n", "2"]))


@nox.session
def demo(session: nox.Session) -> None:
    """Trains a VAE on digits, about a minute. Arguments go to the demo: nox -s demo -- --epochs 10"""
    develop(session, "scikit-learn", "matplotlib", "tqdm")
    session.run("python", "docs/gallery/vae.py", *session.posargs)


@nox.session
def benchmarks(session: nox.Session) -> None:
    """One training step beside hand-written PyTorch. Arguments go to the benchmark."""
    develop(session)
    session.run("python", "tests/benchmarks/vae_step.py", *session.posargs)
