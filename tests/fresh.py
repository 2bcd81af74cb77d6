"""Checks in a process in which nothing has been evaluated yet. As a program it runs all of them and prints their errors as JSON.

Each check runs in a fork of a process that has only imported the library: torch is imported once for all of them.
"""

import json
import os
import sys
import traceback

import pixyz.core

WITH_THE_CORE = {name.partition(".")[0] for name in sys.modules}

import torch  # noqa: E402
import torch._inductor.compile_fx  # noqa: E402  so that no fork imports the compiler anew
from zoo import Decoder, Encoder, Label, binary, prior  # noqa: E402

from pixyz.losses import NLL, KullbackLeibler  # noqa: E402


def importing_the_core_imports_no_matplotlib():
    assert {"torch", pixyz.core.__name__.partition(".")[0]} <= WITH_THE_CORE
    assert "matplotlib" not in WITH_THE_CORE


def the_order_written_is_the_order_printed():
    """Whatever the seed of Python's hashes."""
    p, q, f = Decoder(), Encoder(), Label()
    joint = p * prior() * f.replace_var(x="v") * q.replace_var(z="w", x="u")
    assert joint.prob_text == "p(x,z,y,w|v,u)"
    assert joint.cond_var == ("v", "u")
    assert [k for k in joint.state_dict() if k.endswith("bias")] == [
        *("p(x|z).fc1.bias", "p(x|z).fc2.bias", "p(y|x).fc.bias"),
        *("q(z|x).fc1.bias", "q(z|x).loc.bias", "q(z|x).scale.bias"),
    ]
    assert str(NLL(f) + NLL(p) * 2) == "-log p(y|x) + (-log p(x|z)) * 2"


def bound():
    p, q, z = Decoder(), Encoder(), prior()
    return -(p.log_prob().expectation(q) - KullbackLeibler(q, z)).mean()


def loss_compile_compiles_on_the_first_call(**backend):
    loss = bound()
    loss.compile(fullgraph=True, **(backend or {"backend": "aot_eager"}))
    loss.estimate({"x": binary()}).backward()
    assert all(w.grad is not None for w in loss.parameters())


def torch_compile_compiles_on_the_first_call():
    loss = bound()
    torch.compile(loss, fullgraph=True, backend="aot_eager")({"x": binary()}).backward()
    assert all(w.grad is not None for w in loss.parameters())


def inductor_compiles_on_the_first_call():
    loss_compile_compiles_on_the_first_call(backend="inductor")


CHECKS = [
    importing_the_core_imports_no_matplotlib,
    the_order_written_is_the_order_printed,
    loss_compile_compiles_on_the_first_call,
    torch_compile_compiles_on_the_first_call,
    inductor_compiles_on_the_first_call,
]


def run(check):
    """The error of a check in a process of its own; nothing, if it passes."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        error = ""
        try:
            check()
        except BaseException:
            error = traceback.format_exc()
        os.write(write, error.encode()[-4000:])
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        error = pipe.read().decode(errors="replace")
    _, status = os.waitpid(child, 0)
    return error or (f"ended with status {status}" if status else "")


if __name__ == "__main__":
    print(json.dumps({check.__name__: run(check) for check in CHECKS}))
