import contextlib
import time

import pytest

from banyan.engine.structure.definition import Structure
from banyan.engine.structure.grammar_text import check_structure
from banyan.foundation.errors import RequestError


@pytest.mark.parametrize(
    ("structure", "said"),
    [
        (Structure.json_schema('{"a":'), "line 1 column 6"),
        (Structure.json_schema('{"minimum": Infinity}'), "Infinity is no JSON number"),
        (Structure.json_schema("[" * 5000), "nested too deeply"),
        (Structure.json_schema({"type": "number", "maximum": 10**400}), "number out of range"),
        (Structure.json_schema('{"maximum": ' + "1" * 5000 + "}"), "no JSON that can be read"),
        (
            Structure.json_schema(
                {"properties": {"a": {"items": {"type": "string", "pattern": "(?=x)"}}}}
            ),
            "at /properties/a/items: regex parse error",
        ),
        (
            Structure.json_schema({"properties": {"a": {"oneOf": [{}, {"type": "null"}]}}}),
            "at /properties/a: the branches of oneOf may overlap",
        ),
        (Structure.json_schema(False), "Unsatisfiable"),
        (Structure.regex("(a"), "unclosed group"),
        (Structure.grammar("start: foo"), 'unknown name: "foo"'),
        (Structure.grammar("start: ("), "1\\("),
        (Structure.grammar("root ::= [a"), "GBNF: Unexpected end of input at line 1"),
        (Structure(kind="structural_tag", text="{"), "is no JSON"),
        (Structure.structural_tag({"triggers": ["<f"], "structures": []}), "structures must be"),
        (
            Structure.structural_tag({"triggers": ["<f"], "structures": [{"begin": "<g"}]}),
            "/structures/0/begin '<g' begins with none of the triggers",
        ),
        (
            Structure.structural_tag(
                {"triggers": ["<f"], "structures": [{"begin": "<f", "schema": {"not": {}}}]}
            ),
            "at /structures/0/schema/not:",
        ),
    ],
)
def test_a_wrong_structure_is_refused_with_the_place(structure: Structure, said: str) -> None:
    with pytest.raises(RequestError, match=said) as caught:
        check_structure(structure)
    assert caught.value.parameter == "structure"


@pytest.mark.parametrize(
    "structure",
    [
        Structure.json_object(),
        Structure.json_schema({"uniqueItems": False, "x-guidance": {"lenient": True}}),
        Structure.choice(['say "a"', "b\n"]),
        Structure.grammar('root ::= "a" ("b" | "c")+'),
        Structure.structural_tag(
            {"triggers": ["<f"], "structures": [{"begin": "<f=a>", "schema": {}, "end": "</f>"}]}
        ),
    ],
    ids=lambda structure: structure.kind,
)
def test_a_structure_that_can_be_used_passes(structure: Structure) -> None:
    check_structure(structure)


def test_a_schema_cannot_switch_its_own_checks_off() -> None:
    with pytest.raises(RequestError, match="oneOf"):
        check_structure(
            Structure.json_schema(
                {"x-guidance": {"lenient": True}, "oneOf": [{}, {"type": "null"}]}
            )
        )


@pytest.mark.parametrize(
    "structure",
    [
        Structure.regex("((a{1,100}){1,100}){1,100}"),
        Structure.regex("(a|b|c)*" + "(a|b|c)" * 200 + "x"),
        Structure.regex("(.*a){20}"),
        Structure.json_schema({"type": "string", "maxLength": 10**9}),
        Structure.json_schema({"type": "array", "minItems": 10**8, "maxItems": 10**9}),
        Structure.json_schema({"enum": [f"value {i}" for i in range(10_000)]}),
        Structure.json_schema({"properties": {f"p{i}": {"type": "string"} for i in range(1000)}}),
        Structure.json_schema({"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}),
        Structure.grammar("start: start start | start"),
        Structure.grammar("root ::= " + "(" * 2000),
        Structure.grammar('root ::= root root | "a" | ""'),
    ],
    ids=range(11),
)
def test_a_hostile_structure_is_compiled_or_refused_in_seconds(
    structure: Structure,
) -> None:
    started = time.process_time()
    with contextlib.suppress(RequestError):
        check_structure(structure)
    assert time.process_time() - started < 5.0
