"""What follows an engine that ended by itself: keeping one alive is apart from choosing devices."""

import logging
from typing import Protocol

from banyan.engine.process.messages import EngineSettings, Failed

_logger = logging.getLogger(__name__)


class Recovery(Protocol):
    """Chooses what the next engine is built from."""

    async def after(
        self, died: Failed, settings: EngineSettings, *, has_served: bool
    ) -> EngineSettings:
        """Choose, after an engine ended that nobody told to.

        Args:
            died: why it ended.
            settings: what it was built from.
            has_served: whether it was ready before; else it could not even start.
        """
        ...


class SameAgain:
    """The same engine, again and again."""

    async def after(
        self, died: Failed, settings: EngineSettings, *, has_served: bool
    ) -> EngineSettings:
        """See `Recovery`."""
        del died, has_served
        return settings


async def settings_after(
    recovery: Recovery, died: Failed, settings: EngineSettings, has_served: bool
) -> EngineSettings:
    """What a recovery chooses; the same again where it fails, for some engine must follow."""
    try:
        return await recovery.after(died, settings, has_served=has_served)
    except Exception:  # whatever it is, nobody else would start an engine any more
        _logger.exception("what follows cannot be chosen; the same engine starts again")
        return settings
