"""The parts of a step, for who carries it out in another way than operation by operation."""

from ._engine import Engine
from ._executor import Executor
from ._finite import Evaluated
from ._program import Phase, StepProgram

__all__ = ["Engine", "Evaluated", "Executor", "Phase", "StepProgram"]
