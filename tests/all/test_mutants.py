"""The session `mutants`: places that are left out, the tests of a line, and the changes that are called equivalent."""

import csv
import textwrap
from dataclasses import dataclass
from pathlib import Path

import pytest
from mutants import places, selection

ROOT = Path(__file__).parents[2]
EQUIVALENTS = ROOT / "tests/mutants/equivalents.tsv"


@dataclass
class Covering:
    name: str
    seconds: float
    lines: dict[str, int]

    @property
    def breadth(self):
        return sum(bits.bit_count() for bits in self.lines.values())


SOURCE = textwrap.dedent("""\
    from typing import TYPE_CHECKING, Protocol, cast, overload

    if TYPE_CHECKING:
        from torch import Tensor

    LIMIT = 3
    Number = int | float


    class Sized(Protocol):
        def size(self, n: int = 2) -> int: ...


    def half(x: "int | None", by: int = 2) -> "int | None":
        y: int | None = cast("int | None", x)
        return None if y is None else y // by


    def third(*, of: int) -> int:
        return of // 3


    class Line:
        length = LIMIT + 1

        def middle(self) -> int:
            return self.length // 2

        def end(self) -> int:
            return self.length
""")


def of(text):
    """The span of a text that stands once in the source."""
    assert SOURCE.count(text) == 1
    before = SOURCE[: SOURCE.index(text)]
    line, column = before.count("\n") + 1, len(before) - before.rfind("\n") - 1
    return (line, column), (line, column + len(text))


def bits(*lines):
    return sum(1 << line for line in lines)


def line_of(text):
    return of(text)[0][0]


@pytest.mark.parametrize("text", ["Tensor", "int | float", "n: int = 2", '"int | None", by', '"int | None":', "int | None =", "*"])
def test_what_no_program_runs_is_left_out(text):
    start, (line, column) = of(text)
    end = line, column - len(text.removeprefix(text.rstrip(", by:=")))
    assert places.is_within(start, end, places.left_out(SOURCE))


@pytest.mark.parametrize("text", ["LIMIT = 3", "by: int = 2", "y // by", "LIMIT + 1", "self.length // 2", "y is None"])
def test_what_a_program_runs_is_not_left_out(text):
    assert not places.is_within(*of(text), places.left_out(SOURCE))


def test_every_source_has_places_and_only_annotations_are_left_out():
    files = places.sources(ROOT)
    assert {path.relative_to(ROOT).parts[1].removeprefix("pixyz-") for path in files} == set(places.PARTS)
    for path in [path for path in files if path.name != "__init__.py"][::20]:
        source = path.read_text("utf-8")
        lines = {line for (first, _), (last, _) in places.left_out(source) for line in range(first, last + 1)}
        assert len(lines) < 0.6 * len(source.splitlines()), path


@pytest.mark.parametrize(
    ("operator", "trivial"),
    [
        ("core/ReplaceBinaryOperator_Add_LShift", True),
        ("core/ReplaceBinaryOperator_BitOr_Sub", True),
        ("core/ReplaceBinaryOperator_BitOr_BitAnd", False),
        ("core/ReplaceBinaryOperator_Add_Sub", False),
        ("core/ReplaceComparisonOperator_Lt_LtE", False),
        ("core/ReplaceComparisonOperator_Eq_Is", True),
        ("core/ReplaceComparisonOperator_Is_NotEq", False),
    ],
)
def test_what_fails_at_once_or_changes_nothing_is_no_mutant(operator, trivial):
    assert places.is_trivial(operator) is trivial


def test_a_larger_sample_begins_with_the_smaller_one():
    all_places = [places.Place("a.py", (line, 0), (line, 3)) for line in range(1000)]
    drawn = places.sample(all_places, 3)
    assert drawn == places.sample(reversed(all_places), 3)
    assert sorted(drawn, key=lambda p: p.start) == all_places
    assert places.sample(all_places[:-1], 3) == [place for place in drawn if place != all_places[-1]]
    assert drawn[:20] != places.sample(all_places, 4)[:20]
    assert 300 < sum(p.start[0] for p in drawn[:200]) / 200 < 700


def test_the_lines_of_a_statement_are_those_of_its_tests():
    line = line_of("y // by")
    assert selection.lines_of(SOURCE, line, line).statement == bits(line)


def test_what_runs_on_import_is_tested_by_what_uses_it():
    header = line_of("by: int = 2")
    assert selection.lines_of(SOURCE, header, header) == selection.Lines(0, bits(header + 1, header + 2))
    constant = line_of("length = LIMIT + 1")
    assert selection.lines_of(SOURCE, constant, constant).around == bits(line_of("self.length // 2"), line_of("return self.length\n"))


def test_the_cheapest_and_most_specific_tests_come_first():
    tests = [
        Covering("f::broad", 0.01, {"a.py": bits(*range(1, 900))}),
        Covering("f::slow", 3.0, {"a.py": bits(5)}),
        Covering("f::other", 0.01, {"a.py": bits(6)}),
        *(Covering(f"f::alike[{k}]", 0.01, {"a.py": bits(5)}) for k in range(20)),
        Covering("f::specific", 0.012, {"a.py": bits(5)}),
        Covering("g::another", 0.01, {"b.py": bits(5)}),
    ]
    names = [test.name for test in selection.ordered(tests, "a.py", selection.Lines(bits(5), 0))]
    assert names[:2] == ["f::alike[0]", "f::specific"]
    assert "f::other" not in names
    assert "g::another" not in names
    assert names.index("f::broad") < names.index("f::alike[19]")
    assert [test.name for test in selection.ordered(tests, "a.py", selection.Lines(bits(700), bits(6)))] == ["f::broad"]
    assert len(selection.ordered(tests, "a.py", selection.Lines(bits(950), bits(951)))) == len(tests) - 1


def test_the_stages_keep_to_their_limits():
    tests = [Covering(f"f{k % 3}::t[{k}]", 0.5, {}) for k in range(100)]
    first, second = selection.stages(tests)
    assert sum(t.seconds for t in first) <= selection.FIRST_SECONDS
    assert selection.SECONDS / 2 < sum(t.seconds for t in [*first, *second]) <= selection.SECONDS
    assert selection.stages([Covering("f::t", 99.0, {})]) == [[Covering("f::t", 99.0, {})]]
    assert selection.stages([]) == []


def test_lines_that_move_keep_their_tests():
    old, new = "a\nb\nc\nd\n", "new\na\nb\nchanged\nd\n"
    assert selection.moved(bits(1, 4), old, new) == bits(2, 5)
    assert selection.moved(bits(3), old, new) == bits(4)
    assert selection.moved(bits(2), old, old) == bits(2)


def test_every_equivalent_stands_in_its_file_and_says_why():
    """A row whose lines are gone is deleted, so that the file lists no more than there is."""
    with EQUIVALENTS.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    assert len({(row["file"], row["operator"], row["change"]) for row in rows}) == len(rows)
    for row in rows:
        gone, arrow, come = row["change"].partition(" ⇒ ")
        assert arrow, row
        assert gone != come, row
        lines = [line.strip() for line in (ROOT / row["file"]).read_text("utf-8").splitlines()]
        parts = gone.strip().split(" ⏎ ")
        assert any(lines[k : k + len(parts)] == parts for k in range(len(lines))), f"{row['file']} no longer has: {gone}"
        assert len(row["why"].split()) >= 4, row
