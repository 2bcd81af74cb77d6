"""Where in a program an operation of a step stands: the term of the formula, the file and the line."""

import os
import sysconfig
from functools import cache
from pathlib import Path
from types import CodeType, FrameType
from typing import NamedTuple

import torch
from torch import optim

from pixyz.core import Distribution, Loss
from pixyz.models import Model

FORWARD, BACKWARD, UPDATE = "forward", "backward", "optimiser step"
_HERE, _TORCH, _PIXYZ, _PYTHON, _USER = range(5)


class Place(NamedTuple):
    """Where an operation stands.

    Attributes:
        file: of the innermost line outside of torch and, if there is one, outside of pixyz.
        line: its number.
        term: the innermost term of the formula, or the distribution whose network runs, as printed; empty outside of the formula.
        phase: `"forward"`, `"backward"` or `"optimiser step"`.
        is_users: whether the innermost line outside of torch is outside of pixyz, too.
        actor: the optimiser, or the average of the weights, that runs the operation; None elsewhere.
    """

    file: str
    line: int
    term: str
    phase: str
    is_users: bool
    actor: object = None


class Places:
    """Finds the places of operations, from the Python frames that run them.

    Args:
        end: the code that runs the step; what has called it is not looked at.
        actors: objects whose operations are theirs, besides optimisers.
    """

    def __init__(self, end: CodeType, actors: tuple[object, ...] = ()) -> None:
        self._end = end
        self._actors = actors
        # Autograd numbers its nodes one after the other; operation by operation, the number that the next one has, and the place.
        self._numbers: dict[int, Place] = {}
        self._texts: dict[object, str] = {}

    def here(self, frame: FrameType | None) -> Place:
        """The place of what this frame runs. In a backward pass without lines of its own, that of the operation which is differentiated."""
        shown, who, actor, phase = None, None, None, FORWARD
        is_engine, is_users_backward, is_users, is_inside = False, False, None, True
        while frame is None or frame.f_code is not self._end:
            if frame is None:  # on a GPU, a backward pass runs in a thread of its own
                is_engine = True
                break
            code = frame.f_code
            kind = _kind(code.co_filename)
            if kind in (_USER, _PIXYZ):
                is_users = kind == _USER if is_users is None else is_users
                if is_inside and kind == _USER and (shown is None or _kind(shown.f_code.co_filename) != _USER):
                    shown, is_users_backward = frame, not is_engine
                elif shown is None:
                    shown = frame
            if code.co_name == "_engine_run_backward":
                is_engine = True
            elif kind == _TORCH and code.co_filename.endswith("clip_grad.py"):
                phase = UPDATE
            if who is None and actor is None and _has_self(code, kind):
                found = frame.f_locals["self"]
                if isinstance(found, (Loss, Distribution)):
                    who = found
                elif isinstance(found, optim.Optimizer) or any([found is a for a in self._actors]):
                    actor, phase = found, UPDATE
                elif isinstance(found, Model) and kind == _PIXYZ:
                    is_inside = False  # who has called the step has no part in it
            frame = frame.f_back
        file, line = (shown.f_code.co_filename, shown.f_lineno) if shown is not None else ("", 0)
        if phase is FORWARD and is_engine and who is None:
            forward = self._differentiated()
            if forward is not None and not is_users_backward:
                return forward._replace(phase=BACKWARD)
            return Place(file, line, forward.term if forward else "", BACKWARD, bool(is_users))
        term = "" if who is None else self._text(who)
        return Place(file, line, term, phase, bool(is_users), actor)

    def _text(self, who: Loss | Distribution) -> str:
        if who not in self._texts:
            self._texts[who] = who.prob_text if isinstance(who, Distribution) else str(who)
        return self._texts[who]

    def note(self, place: Place) -> None:
        """Remembers the place of the autograd nodes that were made last."""
        if place.phase is FORWARD:
            self._numbers[torch.autograd._get_sequence_nr() - 1] = place  # type: ignore[attr-defined]

    def _differentiated(self) -> Place | None:
        node = torch._C._current_autograd_node()  # type: ignore[attr-defined]
        return None if node is None else self._numbers.get(node._sequence_nr())


@cache
def _kind(file: str) -> int:
    path = Path(file)
    if path.is_relative_to(Path(__file__).parent):
        return _HERE
    if path.is_relative_to(Path(torch.__file__).parent):
        return _TORCH
    if any(path.is_relative_to(root) for root in _roots()):
        return _PIXYZ
    library = Path(sysconfig.get_paths()["stdlib"])
    is_pythons = file.startswith("<frozen") or (path.is_relative_to(library) and "site-packages" not in path.parts)
    return _PYTHON if is_pythons else _USER


@cache
def _has_self(code: CodeType, kind: int) -> bool:
    """Whether a method runs that may be one of a loss, a distribution, a model or an optimiser."""
    is_method = code.co_argcount > 0 and code.co_varnames[0] == "self"
    return is_method and (kind in (_USER, _PIXYZ) or f"{os.sep}optim{os.sep}" in code.co_filename)


@cache
def _roots() -> tuple[str, ...]:
    import pixyz  # a namespace: each package adds its folder

    return tuple(pixyz.__path__)
