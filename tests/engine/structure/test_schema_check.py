from typing import Any

import pytest

from banyan.engine.structure.schema_check import MAX_DEPTH, MAX_SCHEMAS, SchemaError, check_schema


@pytest.mark.parametrize(
    ("schema", "pointer"),
    [
        ({"not": {}}, "/not"),
        ({"properties": {"a/b": {"uniqueItems": True}}}, "/properties/a~1b/uniqueItems"),
        ({"anyOf": [{}, {"if": {}}]}, "/anyOf/1/if"),
        ({"$defs": {"x~y": {"contains": {}}}}, "/$defs/x~0y/contains"),
        ({"items": {"prefixItems": [{"propertyNames": {}}]}}, "/items/prefixItems/0/propertyNames"),
        (
            {"additionalProperties": {"dependentRequired": {}}},
            "/additionalProperties/dependentRequired",
        ),
        ({"patternProperties": {"^a": {"else": {}}}}, "/patternProperties/^a/else"),
        ({"type": "strin"}, "/type"),
        ({"type": []}, "/type"),
        ({"type": "string", "format": "colour"}, "/format"),
        ({"required": "a"}, "/required"),
        ({"minLength": -1}, "/minLength"),
        ({"minimum": "3"}, "/minimum"),
        ({"multipleOf": 0}, "/multipleOf"),
        ({"enum": []}, "/enum"),
        ({"items": [{}]}, "/items"),
        ({"minLength": 3, "maxLength": 2}, "/minLength"),
        ({"$ref": "https://example.org/schema"}, "/$ref"),
        ({"$ref": "#/$defs/a", "$defs": {}}, "/$ref"),
        ({"anyOf": [3]}, "/anyOf/0"),
        ({"properties": []}, "/properties"),
        ({"minProperties": 2}, "/minProperties"),
        (3, ""),
    ],
)
def test_what_cannot_be_enforced_is_refused_with_its_place(schema: Any, pointer: str) -> None:
    with pytest.raises(SchemaError) as caught:
        check_schema(schema)

    assert caught.value.pointer == pointer
    assert f"at {pointer or 'its root'}:" in str(caught.value)


def test_a_name_that_looks_like_a_keyword_is_none() -> None:
    check_schema({"properties": {"not": {"type": "string"}}, "enum": [{"not": 1}], "title": "if"})


def test_a_reference_may_lead_through_names_with_slashes_and_into_lists() -> None:
    check_schema({"$defs": {"a/b": {}}, "anyOf": [{"$ref": "#/$defs/a~1b"}, {"$ref": "#/anyOf/0"}]})


def test_a_schema_of_too_many_parts_is_refused() -> None:
    with pytest.raises(SchemaError, match="more than 1024 schemas"):
        check_schema({"properties": {f"p{index}": {} for index in range(MAX_SCHEMAS)}})


def test_a_schema_that_is_nested_too_deeply_is_refused() -> None:
    schema: dict[str, Any] = {}
    for _ in range(MAX_DEPTH):
        schema = {"items": schema}

    with pytest.raises(SchemaError, match="nested more than 64"):
        check_schema(schema)
