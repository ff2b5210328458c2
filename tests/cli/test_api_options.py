import sys

import pytest

from banyan.cli.api_options import ApiOptions, api_options
from banyan.foundation.errors import InputError


def test_a_choice_of_names_that_does_not_exist_is_refused() -> None:
    assert api_options(True, "vllm", "http://here") == ApiOptions(
        trust_request_chat_template=True, metric_names="vllm", traces_endpoint="http://here"
    )
    with pytest.raises(InputError, match="use one of both, banyan, vllm"):
        api_options(False, "ours", None)


def test_a_parser_that_does_not_exist_is_refused_before_anything_is_loaded() -> None:
    assert api_options(False, "both", None, ("mistral", "none")).tool_call_parser == "mistral"
    with pytest.raises(InputError, match="--tool-call-parser 'x' is not known"):
        api_options(False, "both", None, ("x", "auto"))


def test_without_a_collector_nothing_is_loaded() -> None:
    assert ApiOptions().open_tracing(model_name="m") is None


def test_a_collector_without_the_libraries_is_refused_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "banyan.gateway.tracing", None)
    with pytest.raises(InputError, match=r"banyan-compute\[tracing\]"):
        ApiOptions(traces_endpoint="http://here").open_tracing(model_name="m")
