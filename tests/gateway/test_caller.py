import asyncio

import pytest

from banyan.engine.request_context import RequestContext
from banyan.gateway.caller import caller_name
from tests.gateway.scripted import ScriptedBackend, chat_body, completion_body, connect, post


def test_nobody_in_particular_has_no_name() -> None:
    assert caller_name("", "") == ""


def test_callers_differ_by_key_and_by_user_and_their_keys_cannot_be_read() -> None:
    names = {caller_name("a", "bc"), caller_name("ab", "c"), caller_name("", "abc")}
    assert len(names) == 3
    assert "key" not in caller_name("key", "user")


@pytest.mark.parametrize(
    ("path", "body"),
    [("/v1/chat/completions", chat_body), ("/v1/completions", completion_body)],
)
def test_the_engine_is_told_who_asks_and_how_urgently(path: str, body: object) -> None:
    backend = ScriptedBackend()
    assert callable(body)
    fields = {"user": "ann", "priority": -3, "cache_salt": "s", "deadline_seconds": 2.5}
    assert post(path, body(**fields), backend=backend).status_code == 200
    assert backend.contexts == [
        RequestContext(
            priority=-3,
            deadline_seconds=2.5,
            caller=caller_name("", "ann"),
            cache_salt=caller_name("", "s"),
        )
    ]


@pytest.mark.parametrize(
    ("field", "value"), [("deadline_seconds", 0), ("cache_salt", "s" * 257), ("priority", 2**31)]
)
def test_an_impossible_context_is_refused_by_name(field: str, value: object) -> None:
    reply = post("/v1/chat/completions", chat_body(**{field: value}))
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == field


def test_whoever_guesses_a_salt_shares_no_prompts_without_the_key() -> None:
    backend = ScriptedBackend()

    async def exchange() -> None:
        async with connect(backend) as client:
            for key in ("one", "one", "two", ""):
                headers = {"authorization": f"Bearer {key}"} if key else {}
                for salt in ({"cache_salt": "acme"}, {}):
                    reply = await client.post(
                        "/v1/chat/completions", json=chat_body(**salt), headers=headers
                    )
                    assert reply.status_code == 200

    asyncio.run(exchange())
    salts = [context.cache_salt for context in backend.contexts]
    assert salts[:2] == salts[2:4]
    assert len(set(salts)) == 6
