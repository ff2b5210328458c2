"""A thousand schemas: whatever a model that knows nothing writes is valid, every time."""

import json
import re
from datetime import date, datetime, time
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import jsonschema
import numpy as np
import pytest

from banyan.engine.fake import FakeTokenizer
from banyan.engine.sampling import SamplingOptions
from banyan.engine.structure.constraint import mask_words
from banyan.engine.structure.definition import Structure
from banyan.engine.structure.guidance import StructureCompiler
from banyan.engine.structure.masks import MaskMaker
from banyan.engine.tokens.sampler import SequenceSampler, sample_row
from banyan.models.tokenizer import Tokenizer
from tests.engine.structure.schemas import schema_of

SEEDLING = Path(__file__).parents[3] / "models" / "seedling"
MOST_TOKENS = 6000

FORMAT_CHECKER = jsonschema.FormatChecker(formats=())
for _name, _read in {
    "date-time": lambda text: datetime.fromisoformat(_seconds(text.upper())),
    "time": lambda text: time.fromisoformat(_seconds(text.upper())),
    "date": date.fromisoformat,
    "ipv4": IPv4Address,
    "ipv6": IPv6Address,
    "uuid": UUID,
    "duration": lambda text: _match(r"P(?!$)[0-9YMWDTHS]+", text),
    "email": lambda text: _match(r"[^@\s]+@[^@\s]+|\".*\"@\S+", text),
    "hostname": lambda text: _match(r"[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63})*", text),
    "uri": lambda text: _match(r"[a-z][a-z0-9+.-]*", urlsplit(text).scheme.lower()),
}.items():
    FORMAT_CHECKER.checks(_name, raises=Exception)(lambda text, read=_read: (read(text), True)[1])


def _seconds(text: str) -> str:
    """Python knows neither leap seconds nor more than six digits behind the point."""
    return re.sub(r"(\.\d{6})\d+", r"\1", text.replace(":60", ":59"))


def _match(pattern: str, text: str) -> None:
    if not re.fullmatch(pattern, text, re.DOTALL):
        raise ValueError(text)


class Writer:
    """A model of random logits with a tokenizer: it knows nothing of JSON."""

    def __init__(self, tokenizer: Any, *, vocab_size: int, end: int) -> None:
        self.tokenizer = tokenizer
        self.vocab_size = vocab_size
        self.end = end
        self.compiler = StructureCompiler(
            tokenizer.to_json, vocab_size=vocab_size, end_token_ids=(end,)
        )
        # What ends strings, lists and objects is likelier, or most answers would never end.
        texts = [tokenizer.decode([token]) for token in range(vocab_size)]
        closers = [1.5 * sum(map(text.count, '"]}')) / max(1, len(text)) for text in texts]
        self.lean_V = np.array(closers, dtype=np.float32) * 2
        self.lean_V[end] = 6.0

    def write(self, structure: Structure, seed: int) -> str | None:
        """Write an answer, None when it grows too long."""
        options = SamplingOptions(structure=structure)
        sampler = SequenceSampler(options, (), end_token_ids=(self.end,), entropy=(seed,))
        sampler.constraint = self.compiler.constraint(structure, end_token_ids=(self.end,))
        masks = MaskMaker(self.vocab_size)
        chance = np.random.default_rng(seed)
        tokens: list[int] = []
        try:
            while len(tokens) < MOST_TOKENS:
                row = self._row(chance, len(tokens))
                filled = masks.begin([sampler.constraint], [[]])
                filled.wait()
                chosen = sample_row(row, sampler, filled.of(0))
                assert chosen.token_id is not None, chosen.problem
                tokens.append(chosen.token_id)
                if chosen.completes:
                    text: str = self.tokenizer.decode([t for t in tokens if t != self.end])
                    return text
        finally:
            masks.close()
        return None

    def _row(self, chance: np.random.Generator, num_tokens: int) -> "np.ndarray[Any, Any]":
        noise_V = chance.standard_normal(self.vocab_size, dtype=np.float32)
        # By turns: an email with a quoted name never ends when quotes are always preferred.
        strength = 0.3 if num_tokens // 300 % 2 else 1 + num_tokens / 100
        return noise_V + self.lean_V * np.float32(strength)


@pytest.fixture(scope="module")
def byte_writer() -> Writer:
    return Writer(
        FakeTokenizer(), vocab_size=FakeTokenizer.vocab_size, end=FakeTokenizer.end_token_id
    )


@pytest.fixture(scope="module")
def seedling_writer() -> Writer:
    tokenizer = Tokenizer.read(SEEDLING)
    end = tokenizer.eos_token_id
    assert end is not None
    return Writer(tokenizer, vocab_size=tokenizer.vocab_size, end=end)


def check(number: int, writer: Writer) -> None:
    """Write an answer for a schema and hold it to the schema."""
    schema = schema_of(number)
    structure = Structure.json_schema(schema)
    # Some answers have no end by chance: that is no fault of the structure.
    tries = (writer.write(structure, number + 10_000 * again) for again in range(5))
    text = next((text for text in tries if text is not None), None)
    assert text is not None, (number, schema)
    value = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in {text}"))
    validator = jsonschema.Draft202012Validator(schema, format_checker=FORMAT_CHECKER)
    problems = [f"{error.json_path}: {error.message}" for error in validator.iter_errors(value)]
    assert not problems, (number, problems, schema, text)


@pytest.mark.parametrize("first", range(0, 48, 8))
def test_whatever_is_written_is_valid(first: int, byte_writer: Writer) -> None:
    for number in range(first, first + 8):
        check(number, byte_writer)


def test_tokens_of_several_letters_change_nothing(seedling_writer: Writer) -> None:
    for number in range(100, 112):
        check(number, seedling_writer)


@pytest.mark.wide
@pytest.mark.parametrize("first", range(0, 1000, 50))
def test_a_thousand_schemas(first: int, byte_writer: Writer, seedling_writer: Writer) -> None:
    for number in range(first, first + 50):
        check(number, seedling_writer if number % 4 == 0 else byte_writer)


def takes(schema: object, text: str) -> bool:
    compiler = StructureCompiler(FakeTokenizer().to_json, vocab_size=260, end_token_ids=(256,))
    structure = Structure.json_schema(json.dumps(schema))
    constraint = compiler.constraint(structure, end_token_ids=(256,))
    tokens = list(text.encode())
    if constraint.count_valid(tokens) < len(tokens):
        return False
    for token in tokens:
        constraint.accept(token)
    mask = np.zeros(mask_words(260), dtype=np.int32)
    constraint.fill(mask)
    return bool(mask[256 // 32] & 1)


@pytest.mark.parametrize(
    ("schema", "inside", "outside"),
    [
        ({"exclusiveMinimum": 0, "maximum": 0.5}, "0.01", "0"),
        ({"exclusiveMinimum": 3, "exclusiveMaximum": 3.5}, "3.1", "3"),
        ({"minimum": -1.5, "exclusiveMaximum": -1}, "-1.2", "-1"),
        ({"allOf": [{"exclusiveMinimum": 0}, {"maximum": 0.5}]}, "0.5", "0"),
        ({"type": "integer", "exclusiveMinimum": 0, "exclusiveMaximum": 2}, "1", "2"),
        ({"exclusiveMinimum": 0, "minimum": 0.2, "maximum": 0.5}, "0.2", "0.1"),
    ],
)
def test_an_exclusive_bound_is_outside(schema: dict[str, Any], inside: str, outside: str) -> None:
    schema = {"type": "number"} | schema
    assert takes(schema, inside)
    assert not takes(schema, outside)
