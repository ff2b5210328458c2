"""Drive a server with LlamaIndex' OpenAI clients: drive_llama_index.py CHAT_URL EMBEDDING_URL."""

import asyncio
import json
import sys
from typing import Any

from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.embeddings.openai_like import OpenAILikeEmbedding
from llama_index.llms.openai_like import OpenAILike

CHAT_URL, EMBEDDING_URL = sys.argv[1:]
PLACE: dict[str, Any] = {"api_base": f"{CHAT_URL}/v1", "api_key": "none", "model": "fake"}
MESSAGES = [ChatMessage(role="user", content="Hi")]


def ask(yes: bool) -> str:
    """Ask."""
    return str(yes)


chat = OpenAILike(**PLACE, is_chat_model=True, max_tokens=6, temperature=0, context_window=4000)
plain = OpenAILike(**PLACE, is_chat_model=False, max_tokens=6, temperature=0, context_window=4000)
caller = OpenAILike(
    **PLACE,
    is_chat_model=True,
    is_function_calling_model=True,
    max_tokens=900,
    temperature=0,
    context_window=4000,
)
called = caller.chat_with_tools(
    [FunctionTool.from_defaults(ask)], user_msg="Hi", tool_required=True
)
(call,) = caller.get_tool_calls_from_response(called)[:1]
embeddings = OpenAILikeEmbedding(
    model_name="tiny", api_base=f"{EMBEDDING_URL}/v1", api_key="none", embed_batch_size=2
)
print(
    json.dumps(
        {
            "whole": chat.chat(MESSAGES).message.content,
            "streamed": "".join(part.delta or "" for part in chat.stream_chat(MESSAGES)),
            "later": asyncio.run(chat.achat(MESSAGES)).message.content,
            "text": plain.complete("Hi").text,
            "text_streamed": "".join(part.delta or "" for part in plain.stream_complete("Hi")),
            "call": call.tool_name,
            "arguments": call.tool_kwargs,
            "lengths": [len(vector) for vector in embeddings.get_text_embedding_batch(["a", "b"])],
        }
    )
)
