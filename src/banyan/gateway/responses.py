"""`/v1/responses`: create, read, delete; conversations go on by `previous_response_id`."""

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import Response

from banyan.foundation.errors import BanyanError, RequestError
from banyan.gateway.answer_reading import AnswerReader
from banyan.gateway.body import read_body, unless_hung_up
from banyan.gateway.caller import caller_of_key
from banyan.gateway.chat_running import RunningChat, run_chat
from banyan.gateway.errors import ApiError, refuse, to_api_error
from banyan.gateway.event_stream import EventStream, Item
from banyan.gateway.generation import Part, begun
from banyan.gateway.logprobs import token_logprob
from banyan.gateway.replies.responses import (
    DeletedResponse,
    IncompleteDetails,
    InputItemList,
    InputTokensDetails,
    ResponseObject,
    ResponseProblem,
    ResponseUsage,
)
from banyan.gateway.response_input import (
    Message,
    chat_request,
    input_messages,
    output_messages,
    renamed,
)
from banyan.gateway.response_items import ResponseItems
from banyan.gateway.response_store import ResponseStore, StoredResponse
from banyan.gateway.services import Services, new_id, now_seconds
from banyan.gateway.token_spelling import TokenSpelling
from banyan.gateway.wire.parsing import parse_request
from banyan.gateway.wire.responses import InputItem, ResponsesRequest

_MOST_RESPONSES = 1000
_MOST_BYTES = 64 * 2**20


def response_routes(services: Services) -> APIRouter:
    """Build the router of this module."""
    router = APIRouter()
    store = ResponseStore(max_responses=_MOST_RESPONSES, max_bytes=_MOST_BYTES)

    @router.post("/v1/responses")
    async def create_response(request: Request) -> Response:
        return await _answer(services, store, request)

    @router.get("/v1/responses/{response_id}")
    async def read_response(request: Request, response_id: str) -> Response:
        reply = store.get(response_id, caller=caller_of_key(request)).reply
        return Response(reply, media_type="application/json")

    @router.delete("/v1/responses/{response_id}")
    async def delete_response(request: Request, response_id: str) -> Response:
        store.delete(response_id, caller=caller_of_key(request))
        return _json(DeletedResponse(id=response_id))

    @router.get("/v1/responses/{response_id}/input_items")
    async def list_input_items(request: Request, response_id: str) -> Response:
        found = store.get(response_id, caller=caller_of_key(request))
        items = msgspec.json.decode(found.input_items, type=list[dict[str, Any]])
        ids = [item["id"] for item in items]
        return _json(InputItemList(data=items, first_id=ids[0], last_id=ids[-1]))

    @router.post("/v1/responses/{response_id}/cancel")
    async def cancel_response(request: Request, response_id: str) -> Response:
        store.get(response_id, caller=caller_of_key(request))
        raise refuse(
            f"the response {response_id!r} is complete, and only one that runs in the background "
            "could be cancelled; close the connection to stop a running one",
            parameter="response_id",
        )

    return router


async def _answer(services: Services, store: ResponseStore, request: Request) -> Response:
    arrived = time.perf_counter()
    body = await read_body(request, limit_bytes=services.settings.max_body_bytes)
    asked = parse_request(body, ResponsesRequest)
    caller = caller_of_key(request)
    before: Sequence[Message] = ()
    if asked.previous_response_id is not None:
        found = store.get(
            asked.previous_response_id, caller=caller, parameter="previous_response_id"
        )
        before = msgspec.json.decode(found.messages, type=list[dict[str, Any]])
    messages = [*before, *input_messages(asked.input)]
    try:
        running = await run_chat(services, request, chat_request(asked, messages), arrived=arrived)
        parts = await unless_hung_up(request.receive, begun(running.parts))
    except (ApiError, RequestError) as error:
        raise renamed(error) from error
    spelling = TokenSpelling(services.text)
    made = _Making(asked, caller, messages, running, spelling, store)
    if asked.stream:
        return EventStream(made.events(parts), ending=None)
    return _json(await unless_hung_up(request.receive, made.whole(parts)))


