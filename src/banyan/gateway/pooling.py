"""What all routes without generated text share: prompts cut or refused, and rows for them.

Called by the routes for embeddings, reranking, scores and classes.
"""

import struct
from collections.abc import Sequence

from banyan.engine.pooling.prompt import PoolingPrompt
from banyan.engine.process.status import ModelFacts
from banyan.gateway.errors import refuse
from banyan.gateway.services import Services, in_thread, new_id, split_prompts

# OpenAI's limit; SDKs and frameworks cut their lists by it.
_MOST_INPUTS = 2048

# Prompts of one command: a reader who leaves stops the rest, and a message stays small.
_PROMPTS_PER_COMMAND = 256


def longest_prompt(asked: int | None, model: ModelFacts) -> int:
    """Give the length to cut prompts to; without a wish none is cut, but the model's limit holds.

    Raises:
        ApiError: 400, the wish is no length or above the limit.
    """
    if asked is None or asked == -1:
        return model.max_model_len
    if not 1 <= asked <= model.max_model_len:
        raise refuse(
            f"truncate_prompt_tokens is {asked}; it must be from 1 to {model.max_model_len}, the "
            "most this model takes, or -1 for just that",
            parameter="truncate_prompt_tokens",
        )
    return asked


async def encode_inputs(
    services: Services,
    inputs: str | list[str | int | list[int]],
    *,
    cut_to: int | None,
    model: ModelFacts,
) -> list[PoolingPrompt]:
    """Turn an `input` field into prompts; with `cut_to` long ones are cut, else refused.

    Raises:
        ApiError: 400, a prompt is empty or too long.
    """
    longest = longest_prompt(cut_to, model)

    def encode() -> list[list[int]]:
        many = split_prompts(inputs, field_name="input", limit=_MOST_INPUTS)
        if cut_to is None:
            return [services.text.encode(one) if isinstance(one, str) else one for one in many]
        return [
            services.text.encode_cut(one, max_tokens=longest)
            if isinstance(one, str)
            else one[:longest]
            for one in many
        ]

    prompts = await in_thread(encode)
    for prompt in prompts:
        services.check_length(prompt, model=model, field_name="input")
    return [PoolingPrompt(tuple(prompt)) for prompt in prompts]


async def rows_of(
    services: Services,
    prompts: Sequence[PoolingPrompt],
    *,
    prefix: str,
    caller: str,
    arrived: float,
) -> list[bytes]:
    """Have the engine compute one row per prompt, in order; others come between the commands.

    `arrived` is when the request came, by `time.perf_counter()`.
    """
    rows: list[bytes] = []
    with services.metrics.whole(arrived=arrived, num_answers=len(prompts)):
        for start in range(0, len(prompts), _PROMPTS_PER_COMMAND):
            batch = prompts[start : start + _PROMPTS_PER_COMMAND]
            rows += await services.backend.pool(new_id(prefix), batch, caller=caller)
        services.metrics.note_pooled([len(prompt.token_ids) for prompt in prompts])
    return rows


def numbers_of(row: bytes) -> list[float]:
    """Read little-endian float32 bytes."""
    return list(struct.unpack(f"<{len(row) // 4}f", row))


def num_tokens(prompts: Sequence[PoolingPrompt]) -> int:
    """Count the tokens of all prompts."""
    return sum(len(prompt.token_ids) for prompt in prompts)
