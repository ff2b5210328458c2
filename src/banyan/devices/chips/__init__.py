"""One file per vendor: what its chips are, and how its command's output is read.

Each module holds one `VENDOR`; a file put here is found without an edit elsewhere.
"""