@dataclass(slots=True)
class _Making:
    """One response in the making."""

    asked: ResponsesRequest
    caller: str
    messages: Sequence[Message]
    running: RunningChat
    spelling: TokenSpelling
    store: ResponseStore
    items: ResponseItems = field(default_factory=ResponseItems)
    response_id: str = field(default_factory=lambda: new_id("resp").replace("-", "_"))
    created: int = field(default_factory=now_seconds)
    num_events: int = 0

    async def whole(self, parts: AsyncGenerator[Part, None]) -> ResponseObject:
        """Gather the answer and return the response."""
        reader = AnswerReader(self.running.reading)
        async with aclosing(parts):
            async for part in parts:
                self._take(reader, part)
        return self._ended()

    async def events(self, parts: AsyncGenerator[Part, None]) -> AsyncGenerator[Item, None]:
        """Yield the events of the stream, each with its name."""
        reader = AnswerReader(self.running.reading)
        for name in ("response.created", "response.in_progress"):
            yield self._event({"type": name, "response": self._reply("in_progress")})
        try:
            async with aclosing(parts):
                async for part in parts:
                    for event in self._take(reader, part):
                        yield self._event(event)
        except BanyanError as error:
            failure = to_api_error(error)
            problem = ResponseProblem("server_error", failure.message)
            failed = msgspec.structs.replace(self._reply("failed"), error=problem)
            yield self._event({"type": "response.failed", "response": failed})
            return
        reply = self._ended()
        yield self._event({"type": f"response.{reply.status}", "response": reply})

    def _take(self, reader: AnswerReader, part: Part) -> list[dict[str, Any]]:
        """Take in more of the answer; returns the events that tell of it."""
        self.running.answers.add(part)
        event = part.event
        is_last = event.finish_reason is not None
        logprobs = [token_logprob(token, self.spelling) for token in event.logprobs or ()]
        found: list[dict[str, Any]] = []
        for delta in reader.deltas(event.text, is_last=is_last):
            found += self.items.add(delta, logprobs)
            logprobs = []
        if is_last:
            is_cut = event.finish_reason == "length"
            found += self.items.finish(status="incomplete" if is_cut else "completed")
        return found

    def _ended(self) -> ResponseObject:
        """Build the finished response and keep it when that is wanted."""
        answer = self.running.answers.items[0]
        is_cut = answer.finish_reason == "length"
        reply = msgspec.structs.replace(
            self._reply("incomplete" if is_cut else "completed"),
            completed_at=now_seconds(),
            incomplete_details=IncompleteDetails("max_output_tokens") if is_cut else None,
            usage=self._usage(),
        )
        if reply.store:
            messages = [*self.messages, *output_messages(reply.output)]
            self.store.put(
                StoredResponse(
                    response_id=reply.id,
                    caller=self.caller,
                    reply=msgspec.json.encode(reply),
                    input_items=msgspec.json.encode(_shown_input(self.asked.input)),
                    messages=msgspec.json.encode(messages),
                )
            )
        return reply

    def _usage(self) -> ResponseUsage:
        usage = self.running.answers.usage()
        cached = usage.prompt_tokens_details
        return ResponseUsage(
            input_tokens=usage.prompt_tokens,
            input_tokens_details=InputTokensDetails(cached.cached_tokens if cached else 0),
            output_tokens=usage.completion_tokens,
            total_tokens=usage.total_tokens,
        )

    def _reply(self, status: str) -> ResponseObject:
        asked, options = self.asked, self.running.options
        reasoning = None if asked.reasoning is None else asked.reasoning.effort
        shape = None if asked.text is None else asked.text.format
        return ResponseObject(
            id=self.response_id,
            created_at=self.created,
            status=status,
            instructions=asked.instructions,
            max_output_tokens=asked.max_output_tokens,
            model=asked.model,
            output=[msgspec.to_builtins(item) for item in self.items.done],
            parallel_tool_calls=asked.parallel_tool_calls is not False,
            previous_response_id=asked.previous_response_id,
            reasoning={"effort": reasoning, "summary": None},
            store=asked.store is not False,
            temperature=options.temperature,
            text={"format": {"type": "text"} if shape is None else _without_nulls(shape)},
            tool_choice=asked.tool_choice or "auto",
            tools=asked.tools or [],
            top_logprobs=asked.top_logprobs or 0,
            top_p=options.top_p,
            user=asked.user,
            metadata=asked.metadata or {},
        )

    def _event(self, event: dict[str, Any]) -> tuple[str, bytes]:
        numbered = {**event, "sequence_number": self.num_events}
        self.num_events += 1
        return event["type"], msgspec.json.encode(numbered)


def _shown_input(given: str | Sequence[InputItem]) -> list[dict[str, Any]]:
    items = [InputItem(role="user", content=given)] if isinstance(given, str) else given
    shown = []
    for item in items:
        told = _without_nulls(item)
        if isinstance(item.content, str):
            told["content"] = [{"type": "input_text", "text": item.content}]
        shown.append({"id": f"{item.type}_{uuid4().hex}", **told})
    return shown


def _without_nulls(value: msgspec.Struct) -> dict[str, Any]:
    told: dict[str, Any] = msgspec.to_builtins(value)
    return {name: item for name, item in told.items() if item is not None}


def _json(value: object) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")
