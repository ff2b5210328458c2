"""A real server of a model that is cut over two workers, driven by the real SDK."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from banyan.client import Client
from banyan.foundation.errors import RequestError
from banyan.planner.plan import Stage
from tests.conftest import Checkpoint
from tests.end_to_end.servers import Server, running_server
from tests.engine.stages.plans import plan_text

pytestmark = pytest.mark.end_to_end


def test_streams_grammars_and_the_prefix_cache_work_under_a_plan(
    checkpoint: Checkpoint, program_cache: dict[str, str], real_server: Server, tmp_path: Path
) -> None:
    plan = tmp_path / "plan.toml"
    plan.write_text(plan_text(Stage(0, 1, ("cpu",)), Stage(1, 2, ("cpu#1",))))
    options = ["--plan", str(plan), "--served-model-name", "tiny", "--threads", "1"]
    with running_server(str(checkpoint("llama")), options, environment=program_cache) as server:
        sdk, alone = server.sdk(), real_server.sdk()
        asked = {"model": "tiny", "prompt": "A banyan " * 12, "max_tokens": 24, "temperature": 0}
        wanted = alone.completions.create(**asked)  # type: ignore[call-overload]
        for _ in range(2):
            found = sdk.completions.create(**asked)  # type: ignore[call-overload]
            assert found.choices[0].text == wanted.choices[0].text
        assert found.usage.prompt_tokens_details.cached_tokens >= 16
        pieces = sdk.completions.create(**asked, stream=True)  # type: ignore[call-overload]
        assert "".join(p.choices[0].text for p in pieces) == wanted.choices[0].text
        schema = {
            "type": "object",
            "properties": {"yes": {"type": "boolean"}},
            "required": ["yes"],
            "additionalProperties": False,
        }
        question = {
            "model": "tiny",
            "messages": [{"role": "user", "content": "Say yes."}],
            # Up to 40 blanks may stand between any two parts, and random weights like them.
            "max_tokens": 300,
            "temperature": 0,
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "answer", "schema": schema},
            },
        }
        answers = [
            client.chat.completions.create(**question)  # type: ignore[call-overload]
            for client in (alone, sdk)
        ]
        first, second = (answer.choices[0] for answer in answers)
        assert isinstance(json.loads(first.message.content)["yes"], bool)
        assert (second.message.content, second.finish_reason) == (first.message.content, "stop")
        assert server.stop() == 0


INVENTORY = """
[types.core]
kind = "cpu"
vendor = "any"
memory = "1GB"
bandwidth = "10GB/s"
operations = { float32 = "100G", bfloat16 = "100G" }

[[devices]]
type = "core"
name = "cpu"

[[devices]]
type = "core"
name = "cpu#1"

[links]
within_host = { bandwidth = "5GB/s" }
"""


@pytest.mark.wide
def test_a_device_is_drained_and_let_in_again_under_answers_that_notice_nothing(
    checkpoint: Checkpoint, program_cache: dict[str, str], tmp_path: Path
) -> None:
    plan, inventory = tmp_path / "plan.toml", tmp_path / "inventory.toml"
    plan.write_text(plan_text(Stage(0, 1, ("cpu",)), Stage(1, 2, ("cpu#1",))))
    inventory.write_text(INVENTORY)
    options = ["--plan", str(plan), "--plan-devices", str(inventory), "--allow-drain"]
    options += ["--served-model-name", "tiny", "--threads", "1", "--dtype", "float32"]
    with running_server(str(checkpoint("llama")), options, environment=program_cache) as server:
        sdk, admin = server.sdk(), Client(server.url)
        asked = {"model": "tiny", "prompt": "A banyan", "max_tokens": 400, "temperature": 0}
        asked["extra_body"] = {"ignore_eos": True}

        def answer() -> str:
            return sdk.completions.create(**asked).choices[0].text  # type: ignore[call-overload, no-any-return]

        wanted = answer()
        with ThreadPoolExecutor(8) as threads:
            for move, used in ((admin.drain, [True, False]), (admin.undrain, [True, True])):
                under_way = [threads.submit(answer) for _ in range(8)]
                assert [each.is_used for each in move("cpu#1")] == used
                assert [each.result(timeout=60) for each in under_way] == [wanted] * 8
        admin.drain("cpu")
        with pytest.raises(RequestError, match="cpu#1 cannot be drained: no device is left"):
            admin.drain("cpu#1")
        assert [each.state for each in admin.devices()] == ["drained", "ready"]
        assert answer() == wanted
