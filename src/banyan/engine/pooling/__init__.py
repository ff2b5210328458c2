"""Models that write no text: a vector or a row of scores for each prompt, batched over requests."""
