"""The package stands at the end of the arrows: it needs core and models, and no package but the umbrella needs it."""

from importlib import metadata


def test_only_the_umbrella_depends_on_it():
    needed = [d.name for d in metadata.distributions() for r in d.requires or [] if r.startswith("pixyz-cuda-utils") and ";" not in r]
    assert set(needed) <= {"pixyz-all"}


def test_it_depends_on_core_and_models():
    needed = {r.split("==")[0] for r in metadata.requires("pixyz-cuda-utils") or [] if ";" not in r}
    assert needed == {"pixyz-core", "pixyz-models"}
