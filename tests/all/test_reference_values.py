"""Values and gradients of several hundred losses are those of a table, and the table has everything that is public."""

import inspect
import sys
from pathlib import Path

import pytest
import torch
from planted import planted, slowed
from reference import compare
from reference.row import evaluated, in_float64, seeded
from reference.rows import LACKING, PARTS, ROWS
from reference.values import build_of_torch, changed, difference, figures, read, write

import pixyz.core
import pixyz.distributions
import pixyz.flows
import pixyz.gan
import pixyz.losses
from pixyz.core import Distribution, Estimator, Loss
from pixyz.distributions import Normal

BUILD, TABLE = read()
# What stands in declarations, and makes no loss.
DECLARE = {"Interval", "Support", "outside"}


def of_this_build():
    if build_of_torch() != BUILD:
        pytest.skip(f"the table is of {BUILD}; this is {build_of_torch()}, which draws other samples")


@pytest.mark.parametrize("part", PARTS)
def test_values_and_gradients_are_those_of_the_table(part):
    of_this_build()
    names = [f"{part}: {name}" for name in PARTS[part]]
    left_out = {name: LACKING[name] for name in names if name in LACKING}
    found = changed([name for name in names if name not in left_out], TABLE)
    assert not found, "\n".join(["tests/reference/values.py --write writes new values. Changed:", *found])
    if left_out:
        pytest.skip(f"not compared, for {' and '.join(sorted(set(left_out.values())))} is not here: {', '.join(left_out)}")


def test_the_table_has_the_rows_and_no_others():
    assert TABLE.keys() == ROWS.keys()
    assert len(TABLE) >= 200


def test_every_number_is_finite_and_told_from_0():
    """A number below the absolute tolerance is rounding; between it and 1e-5 there is none, so that 1e-9 of each is seen."""
    for name, row in TABLE.items():
        for x in (x for column in row for x in column):
            assert abs(x) < 1e4, name
            assert abs(x) < 1e-14 or abs(x) > 1e-5, name


def used_in_building():
    """The functions that are called, and the classes of what is made and returned, while the rows are built."""
    codes, types = set(), set()

    def look(frame, event, result):
        if event == "call":
            codes.add(frame.f_code)
            if frame.f_code.co_name == "__init__":
                types.add(type(frame.f_locals.get("self")))
        elif event == "return":
            types.add(type(result))

    before = sys.getprofile()
    with in_float64():
        for make in ROWS.values():
            with seeded(0):
                sys.setprofile(look)
                try:
                    make()
                finally:
                    sys.setprofile(before)
    return codes, {parent for t in types for parent in t.__mro__}


def in_question(module):
    """Of the core the public losses, estimators, distributions and functions that return a loss; of other packages all that is public."""
    for name in module.__all__:
        thing = getattr(module, name)
        if inspect.isclass(thing):
            wanted = issubclass(thing, (Distribution, Estimator, Loss))
        else:
            wanted = inspect.isfunction(thing) and "Loss" in str(inspect.signature(thing).return_annotation)
        if wanted or module is not pixyz.core:
            yield name, thing


def test_everything_public_is_in_a_row():
    if LACKING:
        pytest.skip(f"{' and '.join(sorted(set(LACKING.values())))} is not here, which some rows need")
    codes, types = used_in_building()
    missing = []
    for module in (pixyz.core, pixyz.distributions, pixyz.flows, pixyz.gan, pixyz.losses):
        for name, thing in in_question(module):
            used = thing in types if inspect.isclass(thing) else inspect.unwrap(thing).__code__ in codes
            missing += [] if used or name in DECLARE else [f"{module.__name__}.{name}"]
    assert missing == []


FAULTS = {
    "a density": ("log_density", lambda f: lambda params, x: f(params, x) * (1 + 1e-10)),
    "the gradient of draws": ("rsample", lambda f: lambda params, shape: slowed(f(params, shape), 1 + 1e-10)),
    "the sign of that gradient": ("rsample", lambda f: lambda params, shape: slowed(f(params, shape), -1)),
}


@pytest.mark.parametrize(
    ("fault", "row"),
    [
        ("a density", "distributions: Normal: log-density"),
        ("a density", "losses: ELBO"),
        ("the gradient of draws", "distributions: Normal: draws"),
        ("the sign of that gradient", "distributions: Normal: draws"),
    ],
)
def test_a_small_change_is_found_and_named(fault, row, monkeypatch):
    of_this_build()
    untouched = "distributions: Gamma(rate): log-density"
    assert changed([untouched, row], TABLE) == []
    planted(monkeypatch, Normal, *FAULTS[fault])
    assert [line.startswith(f"{row}: ") for line in changed([untouched, row], TABLE)] == [True]


def test_what_is_written_is_read(tmp_path):
    rows = {name: figures(evaluated(ROWS[name])) for name in ("losses: ELBO", "core: Constant", "flows: BatchNormFlow in training")}
    write(rows, tmp_path / "values.tsv")
    build, found = read(tmp_path / "values.tsv")
    assert build == build_of_torch()
    assert found == rows
    assert all(difference(found[name], row) == (0.0, "") for name, row in rows.items())


def test_a_row_draws_the_same_whatever_was_drawn_before():
    first = figures(evaluated(ROWS["losses: IWAE"]))
    torch.randn(7)
    torch.set_default_dtype(torch.float64)
    assert figures(evaluated(ROWS["losses: IWAE"])) == first


def test_two_checkouts_are_told_apart_by_one_bit():
    checkout = Path(__file__).parents[2]
    (a, b) = (compare.computed_here(checkout, ["losses: ELBO, beta"]) for _ in range(2))
    assert a.keys() == {name for name in ROWS if "losses: ELBO, beta" in name}
    assert {compare.difference(a[name], b[name]) for name in a} == {""}
    name = "losses: ELBO, beta"
    b[name][2] = torch.nextafter(b[name][2], torch.tensor(torch.inf, dtype=torch.float64))
    assert compare.difference(a[name], b[name]).startswith("gradient 1 by ")
    assert compare.difference(a[name], b[name][:-1]).startswith("A has the shapes ")
    assert compare.difference(a[name], "KeyError: x") == "A has a value; B KeyError: x"
    assert compare.difference([torch.tensor(0.0)], [torch.tensor(-0.0)]) == "value by 0.0e+00"
