"""Which chunks of a stream carry the usage."""

from dataclasses import dataclass

import msgspec

from banyan.gateway.generation import Answers
from banyan.gateway.replies.usage import Usage
from banyan.gateway.wire.sampling_fields import SamplingFields


@dataclass(frozen=True, slots=True)
class StreamedUsage:
    """What `stream_options` asks for.

    Attributes:
        at_end: a last chunk without choices carries the usage, all others null.
        always: every chunk carries the usage so far.
    """

    at_end: bool
    always: bool

    @classmethod
    def asked_by(cls, asked: SamplingFields) -> "StreamedUsage":
        """Read `stream_options`; as in vLLM, `continuous_usage_stats` needs `include_usage`."""
        wish = asked.stream_options
        at_end = wish is not None and bool(wish.include_usage)
        return cls(at_end, at_end and wish is not None and bool(wish.continuous_usage_stats))

    def of_chunk(self, answers: Answers) -> Usage | None | msgspec.UnsetType:
        """Return the `usage` of a chunk that has choices."""
        if self.always:
            return answers.usage()
        return None if self.at_end else msgspec.UNSET
