"""Weights of several programs on one device: what two of them read is kept once.

A place of a plan has a program for each of its segments, and two segments may read one weight: the
experts of a layer that count at once and those that count later. Called when a part loads.
"""

from collections.abc import Mapping

from banyan.compiler.compiled import CompiledProgram
from banyan.compiler.cutting.renaming import PlainWeights
from banyan.compiler.executable import Executable, WeightSource

Names = Mapping[str, str]
"""Name of a weight -> what the program calls it."""


def load_once(
    programs: Mapping[int, Executable], names: Mapping[int, Names], source: WeightSource
) -> None:
    """Give programs of one device their weights.

    Args:
        programs: by number.
        names: by number of the program, of all its inputs.
        source: by the names outside.

    Raises:
        InputError: a weight is absent or has another shape.
    """
    holders: dict[str, int] = {}
    for number, program in programs.items():
        weights = {i.name for i in program.inputs if i.role == "weight"}
        own = {name: plain for name, plain in names[number].items() if plain in weights}
        earlier = dict.fromkeys(holders[name] for name in own if name in holders)
        if not any(_take(program, own, programs[one], names[one]) for one in earlier):
            program.load_weights(PlainWeights(source, names[number]))
        for name in own:
            holders.setdefault(name, number)


def _take(program: Executable, own: Names, other: Executable, names: Names) -> bool:
    """Let a program read all its weights where another keeps them; False when it cannot."""
    if not (isinstance(program, CompiledProgram) and isinstance(other, CompiledProgram)):
        return False
    if not own.keys() <= names.keys():
        return False
    mine = {argument.name: place for place, argument in enumerate(program.inputs)}
    its = {argument.name: place for place, argument in enumerate(other.inputs)}
    places = {mine[plain]: its[names[name]] for name, plain in own.items()}
    return program.take_weights(other, places)
