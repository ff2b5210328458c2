"""Run one chat request on the engine: what chat and responses share before they shape a reply."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from functools import partial

from starlette.requests import Request

from banyan.engine.sampling import SamplingOptions
from banyan.gateway.caller import request_context
from banyan.gateway.chat_prompt import chat_prompt
from banyan.gateway.errors import refuse
from banyan.gateway.generation import Answers, Part, cut_prompt, run_prompts
from banyan.gateway.rendering import rendering_of
from banyan.gateway.sampling import chat_options
from banyan.gateway.services import Services, in_thread, new_id
from banyan.gateway.structure import checked_structure
from banyan.gateway.tool_calling import AnswerReading, answer_reading, shaped_options
from banyan.gateway.wire.chat import ChatRequest


@dataclass(frozen=True, slots=True)
class RunningChat:
    """A chat request that the engine is about to be given.

    Attributes:
        prompt_token_ids: the conversation as the model sees it.
        options: how tokens are chosen.
        reading: how the text of an answer is taken apart.
        parts: the answers as they come; asking for the first part sends the request.
        answers: where they are gathered.
    """

    prompt_token_ids: list[int]
    options: SamplingOptions
    reading: AnswerReading
    parts: AsyncGenerator[Part, None]
    answers: Answers


async def run_chat(
    services: Services, request: Request, asked: ChatRequest, *, arrived: float
) -> RunningChat:
    """Check a chat request and make it ready to run.

    Raises:
        BanyanError: it cannot be served; the sentence says why.
    """
    adapter = services.adapter_of(asked.model)
    context = request_context(asked, request, adapter=adapter)
    structure = await checked_structure(asked)
    encode = partial(services.text.encode, add_special_tokens=False)
    options = await in_thread(
        lambda: chat_options(asked, services.settings.sampling_defaults, structure, encode=encode)
    )
    model = services.ready_model("decoder")
    rendering = rendering_of(asked, services.settings)
    tokens, media = await chat_prompt(services, asked.messages, rendering)
    if media and asked.truncate_prompt_tokens is not None:
        raise refuse(
            "truncate_prompt_tokens cannot cut a conversation with images; leave it out",
            parameter="truncate_prompt_tokens",
        )
    tokens = cut_prompt(
        tokens, asked.truncate_prompt_tokens, model=model, max_tokens=options.max_tokens
    )
    services.check_length(tokens, model=model, field_name="messages")
    reading = answer_reading(asked, tokens, settings=services.settings, text=services.text)
    options = await shaped_options(asked, options, reading, services.text)
    parts = run_prompts(
        services,
        [tokens],
        [options],
        request_id=new_id("chatcmpl"),
        arrived=arrived,
        context=context,
        media=media,
    )
    answers = Answers(num_prompts=1, num_choices=options.n)
    return RunningChat(tokens, options, reading, parts, answers)
