"""Model architectures as plain PyTorch, and all that is read from a model directory.

Owns configuration, weights, tokenizer, chat template and the graphs of the architectures. Never
knows a chip. Only the architectures and the capture import torch; a server that starts from cached
graphs reads the rest without it.
"""
