"""`POST /v1/chat/completions`.

Owns the shape of chat replies and streams; everything else is in `generation` and `sampling`.
"""

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import Response

from banyan.engine.events import TokenLogprob
from banyan.gateway.backend import TextModel
from banyan.gateway.body import read_body, unless_hung_up
from banyan.gateway.caller import request_context
from banyan.gateway.errors import refuse
from banyan.gateway.event_stream import EventStream
from banyan.gateway.generation import Answers, Part, begun, gather_answers, run_prompts
from banyan.gateway.logprobs import token_logprob
from banyan.gateway.replies.chat import (
    AnswerMessage,
    ChatChoice,
    ChatChunk,
    ChatChunkChoice,
    ChatCompletion,
    ChatDelta,
    ChatLogprobs,
)
from banyan.gateway.replies.usage import Usage
from banyan.gateway.sampling import chat_options
from banyan.gateway.services import Services, in_thread, new_id, now_seconds
from banyan.gateway.structure import checked_structure
from banyan.gateway.wire.chat import ChatRequest
from banyan.gateway.wire.messages import message_text
from banyan.gateway.wire.parsing import parse_request


def chat_routes(services: Services) -> APIRouter:
    """Build the router of this module."""
    router = APIRouter()

    @router.post("/v1/chat/completions")
    async def create_chat_completion(request: Request) -> Response:
        return await _answer(services, request)

    return router


async def _answer(services: Services, request: Request) -> Response:
    arrived = time.perf_counter()
    body = await read_body(request, limit_bytes=services.settings.max_body_bytes)
    asked = parse_request(body, ChatRequest)
    if asked.stream_options is not None and not asked.stream:
        raise refuse("stream_options needs stream=true", parameter="stream_options")
    adapter = services.adapter_of(asked.model)
    context = request_context(asked, request, adapter=adapter)
    structure = await checked_structure(asked)
    options = chat_options(asked, services.settings.sampling_defaults, structure)
    model = services.ready_model("decoder")
    messages = _messages(asked)
    tokens = await in_thread(lambda: services.text.encode_chat(messages))
    services.check_length(tokens, model=model, field_name="messages")

    reply = _ChatReply(new_id("chatcmpl"), now_seconds(), asked.model, services.text)
    parts = run_prompts(
        services, [tokens], [options], request_id=reply.request_id, arrived=arrived, context=context
    )
    answers = Answers(num_prompts=1, num_choices=options.n)
    if asked.stream:
        with_usage = asked.stream_options is not None and bool(asked.stream_options.include_usage)
        started = await unless_hung_up(request.receive, begun(parts))
        return EventStream(reply.chunks(started, answers, with_usage=with_usage))
    finished = await unless_hung_up(request.receive, gather_answers(parts, answers))
    return Response(msgspec.json.encode(reply.completion(finished)), media_type="application/json")


def _messages(asked: ChatRequest) -> list[dict[str, str]]:
    """Give templates what they know: `developer` is what newer clients call `system`."""
    return [
        {
            "role": "system" if message.role == "developer" else message.role,
            "content": message_text(message),
        }
        for message in asked.messages
    ]


@dataclass(frozen=True, slots=True)
class _ChatReply:
    """Turns answers into the reply or the stream of one request."""

    request_id: str
    created: int
    model: str
    text: TextModel

    def completion(self, answers: Answers) -> ChatCompletion:
        choices = [
            ChatChoice(
                index=index,
                message=AnswerMessage(content=answer.text),
                logprobs=self._logprobs(answer.logprobs),
                finish_reason=answer.finish_reason,
            )
            for index, answer in enumerate(answers.items)
        ]
        return ChatCompletion(
            id=self.request_id,
            created=self.created,
            model=self.model,
            choices=choices,
            usage=answers.usage(),
        )

    async def chunks(
        self, parts: AsyncGenerator[Part, None], answers: Answers, *, with_usage: bool
    ) -> AsyncGenerator[bytes, None]:
        no_usage = None if with_usage else msgspec.UNSET
        async with aclosing(parts):
            for index in range(len(answers.items)):
                opening = ChatDelta(role="assistant", content="")
                yield self._chunk([ChatChunkChoice(index=index, delta=opening)], no_usage)
            async for part in parts:
                answers.add(part)
                for choice in self._choices(part):
                    yield self._chunk([choice], no_usage)
        if with_usage:
            yield self._chunk([], answers.usage())

    def _choices(self, part: Part) -> list[ChatChunkChoice]:
        """Split a part as OpenAI does: the text first, the end in a chunk of its own."""
        event = part.event
        choices = []
        if event.text or event.logprobs:
            delta = ChatDelta(content=event.text)
            logprobs = self._logprobs(event.logprobs or ())
            choices.append(ChatChunkChoice(index=part.index, delta=delta, logprobs=logprobs))
        if event.finish_reason is not None:
            choices.append(
                ChatChunkChoice(
                    index=part.index, delta=ChatDelta(), finish_reason=event.finish_reason
                )
            )
        return choices

    def _chunk(
        self, choices: list[ChatChunkChoice], usage: Usage | None | msgspec.UnsetType
    ) -> bytes:
        return msgspec.json.encode(
            ChatChunk(
                id=self.request_id,
                created=self.created,
                model=self.model,
                choices=choices,
                usage=usage,
            )
        )

    def _logprobs(self, tokens: Sequence[TokenLogprob]) -> ChatLogprobs | None:
        if not tokens:
            return None
        return ChatLogprobs([token_logprob(token, self.text) for token in tokens])
