"""Calls of OpenCL drivers: the package pyopencl, the list of devices, compilation, and errors.

pyopencl is imported with the first call and never before.
"""

import hashlib
import logging
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from banyan.foundation.errors import CompilationFailed, EnvironmentProblem

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Reported:
    """Turns a driver's errors into ours: `with` it around calls of the driver.

    Attributes:
        cl: the module pyopencl.
        what: the beginning of the sentence: who cannot do what.
    """

    cl: Any
    what: str

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, self.cl.Error | MemoryError):
            raise EnvironmentProblem(
                f"{self.what}: {first_line(error)}; "
                "free memory or use a smaller model, or start again with --device cpu"
            ) from error


def load_pyopencl() -> Any:
    """The module pyopencl.

    Raises:
        EnvironmentProblem: it is not installed, or finds no OpenCL library.
    """
    try:
        import pyopencl  # noqa: PLC0415
    except ImportError as error:
        raise EnvironmentProblem(
            f"OpenCL needs the package pyopencl ({first_line(error)}); "
            "pip install 'banyan-compute[opencl]'"
        ) from error
    return pyopencl


def find_chips() -> tuple[Any, ...]:
    """Every OpenCL device of every platform, in the order the drivers list them.

    Raises:
        EnvironmentProblem: no pyopencl, or no driver.
    """
    cl = load_pyopencl()
    try:
        platforms = cl.get_platforms()
    except cl.Error as error:
        raise EnvironmentProblem(
            f"no OpenCL driver is installed ({first_line(error)}); "
            "install the chip's driver, or PoCL for the CPU"
        ) from error
    found: list[Any] = []
    for platform in platforms:
        try:
            found += platform.get_devices()
        except cl.Error as error:
            _logger.warning("OpenCL platform %s lists no devices: %s", platform.name, error)
    return tuple(found)


def compile_source(
    cl: Any, context: Any, source: str, options: tuple[str, ...], cache_directory: Path
) -> Any:
    """Compile with the driver; pyopencl keeps what drivers without a cache of their own compiled.

    Raises:
        CompilationFailed: the driver refuses the text.
    """
    chip = context.devices[0]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what the driver's compiler warns of
            cache = str(cache_directory / "opencl")
            return cl.Program(context, source).build(list(options), cache_dir=cache)
    except (cl.Error, RuntimeError) as error:
        digest = hashlib.sha256(source.encode()).hexdigest()[:12]
        raise CompilationFailed(
            f"the OpenCL driver of {str(chip.name).strip()} ({chip.driver_version}) refused "
            f"program {digest}: {_first_error(error)}{_advice(error)}"
        ) from error


def first_line(error: BaseException) -> str:
    """The first line of an error's text, or its kind."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _first_error(error: BaseException) -> str:
    """The compiler's first error in a driver's long message."""
    lines = str(error).splitlines()
    return next((line.strip() for line in lines if "error:" in line), first_line(error))


def _advice(error: BaseException) -> str:
    # PoCL calls processors that are newer than its LLVM "generic", which its compiler refuses.
    if "unknown target CPU" in str(error):
        return "; this PoCL is older than the processor, install a newer one"
    return ""
