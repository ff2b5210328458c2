"""What every route works with, and the checks all of them begin with.

Owns no policy of its own. Built once by `app.create_app`; there are no globals.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, TypeVar
from uuid import uuid4

from banyan.engine.process.status import AdapterFacts, ModelFacts, ModelKind
from banyan.foundation.errors import EngineStopped
from banyan.gateway.backend import Backend, TextAndPairs
from banyan.gateway.errors import ApiError, refuse
from banyan.gateway.metrics.metrics import Metrics
from banyan.gateway.metrics.naming import Names
from banyan.gateway.records import RequestObserver
from banyan.models.classifier import Classifier
from banyan.models.vision.image_prompts import ImageLimits

Result = TypeVar("Result")

# What the compile report says that changes numbers; how long it took does not.
_FINGERPRINTED = ("device", "dtype", "quantization", "targets")

_MOST_NAMES_SHOWN = 5

_WORK: Mapping[ModelKind, str] = {
    "decoder": "writes text",
    "embedder": "makes embeddings",
    "classifier": "gives scores",
    "transcriber": "writes down speech",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewaySettings:
    """What an operator chooses about the API.

    Attributes:
        model_name: the name clients must ask for.
        created: when the model was made available, seconds since 1970.
        max_body_bytes: larger request bodies are refused with 413.
        max_prompts: most prompts of one completion request.
        max_answers: most answers of one request, over all of its prompts.
        sampling_defaults: values for `SamplingOptions` where a request says nothing.
        metric_names: whose names metrics have: ours, vLLM's where it has one, or both.
        may_change_adapters: let requests load and unload adapters, from paths of this machine.
        trust_request_chat_template: let requests bring a chat template of their own.
        classifier: the labels of a model that gives scores.
        max_sound_bytes: larger files of sound are refused with 413.
        tool_call_parser: how the model writes calls of tools, None when it calls none.
        reasoning_parser: how the model marks its reasoning, None when it writes none.
        image_limits: how much of images one request may bring.
    """

    model_name: str
    created: int
    max_body_bytes: int = 16 * 2**20
    max_prompts: int = 256
    max_answers: int = 1024
    sampling_defaults: Mapping[str, Any] = field(default_factory=dict)
    metric_names: Names = "both"
    may_change_adapters: bool = False
    trust_request_chat_template: bool = False
    classifier: Classifier | None = None
    max_sound_bytes: int = 25 * 2**20
    tool_call_parser: str | None = None
    reasoning_parser: str | None = None
    image_limits: ImageLimits = field(default_factory=ImageLimits)


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """The explicit dependencies of the routes."""

    backend: Backend
    text: TextAndPairs
    settings: GatewaySettings
    metrics: Metrics
    observers: tuple[RequestObserver, ...] = ()

    def adapter_of(self, name: str) -> str | None:
        """Return the adapter that a request's `model` means; None is the model itself.

        Raises:
            ApiError: 404, nothing of this name is served here.
        """
        if name == self.settings.model_name:
            return None
        if self.adapter_named(name) is not None:
            return name
        known = [self.settings.model_name, *(adapter.name for adapter in self.adapters())]
        shown = ", ".join(map(repr, known[:_MOST_NAMES_SHOWN]))
        raise ApiError(
            404,
            f"the model {name!r} is not served here; ask for {shown}",
            parameter="model",
            code="model_not_found",
        )

    def adapters(self) -> tuple[AdapterFacts, ...]:
        """Return the adapters that requests can name."""
        model = self.backend.status().model
        return () if model is None else model.adapters

    def adapter_named(self, name: str) -> AdapterFacts | None:
        """Return what is known of an adapter, None when there is none of this name."""
        return next((adapter for adapter in self.adapters() if adapter.name == name), None)

    def ready_model(self, *kinds: ModelKind) -> ModelFacts:
        """Return what is known of the model, once it was ready and where it is of one of the kinds.

        While no engine is there the backend lets a request wait for the next one, or refuses it.

        Raises:
            EngineStopped: it was never ready, or will not be again; the sentence says why.
            ApiError: 400, the model cannot do this.
        """
        status = self.backend.status()
        if status.state == "draining" or status.model is None:
            raise EngineStopped(f"{status.detail}; try again in a few seconds")
        if status.model.kind not in kinds:
            raise refuse(
                f"the model {self.settings.model_name!r} {_WORK[status.model.kind]} only; for "
                f"this, serve one that {' or '.join(_WORK[kind] for kind in kinds)}",
                parameter="model",
                code="unsupported_model",
            )
        return status.model

    def fingerprint(self) -> str | None:
        """Return what changes whenever equal seeds may give other tokens; None before loading."""
        model = self.backend.status().model
        if model is None:
            return None
        report = model.report
        known = [self.settings.model_name, model.max_model_len, *map(report.get, _FINGERPRINTED)]
        return f"fp_{sha256(repr(known).encode()).hexdigest()[:12]}"

    def classifier(self) -> Classifier:
        """Return the labels of a model that gives scores.

        Raises:
            ApiError: 400, the model has none.
        """
        if self.settings.classifier is None:
            raise refuse(
                f"the model {self.settings.model_name!r} has no labels to score",
                parameter="model",
                code="unsupported_model",
            )
        return self.settings.classifier

    async def encode(
        self,
        prompt: str | list[str | int | list[int]],
        *,
        field_name: str,
        limit: int,
        add_special_tokens: bool = True,
    ) -> list[list[int]]:
        """Turn a `prompt` or `input` field into one list of token ids per prompt, to a limit."""

        def tokens() -> list[list[int]]:
            prompts = split_prompts(prompt, field_name=field_name, limit=limit)
            return [
                self.text.encode(one, add_special_tokens=add_special_tokens)
                if isinstance(one, str)
                else one
                for one in prompts
            ]

        return await in_thread(tokens)

    def check_length(self, tokens: Sequence[int], *, model: ModelFacts, field_name: str) -> None:
        """Raise 400 when a prompt is empty or leaves no room in the context."""
        if not tokens:
            raise refuse(f"{field_name} is empty; send at least one token", parameter=field_name)
        longest = model.max_model_len - (model.kind == "decoder")
        if len(tokens) > longest:
            raise refuse(
                f"{field_name} has {len(tokens)} tokens, but the model takes at most {longest}; "
                "shorten it",
                parameter=field_name,
                code="context_length_exceeded",
            )

    def check_answers(self, *, num_prompts: int, num_choices: int) -> None:
        """Raise 400 when a request asks for more answers than may wait at once for one caller."""
        if num_prompts * num_choices > self.settings.max_answers:
            raise refuse(
                f"{num_prompts} prompts with n={num_choices} ask for {num_prompts * num_choices} "
                f"answers; one request gives at most {self.settings.max_answers}",
                parameter="n",
            )


async def in_thread(work: Callable[[], Result]) -> Result:
    """Run `work` (tokenizing, templates) beside the event loop."""
    return await asyncio.get_running_loop().run_in_executor(None, work)


def new_id(prefix: str, given: str | None = None) -> str:
    """Make an id such as `chatcmpl-1f0c...`, with the caller's own part if it gives one."""
    return f"{prefix}-{given or uuid4().hex}"


def now_seconds() -> int:
    """Return the time as replies carry it: whole seconds since 1970."""
    return int(time.time())


def split_prompts(
    prompt: str | list[str | int | list[int]], *, field_name: str, limit: int
) -> list[str | list[int]]:
    """Tell one prompt from a list of them; a list of numbers is one prompt of token ids."""
    if isinstance(prompt, str):
        return [prompt]
    if not prompt:
        raise refuse(f"{field_name} is an empty list; send one prompt", parameter=field_name)
    ids = [item for item in prompt if isinstance(item, int)]
    several = [item for item in prompt if not isinstance(item, int)]
    if ids and several:
        raise refuse(
            f"{field_name} mixes token ids with prompts; send either one list of token ids "
            "or a list of prompts",
            parameter=field_name,
        )
    if len(several) > limit:
        raise refuse(
            f"{field_name} has {len(several)} prompts; one request takes at most {limit}",
            parameter=field_name,
        )
    return several or [ids]
