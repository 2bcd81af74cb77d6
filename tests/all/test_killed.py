"""A training of each kind that is killed, and begun again, ends as one that was left alone."""

import pytest
from killed import assert_killed_ends_as_one_left_alone, places
from trainings import TRAININGS

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers")


@pytest.mark.parametrize("name", TRAININGS)
def test_a_killed_training_ends_as_one_that_was_left_alone(name, tmp_path, request):
    assert_killed_ends_as_one_left_alone(name, tmp_path, places(name, request.config.getoption("--kills")))
