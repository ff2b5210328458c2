"""A whole decoder: a tiny model writes greedily on the device and on the interpreter.

Three prompts of different lengths share the batch, as in a server; the model has grouped queries,
norms of heads, and weights that are drawn here, so no checkpoint is needed.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from banyan.compiler.compile import compile_graph
from banyan.compiler.executable import Executable, of_role
from banyan.compiler.ir.symbols import fixed
from banyan.compiler.ir.types import DType
from banyan.engine.cache.key_value_blocks import blocks_for
from banyan.engine.cache.sequence_table import SequenceTable
from banyan.engine.runner import LaneSlice, Runner
from banyan.engine.workbench.conformance.checks import (
    TOLERANCES,
    Array,
    Bench,
    Check,
    difference,
    first_line,
)
from banyan.engine.workbench.conformance.graph_case import ArrayWeights
from banyan.models.configuration import ModelConfiguration
from banyan.models.rope import Rope
from banyan.models.step_graph import decoder_step_graph

PROMPTS = (1, 5, 17)
NEW_TOKENS = 24
TINY = ModelConfiguration(
    architecture="Qwen3ForCausalLM",
    vocab_size=256,
    hidden_size=64,
    intermediate_size=96,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_dim=16,
    max_position_embeddings=256,
    rope=Rope(10_000.0),
    norm_epsilon=1e-6,
    tie_embeddings=False,
    query_key_value_bias=False,
    attention_output_bias=False,
    feed_forward_bias=False,
    query_key_norm=True,
    sliding_windows=(0, 0),
    experts=None,
    eos_token_ids=(),
    bos_token_id=None,
    checkpoint_dtype="float32",
)


@dataclass(frozen=True, slots=True)
class Written:
    """What a model wrote.

    Attributes:
        tokens: [sequences, new tokens].
        logits: [new tokens, sequences, words], of every step.
    """

    tokens: Array
    logits: Array

    @property
    def least_margin(self) -> float:
        """The smallest lead that a chosen token had over the next best."""
        best = np.sort(self.logits, axis=-1)
        return float((best[..., -1] - best[..., -2]).min())


def decoder_checks(bench: Bench) -> Iterator[Check]:
    """Tokens must be equal, logits within float32's tolerance."""
    name = f"{len(PROMPTS)} texts of {NEW_TOKENS} tokens"
    try:
        graph = decoder_step_graph(
            TINY, dtype="float32", cache_directory=bench.options.cache_directory
        )
        program = compile_graph(graph, device=bench.device, options=bench.options)
        oracle = compile_graph(
            graph, device=bench.device, target="interpreter", options=bench.options
        )
        found, wanted = write(program), write(oracle)
    # Whatever a compiler or a driver throws is a finding of the kit.
    except Exception as error:
        yield Check("decoder", name, False, f"does not run: {first_line(error)}")
        return
    yield from compare_texts(name, found, wanted)


def compare_texts(name: str, found: Written, wanted: Written) -> Iterator[Check]:
    """Compare tokens, and logits as far as the tokens before them are equal."""
    differ = np.argwhere(found.tokens != wanted.tokens)
    margin = f"the closest choice had a margin of {wanted.least_margin:.1e}"
    if not differ.size:
        yield Check("decoder", f"{name}: tokens", True, f"all are equal; {margin}")
        same = len(wanted.logits)
    else:
        text, place = (int(i) for i in differ[differ[:, 1].argmin()])
        said = (
            f"text {text} has token {int(found.tokens[text, place])} at place {place}, the "
            f"interpreter {int(wanted.tokens[text, place])}; {margin}"
        )
        yield Check("decoder", f"{name}: tokens", False, said)
        same = place + 1
    allowed = TOLERANCES[DType.FLOAT32]
    error = difference(found.logits[:same], wanted.logits[:same])
    said = f"differs by {error:.2e}, {allowed:.0e} is allowed"
    yield Check("decoder", f"{name}: logits", error <= allowed, said)


def write(program: Executable) -> Written:
    """Let a program answer the prompts, one step for all of them at a time."""
    program.load_weights(ArrayWeights(random_weights(program)))
    longest = max(PROMPTS) + NEW_TOKENS
    each = blocks_for(longest)
    program.allocate_state({"num_blocks": each * len(PROMPTS)})
    table = SequenceTable(len(PROMPTS), longest)
    random = np.random.default_rng(4)
    for lane, length in enumerate(PROMPTS):
        table.open_lane([])
        table.tokens_LT[lane, :length] = random.integers(0, TINY.vocab_size, length)
        table.blocks_LB[lane, :each] = np.arange(lane * each, (lane + 1) * each)
    runner, logits = Runner(program, table), []
    lanes = range(len(PROMPTS))
    slices = [LaneSlice(lane, 0, PROMPTS[lane], 1) for lane in lanes]
    for step in range(NEW_TOKENS):
        logits.append(np.array(runner.run(slices)))
        chosen = logits[-1].argmax(-1)
        ends = [PROMPTS[lane] + step for lane in lanes]
        table.tokens_LT[lanes, ends] = chosen
        slices = [LaneSlice(lane, ends[lane], 1, 1) for lane in lanes]
    tokens = np.stack([values.argmax(-1) for values in logits], axis=1)
    return Written(tokens, np.stack(logits))


def random_weights(program: Executable) -> dict[str, Array]:
    """Weights that are the same for the same model, of sizes that keep activations near 1."""
    found: dict[str, Array] = {}
    for number, argument in enumerate(of_role(program.inputs, "weight")):
        shape = tuple(map(fixed, argument.type.shape))
        random = np.random.default_rng(number)
        if len(shape) == 1:
            found[argument.name] = random.uniform(0.5, 1.5, shape).astype(np.float32)
        else:
            values = random.standard_normal(shape, np.float32) * (2.0 / shape[-1] ** 0.5)
            found[argument.name] = values.astype(np.float32)
    return found
