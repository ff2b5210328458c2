"""Fields that say how tokens are chosen and streamed, shared by chat and plain completions."""

import msgspec

from banyan.gateway.wire.body import Seed, SmallInteger, TokenId
from banyan.gateway.wire.caller import CallerFields


class StreamOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a stream carries besides text."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class SamplingFields(CallerFields, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the next token is chosen and when to stop.

    `top_k`, `min_p`, `repetition_penalty`, `ignore_eos`, `min_tokens` and `stop_token_ids` are
    not OpenAI's; they have vLLM's names and meaning. `None` means the model's own default.
    """

    model: str
    max_tokens: SmallInteger | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: SmallInteger | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    seed: Seed | None = None
    stop: str | list[str] | None = None
    stop_token_ids: list[TokenId] | None = None
    ignore_eos: bool | None = None
    min_tokens: SmallInteger | None = None
    n: SmallInteger | None = None
    logit_bias: dict[str, float] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
