"""The commands. `serve` is the composition root; the others ask lower layers and print.

Every command imports what it needs when it runs: `banyan --help` must not wait for anything.
"""
