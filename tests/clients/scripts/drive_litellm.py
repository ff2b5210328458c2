"""Drive a server with litellm: drive_litellm.py CHAT_URL EMBEDDING_URL."""

import asyncio
import json
import sys
from typing import Any

import litellm

CHAT_URL, EMBEDDING_URL = sys.argv[1:]
MESSAGES = [{"role": "user", "content": "Hi"}]
PLACE: dict[str, Any] = {"api_base": f"{CHAT_URL}/v1", "api_key": "none"}
TOOL = {
    "type": "function",
    "function": {
        "name": "ask",
        "parameters": {
            "type": "object",
            "properties": {"yes": {"type": "boolean"}},
            "required": ["yes"],
            "additionalProperties": False,
        },
    },
}


async def later() -> str:
    reply = await litellm.acompletion("openai/fake", MESSAGES, max_tokens=6, temperature=0, **PLACE)
    return str(reply.choices[0].message.content)


def refusal() -> str:
    try:
        litellm.completion("openai/fake", MESSAGES, temperature=-1, **PLACE)
    except litellm.BadRequestError as error:
        return str(error)
    return "nothing was refused"


whole = litellm.completion("openai/fake", MESSAGES, max_tokens=6, temperature=0, **PLACE)
stream = litellm.completion(
    "openai/fake", MESSAGES, max_tokens=6, temperature=0, stream=True, **PLACE
)
text = litellm.text_completion("Hi", "openai/fake", max_tokens=6, temperature=0, **PLACE)
called = litellm.completion(
    "openai/fake",
    MESSAGES,
    tools=[TOOL],
    tool_choice="required",
    max_tokens=900,
    temperature=0,
    **PLACE,
)
hosted = litellm.completion(
    "hosted_vllm/fake", MESSAGES, max_tokens=6, temperature=0, top_k=1, **PLACE
)
responded = litellm.responses(
    "Hi", model="openai/fake", max_output_tokens=16, temperature=0, **PLACE
)
embedded = litellm.embedding(
    "openai/tiny", ["a", "b"], api_base=f"{EMBEDDING_URL}/v1", api_key="none"
)
print(
    json.dumps(
        {
            "whole": whole.choices[0].message.content,
            "finish_reason": whole.choices[0].finish_reason,
            "usage": whole.usage.total_tokens,
            "streamed": "".join(chunk.choices[0].delta.content or "" for chunk in stream),
            "later": asyncio.run(later()),
            "hosted": hosted.choices[0].message.content,
            "text": text.choices[0].text,
            "call": called.choices[0].message.tool_calls[0].function.name,
            "arguments": json.loads(called.choices[0].message.tool_calls[0].function.arguments),
            "responded": responded.output[0].content[0].text,
            "lengths": [len(item["embedding"]) for item in embedded.data],
            "refusal": refusal(),
        }
    )
)
