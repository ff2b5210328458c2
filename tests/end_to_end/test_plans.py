"""A real server of a model that is cut over two workers, driven by the real SDK."""

import json
from pathlib import Path

import pytest

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
        answer = sdk.chat.completions.create(
            model="tiny",
            messages=[{"role": "user", "content": "Say yes."}],
            max_tokens=64,
            response_format={
                "type": "json_schema",
                "json_schema": {"name": "answer", "schema": schema},
            },
        )
        assert isinstance(json.loads(answer.choices[0].message.content or "")["yes"], bool)
        assert server.stop() == 0
