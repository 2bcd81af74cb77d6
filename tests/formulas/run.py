"""Many random formulas: seeded, counted as they go, and continued where they were interrupted."""

import contextlib
import json
import re
import sys
import time
import zlib
from pathlib import Path
from types import ModuleType

import torch
from hypothesis import HealthCheck, Phase, given, reject, settings
from hypothesis import seed as seeded_by
from tqdm import tqdm

from .alike import Alike
from .case import Case, OutsideError
from .checked import DisagreementError, Outcome, check
from .worlds import worlds

CHUNK = 500
"""Examples between two writes of the state; as many are tried anew after an interruption, at most."""

EVERY = 100
"""One example in so many is compiled."""

SHRUNK = 3
"""How many disagreements of one kind are shrunk; others of that kind are counted only."""

NEW = {
    "examples": 0,
    "exact": 0,
    "stochastic": 0,
    "compiled": 0,
    "rejected": 0,
    "drawn_again": 0,
    "largest_error": 0.0,
    "largest_z": 0.0,
    "cpu_seconds": 0.0,
    "chunks": 0,
    "reasons": {},
}


class Run:
    """A run of random formulas over some worlds.

    Hypothesis makes the formulas in chunks, each from a seed of its own, and shrinks one that disagrees. After each chunk the state is
    written to a file: a run of the same seed goes on from there.

    Args:
        seed: of all formulas.
        names: of the worlds; all of them if not said.
        path: of the file with the state; without it nothing is kept.
        compiles: whether one example in a hundred is compiled.
        shrinks: whether a formula that disagrees is shrunk.
    """

    def __init__(
        self, seed: int = 0, names: tuple[str, ...] = (), path: Path | None = None, *, compiles: bool = True, shrinks: bool = True
    ) -> None:
        self.seed, self.path, self.compiles, self.shrinks = seed, path, compiles, shrinks
        every = worlds()
        if unknown := [name for name in names if name not in every]:
            raise ValueError(f"There is no world {unknown[0]!r}; there are {', '.join(every)}.")
        self.worlds = {name: every[name] for name in names or every}
        self.alike = Alike()
        self.state = {"seed": seed, "worlds": {}, "disagreements": [], "kinds": {}, "alike": {}}
        if path is not None and path.exists():
            self.state = json.loads(path.read_text("utf-8"))
        for name in self.worlds:
            self.state["worlds"].setdefault(name, json.loads(json.dumps(NEW)))

    @property
    def done(self) -> int:
        """How many examples were tried, in these worlds."""
        return sum(self.state["worlds"][name]["examples"] for name in self.worlds)

    def until(self, examples: int, *, quiet: bool = False, stop_at_first: bool = False) -> None:
        """Tries formulas, a chunk of each world in turn, until there were so many in all."""
        dtype = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        try:
            with tqdm(
                total=examples,
                initial=min(self.done, examples),
                unit=" formulas",
                disable=quiet,
                smoothing=0.05,
                mininterval=0.5 if sys.stderr.isatty() else 30,
            ) as bar:
                while self.done < examples:
                    share = -(-(examples - self.done) // len(self.worlds))
                    for name in sorted(self.worlds, key=lambda n: self.state["worlds"][n]["examples"]):
                        left = min(share, CHUNK, examples - self.done)
                        if left > 0:
                            self._run_chunk(name, left, bar)
                            self._write()
                        if stop_at_first and self.state["disagreements"]:
                            return
        finally:
            torch.set_default_dtype(dtype)

    def _run_chunk(self, name: str, examples: int, bar: tqdm) -> None:
        world, counts = self.worlds[name], self.state["worlds"][name]
        chunk = _Chunk(self, name, world, counts, bar)
        plain = settings(
            max_examples=examples,
            deadline=None,
            database=None,
            derandomize=False,
            report_multiple_bugs=False,
            print_blob=False,
            phases=(Phase.generate, Phase.shrink) if self.shrinks else (Phase.generate,),
            suppress_health_check=list(HealthCheck),
        )
        start = zlib.crc32(f"{self.seed}/{name}/{counts['chunks']}".encode())
        began, before = time.process_time(), counts["examples"]
        with contextlib.suppress(DisagreementError):
            seeded_by(start)(plain(given(world.cases())(chunk.try_one)))()
        if chunk.failure is not None:
            self._report(name, *chunk.failure, bar)
        elif counts["examples"] == before:
            raise RuntimeError(f"The strategy of the world {name} makes no example.")
        counts["chunks"] += 1
        counts["cpu_seconds"] += time.process_time() - began

    def _report(self, name: str, case: Case, error: DisagreementError, compiled: bool, bar: tqdm) -> None:
        found = {"world": name, "case": repr(case), "compiled": compiled, "error": str(error)}
        self.state["disagreements"].append(found)
        bar.write(f"{name}: {error}\n    {case!r}{'  (compiled)' if compiled else ''}\n")

    def note_alike(self, name: str, case: Case, text: str, bar: tqdm) -> None:
        """Keeps the first pair of each kind of formulas that print alike, and counts the others."""
        found = self.alike.add(case, text)
        if found is None:
            return
        differ, one, other = found
        reasons = {d: [why for pattern, why in getattr(self.worlds[name], "ALIKE", ()) if re.search(pattern, d)] for d in differ}
        new = sorted(d for d, why in reasons.items() if not why)
        kind = f"a new kind: {', '.join(new)}" if new else "; ".join(sorted({why[0] for why in reasons.values()}))
        example = {"count": 0, "text": text, "one": repr(one), "other": repr(other), "new": bool(new)}
        kept = self.state["alike"].setdefault(f"{name}: {kind}", example)
        kept["count"] += 1
        if len(text) < len(kept["text"]):  # the shortest example of each kind
            kept.update(text=text, one=repr(one), other=repr(other))

    def _write(self) -> None:
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            partial = self.path.with_suffix(".partial")
            partial.write_text(json.dumps(self.state, indent=1), "utf-8")
            partial.replace(self.path)

    def summary(self) -> str:
        """A line for each world, then the disagreements and the formulas that print alike."""
        lines = []
        for name, n in self.state["worlds"].items():
            spent = 1e3 * n["cpu_seconds"] / max(1, n["examples"])
            lines.append(
                f"{name}: {n['examples']:,} formulas: {n['exact']:,} exact, {n['stochastic']:,} stochastic, {n['rejected']:,} rejected; "
                f"{n['compiled']:,} of them compiled, {n['drawn_again']:,} drawn again; "
                f"largest error {n['largest_error']:.1e}, largest z {n['largest_z']:.2f}; {spent:.1f} ms of CPU each"
            )
            lines += [f"    rejected {count:,} times: {reason}" for reason, count in n["reasons"].items()]
        lines += [f"disagreement, {count:,} times: {kind}" for kind, count in self.state["kinds"].items()]
        lines += [f"    {d['case']}{' (compiled)' if d['compiled'] else ''}" for d in self.state["disagreements"]]
        for kind, found in sorted(self.state["alike"].items(), key=lambda item: -item[1]["count"]):
            lines.append(f"print alike, {found['count']:,} times: {kind}\n    {found['text']}")
            if found["new"]:
                lines.append(f"    {found['one']}\n    {found['other']}")
        return "\n".join(lines)


class _Chunk:
    """One run of hypothesis. From the first disagreement on, it shrinks that kind: others pass, and nothing is counted."""

    def __init__(self, run: Run, name: str, world: ModuleType, counts: dict, bar: tqdm) -> None:
        self.run, self.name, self.counts, self.bar = run, name, counts, bar
        self.options = {"rejections": getattr(world, "REJECTIONS", ()), "ignored": getattr(world, "WARNINGS", ())}
        self.kind: str | None = None
        self.failure: tuple[Case, DisagreementError, bool] | None = None
        self.compiling = False

    def try_one(self, case: Case) -> None:
        if self.kind is not None:
            try:
                check(case, compiled=self.compiling, **self.options)
            except OutsideError:
                reject()
            except DisagreementError as error:
                if self._kind_of(error) == self.kind:
                    self.failure = (case, error, self.compiling)
                    raise
            return
        compiled = self.run.compiles and self.counts["examples"] % EVERY == EVERY - 1
        try:
            outcome = check(case, compiled=compiled, **self.options)
            self._count_one(compiled)
            self._count(case, outcome)
        except OutsideError:
            reject()
        except DisagreementError as error:
            self._count_one(compiled)
            kind = self._kind_of(error)
            kinds = self.run.state["kinds"]
            kinds[kind] = kinds.get(kind, 0) + 1
            if kinds[kind] > SHRUNK:
                return
            self.kind, self.compiling, self.failure = kind, compiled, (case, error, compiled)
            raise

    def _count_one(self, compiled: bool) -> None:
        self.counts["examples"] += 1
        self.counts["compiled"] += compiled
        self.bar.update()

    def _kind_of(self, error: DisagreementError) -> str:
        return f"{self.name}: {str(error).splitlines()[0]}"

    def _count(self, case: Case, outcome: Outcome) -> None:
        counts = self.counts
        if outcome.rejected is not None:
            counts["rejected"] += 1
            counts["reasons"][outcome.rejected] = counts["reasons"].get(outcome.rejected, 0) + 1
            return
        counts["exact" if case.exact else "stochastic"] += 1
        counts["drawn_again"] += outcome.drawn_again
        counts["largest_error"] = max(counts["largest_error"], outcome.error)
        if not outcome.drawn_again:
            counts["largest_z"] = max(counts["largest_z"], outcome.z)
        self.run.note_alike(self.name, case, outcome.text, self.bar)
