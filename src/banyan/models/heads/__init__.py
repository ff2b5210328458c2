"""Heads that guess tokens from the hidden states of a decoder, from their published checkpoints."""
