import msgspec
import pytest

from banyan.engine.sampling import SamplingOptions
from banyan.engine.structure.definition import MAX_CHARACTERS, Structure
from banyan.foundation.errors import RequestError


def test_a_structure_survives_the_way_to_the_engine_process() -> None:
    options = SamplingOptions(structure=Structure.json_schema({"type": "integer"}))

    sent = msgspec.msgpack.encode(options)

    assert msgspec.msgpack.decode(sent, type=SamplingOptions) == options


def test_a_schema_may_be_text_or_a_value() -> None:
    assert Structure.json_schema('{"type": "null"}') == Structure.json_schema({"type": "null"})


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Structure(kind="xml", text="a"), "structure kind 'xml' is not known"),  # type: ignore[arg-type]
        (lambda: Structure.regex(""), "the regex is empty"),
        (lambda: Structure.regex("a" * (MAX_CHARACTERS + 1)), "at most 262144 are allowed"),
        (lambda: Structure.choice([]), "choice has 0 texts; give 1 to 4096"),
        (lambda: Structure.choice(["a", ""]), "none of them empty"),
        (lambda: Structure.choice("ab"), "must be a list of texts"),
        (lambda: Structure.json_schema({"a": object()}), "cannot be written as JSON"),
        (lambda: Structure(kind="regex", text="a", after="x" * 65), "after has 65 characters"),
    ],
)
def test_a_wrong_structure_is_refused_with_the_reason(make: object, said: str) -> None:
    assert callable(make)
    with pytest.raises(RequestError, match=said) as caught:
        make()
    assert caught.value.parameter == "structure"
