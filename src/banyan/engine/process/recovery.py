"""What follows an engine that ended by itself: keeping one alive is apart from choosing devices."""

from typing import Protocol

from banyan.engine.process.messages import EngineSettings, Failed


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
