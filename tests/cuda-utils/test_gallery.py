"""No step of a program of the gallery waits for its device, and each could be a CUDA graph.

`python tests/programs.py` asks for all models of all programs.
"""

import children
import programs
import pytest


@pytest.fixture(scope="module")
def found():
    return children.result_of(programs.first_steps_of_all)


def test_all_programs_that_train_are_known():
    trained = {
        path.stem
        for path in programs.GALLERY.glob("*.py")
        if any(word in path.read_text("utf-8") for word in (".train({", ".train(b", ".train(s", ".fit(\n"))
    }
    assert trained == {*programs.MODELS}


@pytest.mark.parametrize("name", sorted({*programs.MODELS}.difference(programs.LARGE)))
def test_the_host_reads_nothing_after_the_first_step(found, name):
    made, reads, _ = found[name]
    assert (made, reads) == (programs.MODELS[name], {})


@pytest.mark.parametrize("name", programs.SOME)
def test_nothing_breaks_a_graph(found, name):
    assert found[name][-1] == [programs.NONE]


def test_a_read_in_a_program_is_found():
    reads, obstacles = children.result_of(programs.first_steps_with_a_read, "vae")
    assert {line.split()[0] for line in reads} == {"_local_scalar_dense"}
    assert "host read" in obstacles[0]
