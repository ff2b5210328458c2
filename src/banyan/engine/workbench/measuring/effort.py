"""How thoroughly programs are measured. Plain data; small ones are for tests."""

from dataclasses import dataclass

MEBIBYTE = 1 << 20


@dataclass(frozen=True, slots=True)
class ProgramEffort:
    """Attributes:
    seconds: for one bucket, a little more or less; buckets that would take several times as long
        are left out.
    rounds: runs of one bucket at most.
    cold_bytes: weights of a chain, or caches of all layers together; more than any cache holds.
    depth: numbers that go into the first linear layer of a pair.
    columns: numbers that come out of it.
    formats: of weights.
    rows: of activations.
    caches: formats of the KV cache.
    contexts: cached tokens of one sequence.
    sequences: in one step of single tokens.
    prompts: (new tokens, context) of a step with one prompt.
    key_heads: heads of keys and values.
    query_heads: for each of them.
    head_size: numbers of a head.
    """

    seconds: float = 1.0
    rounds: int = 9
    cold_bytes: int = 256 * MEBIBYTE
    depth: int = 2048
    columns: int = 6144
    formats: tuple[str, ...] = ("float32", "bfloat16", "int8", "int4")
    rows: tuple[int, ...] = (1, 4, 16, 64, 256, 1024)
    caches: tuple[str, ...] = ("float32", "bfloat16", "int8", "fp8", "int4")
    contexts: tuple[int, ...] = (256, 1024, 4096, 16384)
    sequences: tuple[int, ...] = (1, 4, 16)
    prompts: tuple[tuple[int, int], ...] = (
        (64, 64),
        (256, 256),
        (1024, 1024),
        (64, 4096),
        (256, 4096),
        (1024, 4096),
    )
    key_heads: int = 8
    query_heads: int = 4
    head_size: int = 128


QUICK = ProgramEffort(
    seconds=0.4,
    rounds=3,
    rows=(1, 16, 256),
    caches=("bfloat16",),
    contexts=(256, 4096),
    sequences=(1, 16),
    prompts=((256, 256), (256, 4096)),
)
"""For a first look: under a minute on a machine that has compiled the programs before."""
