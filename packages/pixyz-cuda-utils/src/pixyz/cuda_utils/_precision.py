"""The precision of a training: of its networks, and of matrix products in float32."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from types import TracebackType
from typing import Any

import torch

from pixyz.core import ParameterError
from pixyz.models import scaled_losses

NETWORKS: Mapping[str, torch.dtype] = {"bf16": torch.bfloat16, "f16": torch.float16, "f32": torch.float32}
MATMUL = ("highest", "high", "medium")
_MEANT = {
    **dict.fromkeys(("bfloat16", "bf16-mixed", "bf16-true"), "bf16"),
    **dict.fromkeys(("half", "float16", "fp16", "16", "16-mixed", "16-true"), "f16"),
    **dict.fromkeys(("float", "float32", "fp32", "32", "32-true", "full"), "f32"),
}


class _OfThread(threading.local):
    """What one thread has entered and not left yet: autocast and the scaling of losses are a thread's own."""

    def __init__(self) -> None:
        self.stacks: list[ExitStack] = []


class Precision(AbstractContextManager[None]):
    """What `precision` returns: a block in which networks have a precision.

    It may be entered again, also within itself and in several threads.
    """

    def __init__(self, networks: str, matmul: str | None, scaler: Mapping[str, Any]) -> None:
        self.networks = networks
        self.matmul = matmul
        self.scaler = dict(scaler)
        self._entered = _OfThread()

    def __enter__(self) -> None:
        with ExitStack() as stack:
            dtype = NETWORKS[self.networks]
            for kind in _kinds():
                # Without the cache: it would keep converted weights for the whole block, in which they are trained.
                stack.enter_context(
                    torch.autocast(kind, enabled=False)
                    if dtype is torch.float32
                    else torch.autocast(kind, dtype=dtype, cache_enabled=False)
                )
            if self.matmul is not None:
                stack.enter_context(_matmul(self.matmul))
            stack.enter_context(scaled_losses(enabled=self.networks == "f16", **self.scaler))
            self._entered.stacks.append(stack.pop_all())

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._entered.stacks.pop().__exit__(kind, error, trace)

    def __reduce__(self) -> tuple[Any, ...]:
        return Precision, (self.networks, self.matmul, self.scaler)

    def __str__(self) -> str:
        where = " and ".join([kind.upper().replace("CPU", "the CPU") for kind in reversed(_kinds())])
        half = {
            "bf16": f"in bfloat16, by autocast on {where}",
            "f16": f"in float16, by autocast on {where}, with the losses scaled",
            "f32": "in float32",
        }
        lines = [f"networks:           {half[self.networks]}", "densities and sums: float32"]
        matmul = {
            "highest": "float32",
            "high": "TF32 on a GPU, 10 bits of the 23; float32 on most CPUs",
            "medium": "TF32 on a GPU; bfloat16 on CPUs that have it",
        }
        lines.append(f"products in float32: {'as they are' if self.matmul is None else matmul[self.matmul]}")
        said = f"precision({self.networks!r}" + (f", matmul={self.matmul!r})" if self.matmul is not None else ")")
        return "\n  ".join([said, *lines])

    __repr__ = __str__


def precision(networks: str = "bf16", *, matmul: str | None = None, scaler: Mapping[str, Any] | None = None) -> Precision:
    """Inside, networks run in half precision, and densities, expectations, kernels, eliminations and penalties in float32.

    It holds for `train`, `fit`, `test`, `estimate` and whatever evaluates a formula, compiled or not, in this thread. Weights, gradients
    and optimisers stay in float32. For `"f16"` losses are scaled, as `pixyz.models.scaled_losses` says: a step whose gradient overflows
    is left out and counted in `model.skipped_steps`. The first steps of a training are often among these, until the scale has come down.

    Args:
        networks: `"bf16"`, `"f16"` or `"f32"`. bfloat16 has the range of float32, and needs no scale.
        matmul: how matrix products *in float32* are computed, those of densities too: `"highest"`, in float32; `"high"` or `"medium"`, in
            TF32, for convolutions as well. TF32 keeps three digits: with covariances or eliminations, say `"highest"`. If not given, what
            torch is set to stays. On leaving, torch's settings are those from before. They are settings of all threads.
        scaler: for `"f16"`, options of `torch.amp.GradScaler`, `{"init_scale": 1024.0}`.

    Raises:
        ParameterError: for another name, or options of a scaler that none takes or that are given without `"f16"`.

    Examples:
        >>> from pixyz.distributions import Normal
        >>> loss = Normal("p(y|x)", loc=torch.nn.Linear(2, 2), scale=1.0).log_prob().mean()
        >>> with precision("bf16", matmul="highest"):
        ...     loss.estimate({"x": torch.zeros(3, 2), "y": torch.zeros(3, 2)}).dtype
        torch.float32
        >>> print(precision("f32", matmul="high"))
        precision('f32', matmul='high')
          networks:           in float32
          densities and sums: float32
          products in float32: TF32 on a GPU, 10 bits of the 23; float32 on most CPUs
    """
    if networks not in NETWORKS:
        meant = _MEANT.get(str(networks).removeprefix("torch."))
        hint = f" Say {meant!r} for it." if meant else ""
        raise ParameterError(f"precision: networks are in {_either(NETWORKS)}; got {_said(networks)}.{hint}")
    if matmul is not None and matmul not in MATMUL:
        raise ParameterError(f"precision: matmul must be {_either(MATMUL)}; got {_said(matmul)}.")
    if scaler and networks != "f16":
        raise ParameterError(f'precision: scaler is for "f16"; {networks} has the range of float32, and its losses are not scaled.')
    with scaled_losses(**(scaler or {})):  # says which options there are not
        return Precision(networks, matmul, scaler or {})


def _kinds() -> list[str]:
    """The CPU, and the accelerator if there is one."""
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return ["cpu"] if accelerator is None or not torch.amp.is_autocast_available(accelerator.type) else ["cpu", accelerator.type]


@contextmanager
def _matmul(precision: str) -> Iterator[None]:
    """Inside, matrix products and convolutions in float32 have this precision; afterwards that from before."""
    restore = _settings()
    torch.set_float32_matmul_precision(precision)
    torch.backends.cudnn.allow_tf32 = precision != "highest"
    try:
        yield
    finally:
        restore()


def _settings() -> Callable[[], None]:
    """What puts torch's settings of float32 back. They have two forms; torch reads the older one only where the newer agrees."""
    before = _read(torch.get_float32_matmul_precision)
    cudnn = _read(lambda: torch.backends.cudnn.allow_tf32)
    backends: Any = torch.backends
    places = [(backends.cuda, "matmul"), (backends.cudnn, "conv"), (backends.cudnn, "rnn"), (backends.mkldnn, "matmul")]
    owners: list[Any] = [getattr(backend, name, None) for backend, name in places]
    newer = [(owner, owner.fp32_precision) for owner in owners if hasattr(owner, "fp32_precision")]

    def restore() -> None:
        if before is not None:
            torch.set_float32_matmul_precision(before)
        if cudnn is not None:
            torch.backends.cudnn.allow_tf32 = cudnn
        for owner, value in newer:
            owner.fp32_precision = value

    return restore


def _read(get: Callable[[], Any]) -> Any:
    try:
        return get()
    except RuntimeError:
        return None


def _either(names: Any) -> str:
    *most, last = [repr(name) for name in names]
    return f"{', '.join(most)} or {last}"


def _said(value: object) -> str:
    return repr(value) if isinstance(value, str) else f"{value!s}"
