"""Low-rank adapters (LoRA) in the format of PEFT: what they may hold, read and checked."""
