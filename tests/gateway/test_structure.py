import json
from typing import Any

import pytest

from banyan.engine.structure.definition import Structure
from tests.gateway.scripted import ScriptedBackend, chat_body, completion_body, post

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
SCHEMA = {"type": "object", "properties": {"b": {"type": "integer"}, "a": {"type": "null"}}}
TAG = {"structures": [{"begin": "<f>", "schema": {}, "end": "</f>"}], "triggers": ["<f"]}


def asked(path: str, **fields: Any) -> Structure | None:
    """Return the structure that reaches the engine."""
    backend = ScriptedBackend()
    body = chat_body(**fields) if path == CHAT else completion_body(**fields)
    reply = post(path, body, backend=backend)
    assert reply.status_code == 200, reply.text
    return backend.seen[0][1].structure


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
@pytest.mark.parametrize(
    ("fields", "structure"),
    [
        ({"response_format": {"type": "text"}}, None),
        ({"response_format": {"type": "json_object"}}, Structure.json_object()),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "x", "strict": True, "schema": SCHEMA},
                }
            },
            Structure.json_schema(SCHEMA),
        ),
        ({"response_format": {"type": "structural_tag"} | TAG}, Structure.structural_tag(TAG)),
        ({"guided_json": SCHEMA}, Structure.json_schema(SCHEMA)),
        ({"guided_json": json.dumps(SCHEMA)}, Structure.json_schema(SCHEMA)),
        ({"guided_regex": "a+"}, Structure.regex("a+")),
        ({"guided_choice": ["a", "b"]}, Structure.choice(["a", "b"])),
        ({"guided_grammar": 'root ::= "a"'}, Structure.grammar('root ::= "a"')),
        ({"guided_json_object": True}, Structure.json_object()),
        ({"structural_tag": json.dumps(TAG)}, Structure.structural_tag(TAG)),
        ({"guided_decoding_backend": "xgrammar", "guided_json_object": False}, None),
        (
            {"structured_outputs": {"json": SCHEMA, "disable_any_whitespace": True}},
            Structure.json_schema(SCHEMA, any_whitespace=False),
        ),
        ({"structured_outputs": {"regex": "a+"}}, Structure.regex("a+")),
        ({"structured_outputs": {"choice": ["a"]}}, Structure.choice(["a"])),
        ({"structured_outputs": {"grammar": 'start: "a"'}}, Structure.grammar('start: "a"')),
        ({"structured_outputs": {"json_object": True}}, Structure.json_object()),
        (
            {"structured_outputs": {"structural_tag": json.dumps(TAG)}},
            Structure.structural_tag(TAG),
        ),
        ({"structured_outputs": {}}, None),
    ],
)
def test_the_shape_asked_for_reaches_the_engine(
    path: str, fields: dict[str, Any], structure: Structure | None
) -> None:
    assert asked(path, **fields) == structure


def test_properties_keep_their_order() -> None:
    structure = asked(CHAT, guided_json=SCHEMA)
    assert structure is not None
    assert list(json.loads(structure.text)["properties"]) == ["b", "a"]


@pytest.mark.parametrize(
    ("fields", "parameter", "said"),
    [
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"schema": {"properties": {"a": {"not": {}}}}},
                }
            },
            "response_format.json_schema.schema",
            "at /properties/a/not: the keyword 'not' cannot be enforced",
        ),
        ({"guided_json": {"type": "int"}}, "guided_json", "at /type: 'int' is no type"),
        ({"guided_json": "{"}, "guided_json", "at line 1 column 2: it is no JSON"),
        ({"guided_regex": "("}, "guided_regex", "unclosed group"),
        (
            {"structured_outputs": {"grammar": "start: a"}},
            "structured_outputs.grammar",
            'name: "a"',
        ),
        ({"guided_choice": []}, "guided_choice", "choice has 0 texts"),
        (
            {"response_format": {"type": "xml"}},
            "response_format.type",
            "'xml'; use one of text, json_object, json_schema, structural_tag",
        ),
        (
            {"response_format": {"type": "json_schema"}},
            "response_format.json_schema.schema",
            "is missing",
        ),
        (
            {"response_format": {"type": "json_object"}, "guided_regex": "a"},
            "guided_regex",
            "response_format and guided_regex each ask for a shape",
        ),
        ({"guided_whitespace_pattern": " ?"}, "guided_whitespace_pattern", "is not served"),
    ],
)
def test_a_shape_that_cannot_be_kept_is_refused_with_its_place(
    fields: dict[str, Any], parameter: str, said: str
) -> None:
    backend = ScriptedBackend()
    reply = post(CHAT, chat_body(**fields), backend=backend)
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == parameter
    assert said in reply.json()["error"]["message"]
    assert not backend.seen
