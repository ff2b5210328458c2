"""Text generation and embeddings: requests in, tokens and vectors out. Never knows HTTP."""
