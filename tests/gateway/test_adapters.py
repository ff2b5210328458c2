"""Adapters at the API: asked for as models, listed with their parents, loaded and dropped."""

from dataclasses import replace
from typing import Any

import pytest

from banyan.engine.process.status import AdapterFacts
from banyan.foundation.errors import RequestError, UnknownAdapter
from tests.gateway.scripted import READY, ScriptedBackend, chat_body, completion_body, get, post

POEMS = AdapterFacts("poems", "/adapters/poems", "some/base")


def backend(**given: Any) -> ScriptedBackend:
    """A backend with one adapter."""
    assert READY.model is not None
    status = replace(READY, model=replace(READY.model, adapters=(POEMS,)))
    return ScriptedBackend(status=status, **given)


@pytest.mark.parametrize(
    ("path", "body"),
    [("/v1/chat/completions", chat_body()), ("/v1/completions", completion_body())],
)
def test_an_adapter_is_asked_for_as_a_model(path: str, body: dict[str, Any]) -> None:
    served = backend()
    for model, adapter in (("poems", "poems"), ("tiny", None)):
        reply = post(path, {**body, "model": model}, backend=served)
        assert reply.status_code == 200
        assert reply.json()["model"] == model
        assert served.contexts[-1].adapter == adapter


def test_an_unknown_adapter_is_a_model_that_is_not_there() -> None:
    reply = post("/v1/chat/completions", chat_body(model="prose"), backend=backend())
    assert reply.status_code == 404
    error = reply.json()["error"]
    assert error["code"] == "model_not_found"
    assert error["message"] == "the model 'prose' is not served here; ask for 'tiny', 'poems'"


def test_adapters_are_listed_with_their_parent() -> None:
    base, adapter = get("/v1/models", backend=backend()).json()["data"]
    assert (base["id"], base["root"], base["parent"]) == ("tiny", "tiny", None)
    assert adapter == {**base, "id": "poems", "root": "/adapters/poems", "parent": "tiny"}
    assert get("/v1/models/poems", backend=backend()).json() == adapter
    assert get("/v1/models/prose", backend=backend()).status_code == 404


def test_adapters_are_loaded_and_dropped_with_the_words_of_vllm() -> None:
    served = backend()
    body = {"lora_name": "prose", "lora_path": "/adapters/prose"}
    reply = post("/v1/load_lora_adapter", body, backend=served, may_change_adapters=True)
    assert (reply.status_code, reply.text) == (
        200,
        "Success: LoRA adapter 'prose' added successfully.",
    )
    again = {**body, "load_inplace": True}
    post("/v1/load_lora_adapter", again, backend=served, may_change_adapters=True)
    gone = {"lora_name": "poems", "lora_int_id": 1}
    reply = post("/v1/unload_lora_adapter", gone, backend=served, may_change_adapters=True)
    assert reply.text == "Success: LoRA adapter 'poems' removed successfully."
    assert served.changes == [
        ("prose", "/adapters/prose", False),
        ("prose", "/adapters/prose", True),
        ("poems", "", False),
    ]


@pytest.mark.parametrize(
    ("path", "body", "status", "sentence"),
    [
        ("load", {"lora_name": "tiny", "lora_path": "/x"}, 400, "the name of the model itself"),
        ("load", {"lora_name": " ", "lora_path": "/x"}, 400, "lora_name is empty; give a name"),
        ("load", {"lora_name": "a", "lora_path": ""}, 400, "lora_path is empty; give a path"),
        ("load", {"lora_name": "a", "lora_path": "a\0b"}, 400, "null character"),
        ("load", {"lora_name": "a"}, 400, "lora_path"),
        ("load", {"lora_name": "a", "lora_path": "/x", "base": 1}, 400, "base"),
        ("unload", {"lora_name": "prose"}, 404, "no adapter 'prose' is loaded"),
        ("unload", {"lora_name": 7}, 400, "lora_name"),
    ],
)
def test_a_wrong_request_is_refused_by_name(
    path: str, body: dict[str, Any], status: int, sentence: str
) -> None:
    served = backend()
    reply = post(f"/v1/{path}_lora_adapter", body, backend=served, may_change_adapters=True)
    assert reply.status_code == status
    assert sentence in reply.json()["error"]["message"]
    assert served.changes == []


def test_what_the_engine_refuses_is_told_with_its_field() -> None:
    served = backend(failure=RequestError("it is a pickle", parameter="lora_path"))
    body = {"lora_name": "prose", "lora_path": "/x"}
    reply = post("/v1/load_lora_adapter", body, backend=served, may_change_adapters=True)
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == "lora_path"


@pytest.mark.parametrize("path", ["load", "unload"])
def test_requests_change_no_adapters_unless_the_operator_lets_them(path: str) -> None:
    body = {"lora_name": "poems", "lora_path": "/x"}
    if path == "unload":
        del body["lora_path"]
    reply = post(f"/v1/{path}_lora_adapter", body, backend=backend())
    assert reply.status_code == 403
    assert "--enable-lora" in reply.json()["error"]["message"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("chat/completions", chat_body(model="poems")),
        ("completions", completion_body(model="poems")),
        ("chat/completions", chat_body(model="poems", stream=True)),
        ("responses", {"model": "poems", "input": "Hi"}),
    ],
)
def test_an_adapter_that_goes_before_the_engine_hears_of_it_is_not_there(
    path: str, body: dict[str, Any]
) -> None:
    gone = UnknownAdapter("no adapter 'poems' is loaded", parameter="model")
    reply = post(f"/v1/{path}", body, backend=backend(pieces=(), failure=gone))
    assert reply.status_code == 404
    assert reply.json()["error"] == {
        "message": "no adapter 'poems' is loaded",
        "type": "invalid_request_error",
        "param": "model",
        "code": "model_not_found",
    }
