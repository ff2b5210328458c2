"""The public names and their signatures, frozen: a change here needs a line in CHANGELOG.md."""

import dataclasses
import importlib.metadata
import inspect
import subprocess
import sys

import pytest

import banyan
from banyan import LLM, Embedder, RequestOutput, SamplingOptions


def parameters(function: object) -> list[str]:
    """Each parameter as it is written, without types; "*" where keywords begin."""
    assert callable(function)
    written = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and "*" not in written:
            written.append("*")
        default = "" if parameter.default is parameter.empty else f"={parameter.default!r}"
        written.append(f"{parameter.name}{default}")
    return written


def test_the_public_names_are_these() -> None:
    assert sorted(banyan.__all__) == [
        "Embedder",
        "LLM",
        "RequestOutput",
        "SamplingOptions",
        "Structure",
        "__version__",
        "compile",
    ]
    assert dir(banyan) == sorted(banyan.__all__)
    for name in banyan.__all__:
        assert getattr(banyan, name) is not None


def test_the_version_is_that_of_the_distribution() -> None:
    assert banyan.__version__ == importlib.metadata.version("banyan-compute")


def test_an_unknown_name_is_an_ordinary_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'banyan' has no attribute 'llm'"):
        banyan.llm  # noqa: B018


def test_a_language_model_takes_these_arguments() -> None:
    assert parameters(LLM) == [
        "model",
        "*",
        "device='cpu'",
        "dtype='auto'",
        "threads=None",
        "memory=None",
        "max_model_len=None",
        "max_num_seqs=64",
        "max_num_batched_tokens=None",
        "max_image_tokens=None",
        "num_blocks=None",
        "quantization=None",
        "quantization_output=None",
        "activation=None",
        "kv_cache_dtype='auto'",
        "deferred_experts=0",
        "seed=None",
        "enable_prefix_caching=True",
        "speculation=None",
        "mode='fast'",
        "enable_lora=False",
        "max_loras=8",
        "max_lora_rank=16",
        "lora_dtype='auto'",
        "plan=None",
        "plan_workers=None",
        "plan_secret=None",
        "progress=None",
    ]
    assert parameters(LLM.generate) == [
        "self",
        "prompts",
        "options=None",
        "*",
        "adapter=None",
        "progress=None",
    ]
    assert parameters(LLM.chat) == [
        "self",
        "messages",
        "options=None",
        "*",
        "adapter=None",
        "progress=None",
        "template",
    ]


def test_sampling_options_have_these_fields_and_defaults() -> None:
    assert parameters(SamplingOptions) == [
        "*",
        "max_tokens=None",
        "temperature=1.0",
        "top_p=1.0",
        "top_k=0",
        "min_p=0.0",
        "repetition_penalty=1.0",
        "presence_penalty=0.0",
        "frequency_penalty=0.0",
        "seed=None",
        "stop=()",
        "stop_token_ids=()",
        "ignore_eos=False",
        "min_tokens=0",
        "logprobs=None",
        "prompt_logprobs=None",
        "n=1",
        "logit_bias=None",
        "allowed_token_ids=None",
        "bad_token_sequences=()",
        "include_stop_str_in_output=False",
        "skip_special_tokens=True",
        "structure=None",
    ]


def test_an_output_has_these_names() -> None:
    assert [field.name for field in dataclasses.fields(RequestOutput)] == [
        "prompt",
        "prompt_token_ids",
        "outputs",
    ]
    for name in ("text", "token_ids", "finish_reason", "logprobs"):
        assert isinstance(getattr(RequestOutput, name), property)


def test_an_embedder_takes_these_arguments() -> None:
    assert parameters(Embedder) == [
        "model",
        "*",
        "device='cpu'",
        "dtype='auto'",
        "threads=None",
        "quantization=None",
        "activation=None",
        "progress=None",
    ]
    assert parameters(Embedder.embed) == ["self", "texts"]


def test_compile_takes_a_module_and_its_arguments() -> None:
    assert parameters(banyan.compile)[:3] == ["module", "example_args", "target='cpp'"]


IMPORT_AND_TELL = """
import sys, time
start = time.process_time()
import banyan
seconds = time.process_time() - start
heavy = [name for name in ("torch", "numpy", "tokenizers") if name in sys.modules]
print(seconds, heavy)
"""


def test_importing_banyan_is_quick_and_imports_nothing_heavy() -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_AND_TELL], capture_output=True, text=True, check=True
    )
    seconds, heavy = done.stdout.strip().split(" ", 1)
    assert heavy == "[]"
    assert float(seconds) < 0.150, f"import banyan took {seconds} s of the processor"


def test_the_python_api_imports_no_torch() -> None:
    code = "import sys; from banyan import LLM, Embedder; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
