"""Write text with a model in this process.

python examples/generate.py models/seedling
"""

import sys

from banyan import LLM, SamplingOptions

model = sys.argv[1] if len(sys.argv) > 1 else "models/seedling"

# The first start compiles the model for this machine; later ones find the program on disk.
with LLM(model, max_model_len=256) as llm:
    # Prompts are text or token ids, as many as you like: they are computed together.
    prompts = ["A banyan is", "One two three"]
    for output in llm.generate(prompts, SamplingOptions(max_tokens=24, temperature=0.0)):
        print(f"{output.text!r} ({len(output.token_ids)} tokens, {output.finish_reason})")

    # A seed reproduces its answer, whatever else is computed at the same time.
    playful = SamplingOptions(max_tokens=24, temperature=1.2, top_p=0.9, seed=7)
    first, second = llm.generate("A banyan is", playful), llm.generate("A banyan is", playful)
    assert first[0].text == second[0].text
    print(f"with seed 7: {first[0].text!r}")
