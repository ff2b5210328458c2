"""Real, tiny models through `LLM`: the tokens of transformers, chunked and mixed as they come."""

import copy
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from banyan import LLM, SamplingOptions
from banyan.foundation.errors import DeviceMissing, InputError, ModelError, RequestError
from tests.conftest import Checkpoint
from tests.models.checkpoints import change_json

PROMPT_LENGTHS = (1, 17, 300, 1100)
NUM_NEW = 64
GREEDY = SamplingOptions(temperature=0.0, max_tokens=NUM_NEW, ignore_eos=True)


def prompt_of(length: int) -> list[int]:
    generator = np.random.default_rng(length)
    return [int(token_id) for token_id in generator.integers(3, 320, length)]


@cache
def reference_tokens(directory: Path, length: int) -> list[int]:
    """The first tokens that transformers chooses greedily."""
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    model.generation_config = transformers.GenerationConfig(pad_token_id=0)
    prompt = torch.tensor([prompt_of(length)])
    with torch.no_grad():
        out = model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            do_sample=False,
            max_new_tokens=NUM_NEW,
            min_new_tokens=NUM_NEW,
        )
    return [int(token_id) for token_id in out[0, length:]]


@pytest.fixture(scope="module")
def llama(checkpoint: Checkpoint) -> Iterator[LLM]:
    # A budget that cuts prompts at odd places, and blocks that run out: 1100 + 300 tokens fit.
    with LLM(
        checkpoint("llama"),
        dtype="float32",
        threads=2,
        max_model_len=1200,
        max_num_seqs=4,
        max_num_batched_tokens=211,
        num_blocks=96,
    ) as llm:
        yield llm


def test_prompts_of_every_length_mixed_in_one_batch_give_the_tokens_of_transformers(
    llama: LLM, checkpoint: Checkpoint
) -> None:
    outputs = llama.generate([prompt_of(length) for length in PROMPT_LENGTHS], GREEDY)
    for length, output in zip(PROMPT_LENGTHS, outputs, strict=True):
        assert output.token_ids == reference_tokens(checkpoint("llama"), length), length
        assert output.prompt_token_ids == prompt_of(length)
        assert output.finish_reason == "length"


def test_each_request_gets_the_tokens_and_probabilities_it_gets_alone(llama: LLM) -> None:
    prompts = [prompt_of(length) for length in (5, 40, 41, 90, 130, 3)]
    options = [
        SamplingOptions(max_tokens=20, seed=number, temperature=0.8, ignore_eos=True, logprobs=1)
        for number in range(len(prompts))
    ]
    together = llama.generate(prompts, options)
    for prompt, choice, output in zip(prompts, options, together, strict=True):
        # To the last bit: each row is computed in the same order, whatever lies beside it.
        assert llama.generate([prompt], choice)[0].outputs == output.outputs


