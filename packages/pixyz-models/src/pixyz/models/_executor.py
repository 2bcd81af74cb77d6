"""Who carries out the program of a step: here, operation by operation."""

from torch import Tensor

from ._engine import Engine
from ._finite import Evaluated
from ._program import Phase, StepProgram


class Executor:
    """Carries out each call of `train` operation by operation.

    A model holds one, `model.executor`; another one may carry out the same operations in another way, such as by a CUDA graph.
    """

    def run(self, program: StepProgram, evaluated: Evaluated, phase: Phase, engine: Engine) -> Tensor:
        """One call of `train`, with all that changes by it but the count of the steps.

        Args:
            program: what is computed.
            evaluated: the values, options and random state of this call.
            phase: which part of a step it makes.
            engine: takes gradients and steps, and counts them.

        Returns:
            The losses before the step, detached, `()`; of a game, `(2,)`.
        """
        ema = program.ema if program.averages(phase) else None
        losses = program.compute(evaluated, phase, engine, share=None if ema is None else ema.next_share)
        if ema is not None:
            ema.updates += 1
        return losses
