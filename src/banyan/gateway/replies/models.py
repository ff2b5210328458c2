"""Replies of `GET /v1/models`."""

import msgspec


class ModelCard(msgspec.Struct, frozen=True, kw_only=True):
    """One model or adapter, as `GET /v1/models` lists it; the last three fields are vLLM's.

    `root` is where an adapter was read, and the model's own name for the model; `parent` names the
    model that an adapter changes.
    """

    id: str
    object: str = "model"
    created: int
    owned_by: str = "banyan"
    max_model_len: int | None = None
    root: str | None = None
    parent: str | None = None


class ModelList(msgspec.Struct, frozen=True, kw_only=True):
    """The reply of `GET /v1/models`."""

    object: str = "list"
    data: list[ModelCard]
