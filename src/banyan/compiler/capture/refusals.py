"""What a person reads when a module cannot be captured: what, where in the module, what works."""

import re
import traceback
from pathlib import Path
from typing import Any

import torch

from banyan.foundation.errors import GraphError

_LIBRARIES = (Path(torch.__file__).parent, Path(__file__).parent.parent.parent)
_BY_VALUE = (
    "its way depends on the value of a tensor; say it with torch.where or torch.cond, or use "
    "torch.compile(module, backend='banyan'), which leaves such a part to PyTorch"
)
_NO_KERNEL = (
    "give the operator a kernel for the CPU (torch.library.impl) and one for shapes alone "
    "(torch.library.register_fake)"
)


def cannot_trace(module: Any, error: Exception) -> GraphError:
    """The error for a module that torch.export gave up on."""
    name = type(module).__name__
    return GraphError(f"torch.export cannot trace {name}{user_line(error)}: {_reason(error)}")


def cannot_run(module: Any, error: Exception) -> GraphError:
    """The error for a module that already fails on its example, before any compiling."""
    name = type(module).__name__
    return GraphError(f"{name} fails on its example in PyTorch{user_line(error)}: {_reason(error)}")


def changes_argument(module: Any, number: int) -> GraphError:
    """The error for a module that writes into what it is given."""
    return GraphError(
        f"{type(module).__name__} changes its argument {number} in place; return the new value "
        "instead, or use torch.compile(module, backend='banyan'), which copies it back"
    )


def user_line(error: BaseException) -> str:
    """The last line of the user's code on the way to an error, in brackets; "" if there is none."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not any(Path(frame.filename).is_relative_to(folder) for folder in _LIBRARIES)
        and Path(frame.filename).exists()
    ]
    inside = [frame for frame in frames if frame.name != "<module>"] or frames
    if not inside:
        return ""
    frame = inside[-1]
    return f" ({Path(frame.filename).name}:{frame.lineno}: {frame.line})"


def _reason(error: Exception) -> str:
    text = " ".join(line.strip(" -") for line in str(error).splitlines()[:2] if line.strip())
    if "data-dependent" in text or "data dependent" in text:
        return _BY_VALUE
    missing = re.match(r"Could not run '([\w:.]+)'", text)
    if missing:
        return f"operator {missing[1]!r} has no kernel; {_NO_KERNEL}"
    if isinstance(error, torch._subclasses.fake_tensor.UnsupportedOperatorException):
        return f"operator {error.func} has no kernel for shapes alone; {_NO_KERNEL}"
    return text or repr(error)