def test_with_a_window_a_request_s_probabilities_do_not_depend_on_how_it_is_cut(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    # A window of several steps of the program begins at another block for each cut of the prompt.
    directory = tmp_path / "model"
    shutil.copytree(checkpoint("mistral"), directory)
    change_json(directory / "config.json", sliding_window=150)
    options = SamplingOptions(max_tokens=12, temperature=0.0, ignore_eos=True, logprobs=1)
    prompts = [prompt_of(length) for length in (350, 403, 290)]

    def answers(token_budget: int, num_together: int) -> list[Any]:
        with LLM(
            directory,
            dtype="float32",
            threads=2,
            max_model_len=512,
            max_num_seqs=num_together,
            max_num_batched_tokens=token_budget,
        ) as llm:
            return [output.outputs for output in llm.generate(prompts, options)]

    assert answers(37, num_together=3) == answers(512, num_together=1)


def test_text_is_the_tokenizer_s_text_of_the_tokens(llama: LLM) -> None:
    (output,) = llama.generate("A banyan is", SamplingOptions(max_tokens=12, seed=3))
    assert output.prompt == "A banyan is"
    assert len(output.prompt_token_ids) > 0
    tokenizer = llama._open().first.directory.tokenizer
    with_end = output.token_ids[:-1] if output.finish_reason == "stop" else output.token_ids
    assert output.text == tokenizer.decode(with_end)


def test_one_prompt_of_tokens_is_not_taken_for_many(llama: LLM) -> None:
    options = SamplingOptions(max_tokens=2, temperature=0.0)
    (output,) = llama.generate([5, 6, 7], options)
    assert output.prompt is None
    assert output.prompt_token_ids == [5, 6, 7]
    mixed: list[str | list[int]] = ["A", [5, 6, 7]]
    assert llama.generate(mixed, options)[1].token_ids == output.token_ids
    assert llama.generate([], options) == []
    of_numpy: Any = np.array([5, 6, 7])
    assert llama.generate([of_numpy], options)[0].token_ids == output.token_ids
    assert llama.generate(of_numpy, options)[0].token_ids == output.token_ids


def test_the_model_s_own_options_are_taken_when_none_are_given(llama: LLM) -> None:
    assert llama.default_options == SamplingOptions(temperature=0.7, top_p=0.8)


def test_a_conversation_is_rendered_by_the_chat_template(llama: LLM) -> None:
    messages = [{"role": "user", "content": "What is a banyan?"}]
    options = SamplingOptions(max_tokens=4, temperature=0.0)
    (output,) = llama.chat(messages, options)
    assert output.prompt == "<|im_start|>user\nWhat is a banyan?<|im_end|>\n<|im_start|>assistant\n"
    both = llama.chat([messages, messages], options)
    assert [one.token_ids for one in both] == [output.token_ids] * 2
    with pytest.raises(RequestError, match="messages is empty"):
        llama.chat([], options)
    with pytest.raises(RequestError, match=r"messages\[0\] is a str; give a list of messages"):
        llama.chat("Hello", options)  # type: ignore[arg-type]
    for calls in (["x"], [{"function": "x"}], 5):
        with pytest.raises(RequestError, match=r"messages\[0\].tool_calls"):
            llama.chat([{"role": "assistant", "content": "", "tool_calls": calls}], options)


def test_tools_and_other_choices_reach_the_chat_template(llama: LLM) -> None:
    options = SamplingOptions(max_tokens=2, temperature=0.0)
    messages = [{"role": "user", "content": "Hi"}]
    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
    template = (
        "{% for tool in tools or [] %}<{{ tool.function.name }}>{% endfor %}"
        "{% for m in messages %}{{ m.content }}{% for c in m.tool_calls or [] %}"
        "{% for name, value in c.function.arguments.items() %}{{ name }}={{ value }}{% endfor %}"
        "{% endfor %}{% endfor %}{{ mood }}{% if add_generation_prompt %}>{% endif %}"
    )
    (output,) = llama.chat(
        messages,
        options,
        tools=[tool],
        chat_template=template,
        chat_template_kwargs={"mood": "!"},
    )
    assert output.prompt == "<look>Hi!>"
    call = {"type": "function", "function": {"name": "look", "arguments": '{"at": "x"}'}}
    turns: list[dict[str, Any]] = [
        *messages,
        {"role": "assistant", "content": "", "tool_calls": [call]},
    ]
    (output,) = llama.chat(turns, options, chat_template=template, add_generation_prompt=False)
    assert output.prompt == "Hiat=x"


def test_wrong_choices_of_a_conversation_are_refused(llama: LLM) -> None:
    messages = [{"role": "user", "content": "Hi"}]
    with pytest.raises(RequestError, match=r"tools\[0\] is no function"):
        llama.chat(messages, GREEDY, tools=[{"name": "look"}])
    with pytest.raises(TypeError, match="unexpected keyword argument 'tool'"):
        llama.chat(messages, GREEDY, tool=[])  # type: ignore[call-arg]
    call = {"type": "function", "function": {"name": "look", "arguments": "{"}}
    with pytest.raises(RequestError, match=r"messages\[0\].tool_calls are no JSON"):
        llama.chat([{"role": "assistant", "content": "", "tool_calls": [call]}], GREEDY)


def test_options_for_each_prompt_must_be_as_many(llama: LLM) -> None:
    with pytest.raises(InputError, match="2 prompts but 1 options; give one for each, or one"):
        llama.generate(["a", "b"], [GREEDY])


def test_a_prompt_that_is_too_long_is_refused(llama: LLM) -> None:
    with pytest.raises(RequestError, match="the prompt has 1200 tokens, but the context holds"):
        llama.generate([prompt_of(1200)], SamplingOptions(max_tokens=1))


def test_an_empty_prompt_is_refused(llama: LLM) -> None:
    with pytest.raises(RequestError, match="the prompt is empty"):
        llama.generate("", GREEDY)


def test_the_report_says_how_much_our_compiler_covers(llama: LLM) -> None:
    assert "100.0 % of the compute nodes in our kernels" in llama.report()


def test_a_closed_model_says_so(checkpoint: Checkpoint) -> None:
    llm = LLM(checkpoint("llama"), max_model_len=32, max_num_seqs=1, threads=1)
    llm.close()
    llm.close()
    with pytest.raises(InputError, match="this LLM is closed"):
        llm.generate("a")


def test_bfloat16_answers_and_loading_tells_its_progress(checkpoint: Checkpoint) -> None:
    stages = []
    with LLM(
        checkpoint("llama", dtype="bfloat16"),
        max_model_len=64,
        max_num_seqs=2,
        threads=1,
        progress=lambda stage, done, total: stages.append((stage, done, total)),
    ) as llm:
        (output,) = llm.generate([prompt_of(20)], SamplingOptions(max_tokens=8, seed=1))
    assert 1 <= len(output.token_ids) <= 8
    assert all(0 <= done <= total for _, done, total in stages)
    assert len({stage for stage, _, _ in stages}) > 1


def test_a_model_that_is_not_there_is_refused() -> None:
    with pytest.raises(ModelError, match="no-such-directory"):
        LLM("./no-such-directory")


def test_a_device_that_is_not_there_is_refused(checkpoint: Checkpoint) -> None:
    with pytest.raises(DeviceMissing, match="tpu"):
        LLM(checkpoint("llama"), device="tpu")


def test_an_encoder_is_refused(checkpoint: Checkpoint) -> None:
    with pytest.raises(InputError, match="not possible with BertModel, which can embed"):
        LLM(checkpoint("bert"))


def test_a_copy_of_options_is_equal() -> None:
    assert copy.copy(GREEDY) == GREEDY
