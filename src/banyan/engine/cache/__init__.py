"""The KV cache: which blocks hold which tokens, who shares them, and where evicted ones go."""
