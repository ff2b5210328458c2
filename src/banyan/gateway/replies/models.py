"""Replies of `GET /v1/models`."""

import msgspec


class ModelCard(msgspec.Struct, frozen=True, kw_only=True):
    """One model, as `GET /v1/models` lists it; `max_model_len` is vLLM's addition."""

    id: str
    object: str = "model"
    created: int
    owned_by: str = "banyan"
    max_model_len: int | None = None


class ModelList(msgspec.Struct, frozen=True, kw_only=True):
    """The reply of `GET /v1/models`."""

    object: str = "list"
    data: list[ModelCard]
