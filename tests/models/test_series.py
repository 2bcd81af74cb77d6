"""Numbered checkpoints: the last are kept, the newest is loaded, and a name that is none is an error."""

import pytest
from checkpointed import steps, vae

from pixyz.core import ParameterError


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_last_of_a_series_are_kept(tmp_path):
    model, series = vae(), tmp_path / "runs" / "step_{step:03d}.safetensors"
    for _ in range(5):
        steps(model, 1)
        assert model.save(series, keep=2) == tmp_path / "runs" / f"step_{model.step_count:03d}.safetensors"
    assert files(tmp_path / "runs") == ["step_004.safetensors", "step_005.safetensors"]
    assert vae().load(series).step_count == 5
    early = vae()
    steps(early, 1)
    early.save(series, keep=1)  # a run that began anew does not lose what it has just saved, nor the other run
    assert files(tmp_path / "runs") == ["step_001.safetensors", "step_004.safetensors", "step_005.safetensors"]


def test_the_greatest_number_is_the_newest(tmp_path):
    for step in (9, 10, 100):
        model = vae()
        model.step_count = step
        model.save(tmp_path / "a{step}")
    (tmp_path / "a1000.bak").write_bytes(b"")
    (tmp_path / "ab2000").write_bytes(b"")
    assert vae().load(tmp_path / "a{step}").step_count == 100
    assert vae().load(tmp_path / "a9").step_count == 9


@pytest.mark.parametrize(
    ("name", "keep", "message"),
    [
        (
            "a.safetensors",
            3,
            r"keep=3 keeps the last 3 of numbered files, but .*a.safetensors has no \{step\} in its name. Write '.*a_\{step\}.safetensors'",
        ),
        ("a{step}", 0, "keep must be a positive integer; got 0"),
        ("a{step}", True, "keep must be a positive integer; got True"),
        ("a{epoch}", None, r"may have one field, \{step\}"),
        ("a{step}{step}", None, r"may have one field, \{step\}"),
        ("a{step:.2f}", None, r"may have one field, \{step\}"),
        ("a{step", None, "is not to be read"),
    ],
)
def test_names_that_are_no_series(name, keep, message, tmp_path):
    with pytest.raises(ParameterError, match=message):
        vae().save(tmp_path / name, keep=keep)
    assert not list(tmp_path.iterdir())
