"""Drive a server with langchain-openai: drive_langchain.py CHAT_URL EMBEDDING_URL."""

import asyncio
import json
import sys
from typing import Any

from langchain_openai import ChatOpenAI, OpenAI, OpenAIEmbeddings

CHAT_URL, EMBEDDING_URL = sys.argv[1:]
PLACE: dict[str, Any] = {"base_url": f"{CHAT_URL}/v1", "api_key": "none", "model": "fake"}
SCHEMA = {
    "title": "answer",
    "type": "object",
    "properties": {"yes": {"type": "boolean"}},
    "required": ["yes"],
    "additionalProperties": False,
}


def ask(yes: bool) -> str:
    """Ask."""
    return str(yes)


chat = ChatOpenAI(**PLACE, max_tokens=6, temperature=0)
long = ChatOpenAI(**PLACE, max_tokens=900, temperature=0)
whole = chat.invoke("Hi")
chunks = list(chat.stream("Hi"))
called = long.bind_tools([ask], tool_choice="required").invoke("Hi")
responding = ChatOpenAI(**PLACE, max_tokens=6, temperature=0, use_responses_api=True)
responded = responding.invoke("Hi")
embeddings = OpenAIEmbeddings(
    base_url=f"{EMBEDDING_URL}/v1", api_key="none", model="tiny", check_embedding_ctx_length=False
)
print(
    json.dumps(
        {
            "whole": whole.content,
            "usage": whole.usage_metadata["total_tokens"],
            "finish_reason": whole.response_metadata["finish_reason"],
            "streamed": "".join(chunk.content for chunk in chunks),
            "later": asyncio.run(chat.ainvoke("Hi")).content,
            "many": [reply.content for reply in chat.batch(["Hi", "Hi"])],
            "text": OpenAI(**PLACE, max_tokens=6, temperature=0).invoke("Hi"),
            "call": called.tool_calls[0]["name"],
            "arguments": called.tool_calls[0]["args"],
            "structured": long.with_structured_output(SCHEMA, method="json_schema").invoke("Hi"),
            "responded": responded.content[0]["text"],
            "response_stream": "".join(
                part["text"]
                for chunk in responding.stream("Hi")
                for part in chunk.content
                if isinstance(part, dict) and part.get("type") == "text" and "text" in part
            ),
            "lengths": [len(vector) for vector in embeddings.embed_documents(["a", "b"])],
        }
    )
)
