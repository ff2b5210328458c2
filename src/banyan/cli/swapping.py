"""Replace the model of a running server: another engine beside the old one, then new text too."""

import asyncio
import logging

from msgspec import structs

from banyan.cli.engine_choice import ServedEngine
from banyan.cli.served_text import ServedText, locate, open_text
from banyan.engine.process.status import ModelFacts
from banyan.foundation.errors import BanyanError, InputError

_logger = logging.getLogger("banyan.serve")


class ModelSwitch:
    """Changes engine and text together.

    Args:
        engine: serves.
        served: the text of the model that serves; its `text` is changed in place.
        model: as the operator named it; naming it again loads what is there by then.
        drain_seconds: how long running answers may go on in the old engine.
        offline: never ask a model hub.
    """

    def __init__(
        self,
        engine: ServedEngine,
        served: ServedText,
        *,
        model: str,
        drain_seconds: float,
        offline: bool,
    ) -> None:
        self._engine = engine
        self._served = served
        self._model = model
        self._drain_seconds = drain_seconds
        self._offline = offline
        self._reloading: set[asyncio.Task[None]] = set()

    async def swap(self, model: str | None) -> ModelFacts:
        """Serve another model, or the same one anew; the old one serves until that is ready.

        Raises:
            InputError: the model cannot be used, or reads text with another vocabulary.
            EngineStopped: the new engine died while it loaded.
        """
        name = model or self._model
        loop = asyncio.get_running_loop()
        opened = await loop.run_in_executor(None, self._open, name)
        if opened.vocabulary != self._served.vocabulary:
            raise InputError(
                f"{name} has another vocabulary than the model that is served, and requests under "
                "way are in tokens of that one; start another server for it"
            )
        settings = structs.replace(self._engine.settings, model=opened.location)
        facts = await self._engine.swap(settings, drain_seconds=self._drain_seconds)
        self._served.text.become(opened.text)
        self._model = name
        _logger.info("now serving %s", opened.location)
        return facts

    def reload(self) -> None:
        """Load the same model anew in the background; a failure is logged and changes nothing."""
        task = asyncio.get_running_loop().create_task(self._reload())
        self._reloading.add(task)
        task.add_done_callback(self._reloading.discard)

    async def _reload(self) -> None:
        try:
            await self.swap(None)
        except BanyanError as error:
            _logger.error("the model is not replaced: %s", error)

    def _open(self, name: str) -> ServedText:
        location = locate(name, offline=self._offline)
        options = self._engine.settings.options
        return open_text(
            location,
            offline=self._offline,
            task=options.task,
            max_image_tokens=options.max_image_tokens,
        )
