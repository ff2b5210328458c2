"""Load and drop adapters while an engine serves: files are read in a thread, between its steps.

Owns the reads that are under way. Called by `process`, whose loop stays the only one to change the
library.
"""

import logging
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import takewhile

from banyan.engine.adapters.library import AdapterLibrary
from banyan.engine.adapters.memory import ReadAdapter
from banyan.engine.process.messages import LoadAdapter, UnloadAdapter
from banyan.engine.process.status import AdapterFacts
from banyan.foundation.errors import InputError, RequestError

_logger = logging.getLogger("banyan.engine")


@dataclass(frozen=True, slots=True)
class FinishedRead:
    """An adapter whose read has ended, one way or the other."""

    command: LoadAdapter
    found: "Future[ReadAdapter]"


class AdapterDesk:
    """Carries out commands about adapters; `library` is None for a model without room."""

    def __init__(self, library: AdapterLibrary | None) -> None:
        self._library = library
        self._reads: list[FinishedRead] = []
        self._threads: ThreadPoolExecutor | None = None

    @property
    def is_busy(self) -> bool:
        """True while files are read."""
        return bool(self._reads)

    def load(self, command: LoadAdapter) -> None:
        """Begin to read an adapter.

        Raises:
            RequestError: it would not be taken whatever its files hold.
        """
        library = self._open()
        library.check_name(command.name, replaces=command.replaces)
        # One thread: a disk is not faster with more, and memory is taken one by one.
        self._threads = self._threads or ThreadPoolExecutor(1, thread_name_prefix="adapters")
        found = self._threads.submit(library.read, command.path)
        self._reads.append(FinishedRead(command, found))

    def unload(self, command: UnloadAdapter) -> tuple[AdapterFacts, ...]:
        """Drop a name and return what is left.

        Raises:
            RequestError: no adapter has this name.
        """
        library = self._open()
        library.remove(command.name)
        return facts_of(library)

    def take_read(self) -> list[FinishedRead]:
        """The reads that have ended, each once, in the order in which they were asked for."""
        # Each is asked once: one that ends meanwhile is taken the next time.
        ended = list(takewhile(lambda read: read.found.done(), self._reads))
        self._reads = self._reads[len(ended) :]
        return ended

    def finish(self, read: FinishedRead) -> tuple[AdapterFacts, ...]:
        """Let requests name what was read, and return what is loaded then.

        Raises:
            RequestError: it cannot be used; names the field at fault.
        """
        library, command = self._open(), read.command
        try:
            found = read.found.result()
        except RequestError:
            raise
        except InputError as error:
            raise RequestError(str(error), parameter="lora_path") from error
        library.add(command.name, command.path, found, replaces=command.replaces)
        return facts_of(library)

    def close(self) -> None:
        """End the thread."""
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)

    def _open(self) -> AdapterLibrary:
        if self._library is None:
            raise RequestError(
                "this model has no room for adapters; start the server with --enable-lora",
                parameter="lora_name",
            )
        return self._library


def facts_of(library: AdapterLibrary) -> tuple[AdapterFacts, ...]:
    """What is told of the adapters that requests can name."""
    return tuple(
        AdapterFacts(adapter.name, adapter.path, adapter.base_model) for adapter in library.loaded
    )


def restore(library: AdapterLibrary, modules: Iterable[tuple[str, str]]) -> None:
    """Load the adapters of an engine that died, as far as their files are still there."""
    for name, path in modules:
        try:
            library.add(name, path, library.read(path))
        except InputError as error:
            _logger.warning("the adapter %r is not loaded again: %s", name, error)
