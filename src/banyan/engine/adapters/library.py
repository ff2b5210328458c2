"""The adapters that requests can name, and their seats in the model.

Owns the names and the slots. A request keeps the adapter it was admitted with until it ends, also
when the name is dropped or given to another one meanwhile. Called by `engine.Engine`; only `read`
may be called in another thread.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any, Protocol, TypeVar

from banyan.engine.adapters.memory import AdapterMemory, ReadAdapter
from banyan.engine.adapters.slots import AdapterSlots
from banyan.engine.request_context import MAX_NAME_CHARACTERS
from banyan.foundation.errors import InputError, RequestError, UnknownAdapter


@dataclass(frozen=True, slots=True, eq=False)
class LoadedAdapter:
    """One adapter in memory.

    Attributes:
        number: never used twice in this engine.
        digest: of its weights: what was computed with others is never taken for its own.
        name: as requests ask for it.
        path: where it was read.
        base_model: the name of its base, as its file has it; may be empty.
        weights: as the memory of the model takes them.
    """

    number: int
    digest: str
    name: str
    path: str
    base_model: str
    weights: Any


class _Asks(Protocol):
    """Something that waits to run with an adapter, or with none."""

    @property
    def adapter(self) -> LoadedAdapter | None: ...


_Waiting = TypeVar("_Waiting", bound=_Asks)


class AdapterLibrary:
    """All adapters of one engine.

    Args:
        memory: reads adapters and has the slots.
        max_adapters: most that are loaded at once; None sets no limit.
    """

    def __init__(self, memory: AdapterMemory, *, max_adapters: int | None = None) -> None:
        self._memory = memory
        self._max_adapters = max_adapters
        self._slots = AdapterSlots(memory.num_slots)
        self._by_name: dict[str, LoadedAdapter] = {}
        self._numbers = count()
        self.num_seatings = 0

    @property
    def loaded(self) -> tuple[LoadedAdapter, ...]:
        """Those that requests can name, oldest first."""
        return tuple(self._by_name.values())

    def read(self, path: str) -> ReadAdapter:
        """Read and check an adapter; changes nothing here.

        Raises:
            ModelError: it cannot be used with this model.
        """
        return self._memory.read(path)

    def add(self, name: str, path: str, found: ReadAdapter, *, replaces: bool = False) -> None:
        """Let requests name an adapter that was read.

        Raises:
            RequestError: the name cannot be used, or there are too many adapters.
        """
        self.check_name(name, replaces=replaces)
        if name in self._by_name:
            self.remove(name)
        self._by_name[name] = LoadedAdapter(
            number=next(self._numbers),
            digest=found.digest,
            name=name,
            path=path,
            base_model=found.base_model,
            weights=found.weights,
        )

    def check_name(self, name: str, *, replaces: bool = False) -> None:
        """Raise `RequestError` when no adapter can be added under this name."""
        if not 0 < len(name) <= MAX_NAME_CHARACTERS:
            raise RequestError(
                f"lora_name has {len(name)} characters; give 1 to {MAX_NAME_CHARACTERS}",
                parameter="lora_name",
            )
        if name in self._by_name and not replaces:
            raise RequestError(
                f"the adapter {name!r} is already loaded; unload it first, or load it in place",
                parameter="lora_name",
            )
        is_full = self._max_adapters is not None and len(self._by_name) >= self._max_adapters
        if is_full and name not in self._by_name:
            raise RequestError(
                f"{len(self._by_name)} adapters are loaded and max_cpu_loras="
                f"{self._max_adapters} allows no more; unload one first",
                parameter="lora_name",
            )

    def remove(self, name: str) -> None:
        """Drop a name; what runs or waits with the adapter keeps it until it ends.

        Raises:
            UnknownAdapter: no adapter has this name.
        """
        adapter = self.named(name, parameter="lora_name")
        del self._by_name[name]
        self._slots.drop(adapter.number)

    def named(self, name: str, *, parameter: str = "model") -> LoadedAdapter:
        """The adapter of this name.

        Raises:
            UnknownAdapter: there is none.
        """
        adapter = self._by_name.get(name)
        if adapter is None:
            raise UnknownAdapter(f"no adapter {name!r} is loaded", parameter=parameter)
        return adapter

    def seatable(self, waiting: Iterable[_Waiting]) -> Iterator[_Waiting]:
        """Those of a queue, oldest first, whose adapters find slots in one step.

        The first one that finds none holds back all younger ones with adapters: its own would else
        wait for ever behind a stream of requests for those that are seated.
        """
        seated = set(self._slots.held)
        is_full = False
        for one in waiting:
            adapter = one.adapter
            if adapter is not None:
                is_new = adapter.number not in seated
                is_full = is_full or (is_new and len(seated) == self._slots.num_slots)
                if is_full:
                    continue
                seated.add(adapter.number)
            yield one

    def seat(self, adapter: LoadedAdapter) -> int:
        """Hold a slot for a sequence that starts to run, with the weights of its adapter in it."""
        found = self._slots.hold(adapter.number)
        if found.is_new:
            self._memory.write(found.slot, adapter.weights)
            self.num_seatings += 1
        return found.slot

    def leave(self, adapter: LoadedAdapter) -> None:
        """A sequence stops to run."""
        self._slots.release(adapter.number)
        is_named = self._by_name.get(adapter.name) is adapter
        if not is_named:
            self._slots.drop(adapter.number)


def load_named(library: AdapterLibrary, modules: Iterable[tuple[str, str]]) -> None:
    """Load the adapters that an engine starts with, given as (name, path).

    Raises:
        InputError: one of them cannot be used; the sentence names it.
    """
    for name, path in modules:
        try:
            library.check_name(name)
            library.add(name, path, library.read(path))
        except InputError as error:
            raise InputError(f"the adapter {name!r} cannot be loaded: {error}") from error
