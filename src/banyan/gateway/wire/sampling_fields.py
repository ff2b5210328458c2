"""Fields that say how tokens are chosen and streamed, shared by chat and plain completions."""

from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec

from banyan.gateway.errors import refuse
from banyan.gateway.wire.body import Seed, SmallInteger, TokenId
from banyan.gateway.wire.caller import CallerFields


class StreamOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a stream carries besides text; `continuous_usage_stats` is vLLM's."""

    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None
    include_obfuscation: bool | None = None


class SamplingFields(CallerFields, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the next token is chosen, when to stop, and what is told of the tokens.

    OpenAI's are `temperature`, `top_p`, the penalties, `seed`, `stop`, `n`, `logit_bias`,
    `stream` and its options; the others have vLLM's names and meaning. `None` means the model's
    own default.
    """

    not_served: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "use_beam_search": (False,),
        "length_penalty": (1.0,),
        "logits_processors": ([],),
        "kv_transfer_params": ({},),
        "vllm_xargs": ({},),
        "ec_transfer_params": ({},),
        "logprob_token_ids": ([],),
        "repetition_detection": (),
        "thinking_token_budget": (),
        "truncation_side": ("left",),
    }

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
    allowed_token_ids: list[TokenId] | None = None
    bad_words: list[str] | None = None
    include_stop_str_in_output: bool | None = None
    skip_special_tokens: bool | None = None
    prompt_logprobs: SmallInteger | None = None
    truncate_prompt_tokens: SmallInteger | None = None
    return_token_ids: bool | None = None
    return_tokens_as_token_ids: bool | None = None
    request_id: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    use_beam_search: bool | None = None
    length_penalty: float | None = None
    logits_processors: Any = None
    kv_transfer_params: Any = None
    vllm_xargs: Any = None
    ec_transfer_params: Any = None
    logprob_token_ids: Any = None
    repetition_detection: Any = None
    thinking_token_budget: Any = None
    # A prompt that is cut keeps its last tokens, which is vLLM's default, too.
    truncation_side: str | None = None
    # Accepted without effect: it has one only for tokenizers written in Python.
    spaces_between_special_tokens: bool | None = None

    def check(self) -> None:
        """Refuse options of a stream where there is none, and prompts cut to nothing."""
        super().check()
        if self.stream_options is not None and not self.stream:
            raise refuse("stream_options needs stream=true", parameter="stream_options")
        if self.stream and self.prompt_logprobs is not None:
            raise refuse(
                "prompt_logprobs cannot be streamed; set stream to false",
                parameter="prompt_logprobs",
            )
        cut = self.truncate_prompt_tokens
        if cut is not None and cut != -1 and cut < 1:
            raise refuse(
                f"truncate_prompt_tokens={cut} cannot be used; give 1 or more, or -1 for as many "
                "as fit",
                parameter="truncate_prompt_tokens",
            )
