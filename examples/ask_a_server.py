"""Ask a running server through the OpenAI SDK, streaming.

banyan serve                             # in another terminal
python examples/ask_a_server.py http://127.0.0.1:8000
"""

import sys
import time

from openai import OpenAI

url = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000"
client = OpenAI(base_url=f"{url}/v1", api_key="none needed")

model = client.models.list().data[0].id
print(f"{model} at {url}")

asked = time.perf_counter()
stream = client.chat.completions.create(
    model=model,
    messages=[{"role": "user", "content": "What is a banyan?"}],
    max_tokens=64,
    temperature=0,
    stream=True,
    stream_options={"include_usage": True},
    # What OpenAI's API does not have keeps vLLM's names.
    extra_body={"repetition_penalty": 1.1},
)
for chunk in stream:
    for choice in chunk.choices:
        print(choice.delta.content or "", end="", flush=True)
    if chunk.usage is not None:
        seconds = time.perf_counter() - asked
        print(f"\n{chunk.usage.completion_tokens} tokens in {seconds:.2f} s")
