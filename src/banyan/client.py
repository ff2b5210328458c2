"""A typed client of Banyan's HTTP API, with the standard library only.

Owns the calling side of the API for our own programs: the command line today, console and apps
later. Knows nothing of engines or models. Each call opens a connection of its own, so that
threads may share a client.
"""

import json
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any
from urllib.parse import urlsplit

from banyan.foundation.errors import (
    BanyanError,
    EngineStopped,
    EnvironmentProblem,
    InputError,
    RequestError,
)

_CHAT = "/v1/chat/completions"
_NOT_FOUND = 404


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation; `role` is system, user or assistant."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens read and written for one request."""

    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class Answer:
    """One finished answer of a chat or a completion."""

    text: str
    finish_reason: str
    usage: Usage


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a streamed answer; `usage` comes with the last one."""

    text: str
    finish_reason: str | None = None
    usage: Usage | None = None


@dataclass(frozen=True, slots=True)
class Model:
    """A model the server offers; the length is known once it is loaded."""

    name: str
    max_model_len: int | None


@dataclass(frozen=True, slots=True)
class Swapped:
    """The model that serves after a swap: what it is for, and its longest prompt plus answer."""

    kind: str
    max_model_len: int


@dataclass(frozen=True, slots=True)
class ServingDevice:
    """A device of a server's inventory.

    Attributes:
        name: in the inventory.
        state: ready, lost or drained.
        is_used: the model has work on it.
        detail: why it cannot be used; empty where it can.
        slowdown: how many times longer than planned its steps take.
    """

    name: str
    state: str
    is_used: bool
    detail: str
    slowdown: float


@dataclass(frozen=True, slots=True)
class Health:
    """What the server says of itself; `status` is ready, loading or stopped."""

    status: str
    detail: str


class Client:
    """The API at one address.

    Args:
        url: where the server is, such as "http://127.0.0.1:8000"; a trailing "/v1" is fine.
        timeout_seconds: longest silence of the server before a call gives up.
    """

    def __init__(self, url: str, *, timeout_seconds: float = 600.0) -> None:
        if not _is_address(url):
            raise InputError(f"{url!r} is not an address; give one such as http://127.0.0.1:8000")
        self.url = url.rstrip("/").removesuffix("/v1")
        self._parts = urlsplit(self.url)
        self._timeout_seconds = timeout_seconds

    def health(self) -> Health:
        """Ask whether requests are served; a loading server is an answer, not an error."""
        with self._exchange("GET", "/health", None) as response:
            reply = _parsed(response.read())
        return Health(str(reply["status"]), str(reply["detail"]))

    def metrics(self) -> str:
        """Return the server's counters in Prometheus' text format."""
        with self._answered("GET", "/metrics", None) as response:
            return response.read().decode()

    def report(self) -> dict[str, Any]:
        """Return what was compiled, for which device."""
        return self._call("GET", "/v1/banyan/report", None)

    def models(self) -> list[Model]:
        """List the models the server offers."""
        reply = self._call("GET", "/v1/models", None)
        return [Model(card["id"], card.get("max_model_len")) for card in reply["data"]]

    def chat(
        self, messages: Sequence[Message], *, model: str, options: Mapping[str, Any] | None = None
    ) -> Answer:
        """Answer a conversation; `options` are fields of the API, such as `temperature`."""
        reply = self._call("POST", _CHAT, _chat_body(messages, model, options))
        choice = reply["choices"][0]
        return Answer(choice["message"]["content"], choice["finish_reason"], _usage(reply["usage"]))

    def stream_chat(
        self, messages: Sequence[Message], *, model: str, options: Mapping[str, Any] | None = None
    ) -> Generator[Piece, None, None]:
        """Answer a conversation piece by piece; closing the generator stops the answer."""
        body = _chat_body(messages, model, options)
        body |= {"stream": True, "stream_options": {"include_usage": True}}
        with self._answered("POST", _CHAT, body) as response:
            for data in _events(response):
                usage = _usage(data["usage"]) if data.get("usage") else None
                choices = data["choices"] or [{"delta": {}, "finish_reason": None}]
                text = choices[0]["delta"].get("content") or ""
                yield Piece(text, choices[0]["finish_reason"], usage)

    def complete(
        self, prompt: str | Sequence[int], *, model: str, options: Mapping[str, Any] | None = None
    ) -> Answer:
        """Continue a text or a list of token ids."""
        prompt = prompt if isinstance(prompt, str) else list(prompt)
        body = {**(options or {}), "model": model, "prompt": prompt}
        reply = self._call("POST", "/v1/completions", body)
        choice = reply["choices"][0]
        return Answer(choice["text"], choice["finish_reason"], _usage(reply["usage"]))

    def embed(self, texts: Sequence[str], *, model: str) -> list[list[float]]:
        """Return one vector per text."""
        body = {"model": model, "input": list(texts)}
        reply = self._call("POST", "/v1/embeddings", body)
        return [item["embedding"] for item in reply["data"]]

    def swap(self, model: str | None = None) -> Swapped:
        """Replace the model that is served, None by itself from its files; waits until it serves.

        Raises:
            RequestError: the server allows no swaps, or cannot serve that model.
            EngineStopped: the new engine died while it loaded.
        """
        with self._exchange("POST", "/v1/admin/swap", {"model": model}) as response:
            payload = response.read()
            if response.status == _NOT_FOUND:
                raise RequestError(
                    f"the server at {self.url} lets nobody replace its model; start it with "
                    "--allow-swap, or send its process SIGHUP to load the same model anew"
                )
            if response.status >= 400:
                raise _error(response.status, payload)
        reply = _parsed(payload)
        return Swapped(str(reply["kind"]), int(reply["max_model_len"]))

    def devices(self) -> list[ServingDevice]:
        """List the devices that the server plans over, and how they are.

        Raises:
            RequestError: the server has no inventory, or tells nobody.
        """
        return self._devices("GET", "", None)

    def drain(self, device: str) -> list[ServingDevice]:
        """Move all work off a device; waits until nothing runs there, and lists all devices.

        Raises:
            RequestError: as `devices`, or there is no such device, or the others have no room.
            EngineStopped: the engine is not there now.
        """
        return self._devices("POST", "/drain", {"device": device})

    def undrain(self, device: str) -> list[ServingDevice]:
        """Let a drained device work again, or look for a lost one now; raises as `drain`."""
        return self._devices("POST", "/undrain", {"device": device})

    def _devices(
        self, method: str, what: str, body: Mapping[str, Any] | None
    ) -> list[ServingDevice]:
        with self._exchange(method, f"/v1/admin/devices{what}", body) as response:
            payload = response.read()
            if response.status == _NOT_FOUND:
                raise RequestError(
                    f"the server at {self.url} lets nobody drain its devices; start it with "
                    "--plan-devices and --allow-drain"
                )
            if response.status >= 400:
                raise _error(response.status, payload)
        return [ServingDevice(**each) for each in _parsed(payload)["devices"]]

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None) -> dict[str, Any]:
        with self._answered(method, path, body) as response:
            return _parsed(response.read())

    @contextmanager
    def _answered(
        self, method: str, path: str, body: Mapping[str, Any] | None
    ) -> Iterator[HTTPResponse]:
        """Exchange, and raise the error that the server answered with."""
        with self._exchange(method, path, body) as response:
            if response.status >= 400:
                raise _error(response.status, response.read())
            yield response

    @contextmanager
    def _exchange(
        self, method: str, path: str, body: Mapping[str, Any] | None
    ) -> Iterator[HTTPResponse]:
        kind = HTTPSConnection if self._parts.scheme == "https" else HTTPConnection
        connection = kind(
            str(self._parts.hostname), self._parts.port, timeout=self._timeout_seconds
        )
        payload = None if body is None else json.dumps(body).encode()
        headers = {} if body is None else {"Content-Type": "application/json"}
        try:
            connection.request(method, self._parts.path + path, body=payload, headers=headers)
            yield connection.getresponse()
        except ConnectionRefusedError as error:
            raise EnvironmentProblem(
                f"no server answers at {self.url}; start one with: banyan serve"
            ) from error
        except (OSError, HTTPException) as error:
            raise EnvironmentProblem(
                f"the connection to {self.url} failed: {error or type(error).__name__}"
            ) from error
        finally:
            connection.close()


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        has_place = bool(parts.hostname) and parts.port != 0
    except ValueError:  # half an IPv6 address, a port out of range
        return False
    return parts.scheme in {"http", "https"} and has_place and url.isprintable() and " " not in url


def _chat_body(
    messages: Sequence[Message], model: str, options: Mapping[str, Any] | None
) -> dict[str, Any]:
    turns = [{"role": message.role, "content": message.content} for message in messages]
    return {**(options or {}), "model": model, "messages": turns}


def _usage(reply: Mapping[str, int]) -> Usage:
    return Usage(reply["prompt_tokens"], reply["completion_tokens"])


def _parsed(payload: bytes) -> dict[str, Any]:
    try:
        reply = json.loads(payload)
    except ValueError as error:
        raise BanyanError("the server's reply is not JSON; is it a Banyan server?") from error
    if not isinstance(reply, dict):
        raise BanyanError("the server's reply is not a JSON object; is it a Banyan server?")
    return reply


def _events(response: HTTPResponse) -> Iterator[dict[str, Any]]:
    """Yield the objects of a stream of server-sent events.

    Raises:
        BanyanError: the server reported a failure, or the stream broke off.
    """
    for line in response:
        data = line.strip().removeprefix(b"data: ")
        if data == b"[DONE]":
            return
        if data:
            event = _parsed(data)
            if "error" in event:
                raise _error(500, data)
            yield event
    raise EngineStopped("the server broke the answer off; ask again")


def _error(status: int, payload: bytes) -> BanyanError:
    try:
        detail = json.loads(payload)["error"]
        message, parameter = str(detail["message"]), detail.get("param")
    except (ValueError, KeyError, TypeError, AttributeError):
        message, parameter = f"the server answered with status {status}", None
    if status == 503:
        return EngineStopped(message)
    if status < 500:
        return RequestError(message, parameter=parameter)
    return BanyanError(message)
