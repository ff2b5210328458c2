"""Find the text that is closest in meaning, with an embedding model.

python examples/search_texts.py DIRECTORY_OR_HUB_ID
"""

import sys

from banyan import Embedder

texts = [
    "A banyan is one tree that stands on many roots.",
    "The server speaks the API of OpenAI.",
    "Water boils at one hundred degrees.",
]
question = "Which tree has many trunks?"

model = sys.argv[1] if len(sys.argv) > 1 else "sentence-transformers/all-MiniLM-L6-v2"
with Embedder(model) as embedder:
    # Vectors of length one: their dot product is the cosine of the angle between them.
    vectors = embedder.embed([*texts, question])
    scores = vectors[:-1] @ vectors[-1]

for score, text in sorted(zip(scores, texts, strict=True), reverse=True):
    print(f"{score:.3f}  {text}")
