"""Options of `banyan serve` about adapters, named as in vLLM."""

from collections.abc import Sequence
from typing import Annotated

import typer

from banyan.foundation.errors import InputError

EnableLoraOption = Annotated[
    bool,
    typer.Option("--enable-lora", help="Make room for LoRA adapters, and let requests load them."),
]
MaxLorasOption = Annotated[
    int, typer.Option("--max-loras", min=1, help="Adapters that one step can use.")
]
LoraRankOption = Annotated[
    int, typer.Option("--max-lora-rank", min=1, help="Largest rank of an adapter.")
]
LoraDtypeOption = Annotated[
    str,
    typer.Option(
        "--lora-dtype",
        help="How adapters are stored: plain, int8 (rounded), or auto: int8 for a base that "
        "--quantization rounds.",
    ),
]
CpuLorasOption = Annotated[
    int | None, typer.Option("--max-cpu-loras", min=1, help="Most adapters loaded at once.")
]
LoraModulesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--lora-modules", metavar="NAME=PATH", help="An adapter to start with; may be repeated."
    ),
]


def lora_modules_of(given: Sequence[str] | None) -> tuple[tuple[str, str], ...]:
    """Read NAME=PATH for each adapter.

    Raises:
        InputError: one is written otherwise, or a name comes twice.
    """
    modules: list[tuple[str, str]] = []
    for text in given or ():
        name, equals, path = text.partition("=")
        if not (name and equals and path):
            raise InputError(f"--lora-modules {text!r} is not NAME=PATH; give both")
        if name in dict(modules):
            raise InputError(f"--lora-modules names {name!r} twice; give each adapter its own name")
        modules.append((name, path))
    return tuple(modules)
