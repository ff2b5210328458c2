"""Deterministic mode: what a request gets does not depend on what is computed beside it.

Kernels for CPUs sum every output in one order, whatever the number of rows, the cut of a prompt or
the threads. Two things differ: AMX tiles, which take over from vector instructions at some number
of rows, and whatever was never held to it. So the mode compiles without tiles, refuses what is not
known to hold, and proves the loaded model before it serves: the same tokens one by one, in chunks
and beside others must give the same logits.
"""

import numpy as np
from numpy.typing import NDArray

from banyan.devices.cpu import CpuDevice
from banyan.devices.device import Device
from banyan.devices.instruction_sets import detect_instruction_sets
from banyan.engine.cache.key_value_blocks import BLOCK_SIZE, blocks_for
from banyan.engine.cache.sequence_table import SequenceTable
from banyan.engine.options import EngineLimits, EngineOptions
from banyan.engine.runner import LaneSlice, StepModel, step_arguments
from banyan.foundation.errors import EnvironmentProblem, InputError

FloatArray = NDArray[np.float32]

# Two blocks of the cache and some tokens of a third.
_PROOF_TOKENS = 2 * BLOCK_SIZE + 5
_PROOF_CHUNKS = (3, 14, _PROOF_TOKENS)


def instruction_set_of(mode: str) -> str | None:
    """The vector instructions to compile a mode's programs for; None takes the best."""
    if mode == "fast":
        return None
    levels = detect_instruction_sets()
    return next(level.name for level in levels if not level.needs_tile_permission)


def require_deterministic(options: EngineOptions, device: Device) -> None:
    """Refuse what deterministic mode does not hold for.

    Raises:
        InputError: the device, the cache format or adapters are not known to keep it.
    """
    if options.mode != "deterministic":
        return
    reason = None
    if not isinstance(device, CpuDevice):
        reason = f"the device {device.name}, whose kernels are not known to keep it; use cpu"
    elif options.kv_cache_dtype == "int4":
        reason = "kv_cache_dtype='int4', whose sums depend on the batch; use int8, fp8 or auto"
    elif options.has_adapters:
        reason = "adapters, whose kernels are not known to keep it; leave them out"
    if reason is not None:
        raise InputError(f"mode='deterministic' cannot be used with {reason}, or use mode='fast'")


def prove_mode(mode: str, model: StepModel, limits: EngineLimits, *, vocab_size: int) -> None:
    """Prove what a mode promises; see `prove_deterministic`."""
    if mode == "deterministic":
        prove_deterministic(model, limits, vocab_size=vocab_size)


def prove_deterministic(model: StepModel, limits: EngineLimits, *, vocab_size: int) -> None:
    """Compute some tokens in several ways and compare every bit of their logits.

    Uses the first blocks of the cache, so it is done before anything is served.

    Raises:
        EnvironmentProblem: the ways differ.
    """
    num_tokens = min(_PROOF_TOKENS, limits.max_model_len, limits.num_blocks * BLOCK_SIZE)
    table = _table_of(num_tokens, limits, vocab_size)
    num_beside = min(len(table.tokens_LT), limits.token_budget) - 1
    expected_RV = _logits(model, table, num_tokens, chunk=1, num_beside=0)
    ways = [(chunk, 0) for chunk in _PROOF_CHUNKS] + [(1, num_beside)]
    for chunk, beside in ways:
        if chunk + beside > limits.token_budget:
            continue
        found_RV = _logits(model, table, num_tokens, chunk=chunk, num_beside=beside)
        wrong = np.flatnonzero((expected_RV.view(np.int32) != found_RV.view(np.int32)).any(axis=1))
        if len(wrong):
            raise EnvironmentProblem(
                f"mode='deterministic' does not hold for this model on this machine: token "
                f"{wrong[0]} of {num_tokens} differs in chunks of {chunk} beside {beside} others; "
                "use mode='fast', and please report this"
            )


def _table_of(num_tokens: int, limits: EngineLimits, vocab_size: int) -> SequenceTable:
    """Sequences of different tokens, as many as find blocks, nine at most."""
    num_blocks = blocks_for(num_tokens)
    num_lanes = max(1, min(9, limits.max_num_seqs, limits.num_blocks // num_blocks))
    table = SequenceTable(num_lanes, num_tokens)
    tokens_LT = np.random.default_rng(0).integers(0, vocab_size, (num_lanes, num_tokens))
    for tokens_T in tokens_LT.tolist():
        lane = table.open_lane(tokens_T)
        table.append_blocks(lane, 0, [lane * num_blocks + block for block in range(num_blocks)])
    return table


def _logits(
    model: StepModel, table: SequenceTable, num_tokens: int, *, chunk: int, num_beside: int
) -> FloatArray:
    """Logits [tokens, vocab] of lane 0, computed in chunks beside single tokens of other lanes."""
    found = []
    for start in range(0, num_tokens, chunk):
        count = min(chunk, num_tokens - start)
        others = [LaneSlice(lane, start, 1, 1) for lane in range(1, num_beside + 1)]
        slices = [*others, LaneSlice(0, start, count, count)]
        logits_RV = model.run(step_arguments(table, slices))["logits"]
        found.append(logits_RV[num_beside : num_beside + count].copy())
    return np.concatenate(found)
