"""Digits that are kept: every family with each of its parametrisations at kept corners, against mpmath and beside torch.

The rows are those of `tests/digits`; `nox -s digits` tries many more.
"""

import random

import pytest
import torch
from digits import kept, page
from digits.exemptions import EXEMPTIONS
from digits.judged import judged, unexcused
from digits.quantities import QUANTITIES
from digits.rows import mp, right
from digits.subjects import subjects

ROWS = {quantity: kept.read(quantity) for quantity in QUANTITIES}
EACH = [pytest.param(quantity, subject, id=f"{quantity} of {subject}") for quantity, by_subject in ROWS.items() for subject in by_subject]
RENEW = "Run: nox -s digits -- --write --only NAME"
DTYPES = [torch.float32, torch.float64]


@pytest.mark.parametrize("quantity", QUANTITIES)
def test_every_family_has_rows(quantity):
    wanted = {name for name, subject in subjects().items() if QUANTITIES[quantity].known(subject)}
    assert set(ROWS[quantity]) == wanted, RENEW


@pytest.mark.parametrize(("quantity", "subject"), EACH)
def test_digits_at_corners(quantity, subject):
    for dtype in DTYPES:
        bad = unexcused(judged(ROWS[quantity][subject], dtype, peers=dtype == torch.float32), str(dtype).removeprefix("torch."))
        assert not bad, f"{dtype}:\n" + "\n".join(map(str, bad))


@pytest.mark.parametrize("exemption", EXEMPTIONS, ids=lambda e: f"{e.subject} {e.number}")
def test_an_exemption_is_needed(exemption):
    names = [exemption.dtype] if exemption.dtype else ["float32", "float64"]
    rows = [rows for subject, rows in ROWS[exemption.quantity].items() if subject.startswith(exemption.subject)]
    needed = [
        v
        for name in names
        for each in rows
        for v in judged(each, getattr(torch, name), peers=name == "float32")
        if v.is_off and exemption.holds(v.row, v.number, name)
    ]
    assert needed, f"No kept row needs it: {exemption}. Remove it, or keep a row that does."


@pytest.mark.parametrize("quantity", QUANTITIES)
def test_kept_values_are_right(quantity):
    """A few of them, computed anew."""
    every = [(subject, row, rights) for subject, rows in ROWS[quantity].items() for row, rights in rows]
    for subject, row, rights in random.Random(torch.__version__).sample(every, min(12, len(every))):
        anew = right(subjects()[subject], QUANTITIES[quantity], row.point)
        assert anew.keys() == rights.keys(), RENEW
        for name, truth in anew.items():
            assert mp.almosteq(truth.value, rights[name].value, 1e-23), (str(row), name)
            assert mp.almosteq(truth.condition, rights[name].condition, 1e-4), (str(row), name)


def test_the_page_shows_every_family():
    shown = page.SHOWN.read_text("utf-8")
    wanted = {(name, q) for q in ROWS for name, subject in subjects().items() if QUANTITIES[q].known(subject)}
    assert {(line.subject, line.quantity) for line in page.read()} == wanted, RENEW
    assert all(f"| {name} |" in shown for name, _ in wanted)
    assert all(e.reason in page.EXCUSED.read_text("utf-8") for e in EXEMPTIONS), RENEW
