"""A trained model, in bfloat16: with guesses it says to the last token what it says without."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from banyan import LLM, SamplingOptions
from banyan.engine.outputs import RequestOutput
from banyan.foundation.errors import InputError
from banyan.models.loading import open_model
from tests.conftest import Checkpoint
from tests.models.heads.files import write_eagle, write_medusa

SEEDLING = Path(__file__).parents[3] / "models" / "seedling"
QUESTION = {"role": "user", "content": "How do I run the tests?"}
ANSWER = {
    "role": "assistant",
    "content": "Run make test. It runs lint, types, import contracts, the docs build and the test "
    "suite, in under ten minutes after install, without a GPU or network.",
}
OPTIONS = (
    SamplingOptions(temperature=0.0, max_tokens=60),
    SamplingOptions(temperature=0.9, seed=4, max_tokens=60),
    SamplingOptions(temperature=0.0, max_tokens=90, ignore_eos=True, repetition_penalty=1.05),
)


def answers(speculation: Mapping[str, Any] | None) -> tuple[list[RequestOutput], int]:
    """Each choice alone, then all together; and how many steps that took."""
    with LLM(
        SEEDLING, threads=1, max_model_len=512, max_num_seqs=4, speculation=speculation
    ) as llm:
        alone = [llm.chat([QUESTION, ANSWER, QUESTION], options)[0] for options in OPTIONS]
        together = llm.chat([[QUESTION, ANSWER, QUESTION]] * len(OPTIONS), OPTIONS)
        return [*alone, *together], llm._open().first.engine.statistics().num_steps


@pytest.fixture(scope="module")
def plain() -> tuple[list[RequestOutput], int]:
    return answers(None)


@pytest.mark.parametrize(
    "speculation",
    [
        {"method": "ngram", "always": True},
        {"method": "ngram", "num_speculative_tokens": 4},
        {"model": str(SEEDLING), "num_speculative_tokens": 3, "always": True},
    ],
    ids=["every lookup", "lookups that pay", "draft model"],
)
def test_answers_are_the_same_in_fewer_steps(
    speculation: Mapping[str, Any], plain: tuple[list[RequestOutput], int]
) -> None:
    guessed, num_steps = answers(speculation)
    assert [output.outputs for output in guessed] == [output.outputs for output in plain[0]]
    assert num_steps < (0.7 if speculation.get("always") else 0.95) * plain[1]


def test_a_draft_model_of_another_vocabulary_is_refused(checkpoint: Checkpoint) -> None:
    with pytest.raises(InputError, match=r"has another vocabulary than .*seedling"):
        LLM(SEEDLING, threads=1, max_model_len=64, speculation={"model": str(checkpoint("llama"))})


@pytest.mark.parametrize("method", ["eagle", "medusa"])
@pytest.mark.parametrize("quantization", [None, pytest.param("int8", marks=pytest.mark.wide)])
def test_heads_that_know_nothing_change_no_token(
    checkpoint: Checkpoint, tmp_path: Path, method: str, quantization: str | None
) -> None:
    base = checkpoint("llama_tied")
    sizes = open_model(str(base)).decoder_configuration()
    if method == "eagle":
        write_eagle(tmp_path, base)
    else:
        write_medusa(tmp_path, hidden_size=sizes.hidden_size, vocab_size=sizes.vocab_size)
    choices: dict[str, Any] = {
        "dtype": "float32",
        "threads": 1,
        "max_model_len": 96,
        "max_num_seqs": 3,
        "quantization": quantization,
    }
    prompts = [list(range(5, 5 + count)) for count in (3, 20, 41)]
    options = [
        SamplingOptions(temperature=0.0, max_tokens=12),
        SamplingOptions(temperature=0.8, seed=3, max_tokens=12),
        SamplingOptions(temperature=0.0, max_tokens=12, frequency_penalty=0.5),
    ]
    speculation = {"method": method, "model": str(tmp_path), "always": True}
    with LLM(base, **choices) as llm:
        plain = llm.generate(prompts, options)
    with LLM(base, **choices, speculation=speculation) as llm:
        # So that guesses are made, however little they are believed.
        llm._open().first.engine._speculator._proposer._least_chance = 0.0  # type: ignore[union-attr]
        guessed = llm.generate(prompts, options)
        assert llm._open().first.engine.statistics().tokens_drafted > 20
    assert [output.outputs for output in guessed] == [output.outputs for output in plain]


def test_heads_of_another_kind_are_refused(checkpoint: Checkpoint, tmp_path: Path) -> None:
    write_eagle(tmp_path, checkpoint("llama_tied"))
    with pytest.raises(InputError, match="holds heads for the method eagle, not medusa; change"):
        LLM(
            checkpoint("llama_tied"),
            threads=1,
            max_model_len=64,
            speculation={"method": "medusa", "model": str(tmp_path)},
        )
