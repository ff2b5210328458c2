"""How much a quantised model differs from the one it was made from, on a text.

Both run side by side on the same tokens. Layers are compared on the rows that really go into them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from banyan.compiler.executable import Executable
from banyan.compiler.targets.interpreter.quantized import quantize_rows
from banyan.engine.cache.key_value_blocks import blocks_for
from banyan.engine.cache.sequence_table import SequenceTable
from banyan.engine.runner import LaneSlice, step_arguments
from banyan.models.configuration import EncoderConfiguration, ModelConfiguration
from banyan.models.loading import ModelDirectory
from banyan.models.pooling import pool
from banyan.models.quantisation.scheme import LinearScheme, Parts, dequantize

CHUNK = 256
"""Tokens that are computed together."""

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class TextAccuracy:
    """What a decoder says of the next token, against what the original says.

    Attributes:
        num_tokens: compared.
        divergence: mean Kullback-Leibler divergence, in nats.
        agreement: share of tokens whose likeliest successor is the same.
        perplexity: of the original.
        quantized_perplexity: of the quantised model.
    """

    num_tokens: int
    divergence: float
    agreement: float
    perplexity: float
    quantized_perplexity: float


@dataclass(frozen=True, slots=True)
class VectorAccuracy:
    """Cosines between the vectors that an encoder gives and those of the original."""

    num_texts: int
    mean_cosine: float
    least_cosine: float


def chunks_of(directory: ModelDirectory, text: str, *, most: int) -> list[list[int]]:
    """The text as pieces of at most `CHUNK` tokens, at most `most` tokens in all."""
    if isinstance(directory.configuration, EncoderConfiguration):
        limit = min(CHUNK, directory.configuration.max_position_embeddings)
        lines = [line for line in text.split("\n\n") if line.strip()]
        pieces = [directory.tokenizer.encode_cut(line, max_tokens=limit) for line in lines]
    else:
        tokens = directory.tokenizer.encode(text)
        limit = min(CHUNK, directory.configuration.max_position_embeddings)
        pieces = [tokens[start : start + limit] for start in range(0, len(tokens), limit)]
    kept: list[list[int]] = []
    for piece in pieces:
        if len(piece) > 1 and sum(map(len, kept)) + len(piece) <= most:
            kept.append(list(piece))
    return kept


def prepare(executable: Executable, directory: ModelDirectory) -> None:
    """Give a decoder's program memory for one chunk; an encoder needs none."""
    if isinstance(directory.configuration, ModelConfiguration):
        executable.allocate_state({"num_blocks": blocks_for(CHUNK)})


def run_chunk(
    executable: Executable, directory: ModelDirectory, tokens: Sequence[int]
) -> Mapping[str, Array]:
    """Run one piece of text by itself; a decoder gives logits after every token."""
    if isinstance(directory.configuration, EncoderConfiguration):
        ids = np.array([tokens], np.int64)
        arguments = {
            "token_ids": ids,
            "attention_mask": np.ones_like(ids),
            "token_types": np.zeros_like(ids),
        }
        return executable.run(arguments)
    num_tokens = len(tokens)
    table = SequenceTable(1, CHUNK)
    table.blocks_LB[0, :] = np.arange(table.blocks_LB.shape[1])
    table.tokens_LT[0, :num_tokens] = tokens
    arguments = step_arguments(table, [LaneSlice(0, 0, num_tokens, 1)])
    return executable.run({**arguments, "logit_rows": np.arange(num_tokens)})


def compare_texts(
    plain: Executable,
    quantized: Executable,
    directory: ModelDirectory,
    chunks: Sequence[Sequence[int]],
) -> TextAccuracy:
    """Compare two decoders."""
    divergence = agreement = loss = quantized_loss = 0.0
    num_tokens = num_losses = 0
    for tokens in chunks:
        wanted, found = (
            _log_softmax(run_chunk(executable, directory, tokens)["logits"])
            for executable in (plain, quantized)
        )
        divergence += float((np.exp(wanted) * (wanted - found)).sum())
        agreement += float((wanted.argmax(-1) == found.argmax(-1)).sum())
        num_tokens += len(tokens)
        following = (np.arange(len(tokens) - 1), np.asarray(tokens[1:]))
        loss -= float(wanted[:-1][following].sum())
        quantized_loss -= float(found[:-1][following].sum())
        num_losses += len(tokens) - 1
    return TextAccuracy(
        num_tokens,
        divergence / num_tokens,
        agreement / num_tokens,
        float(np.exp(loss / num_losses)),
        float(np.exp(quantized_loss / num_losses)),
    )


def compare_vectors(
    plain: Executable,
    quantized: Executable,
    directory: ModelDirectory,
    chunks: Sequence[Sequence[int]],
) -> VectorAccuracy:
    """Compare two encoders."""
    pooling = directory.pooling
    assert pooling is not None, "an encoder's directory always has a pooling"
    cosines = []
    for tokens in chunks:
        mask = np.ones((1, len(tokens)), np.int64)
        wanted, found = (
            pool(run_chunk(executable, directory, tokens)["hidden"], mask, pooling)[0]
            for executable in (plain, quantized)
        )
        size = np.linalg.norm(wanted) * np.linalg.norm(found)
        cosines.append(float(wanted @ found / size))
    return VectorAccuracy(len(cosines), float(np.mean(cosines)), min(cosines))


class LayerRows:
    """The rows that go into each layer on a text: the last run's are compared, others calibrate."""

    def __init__(self, outputs: Mapping[str, str]) -> None:
        """`outputs` says for each layer which output of the observed program has its rows."""
        self._outputs = outputs
        self._runs: dict[str, list[Array]] = {name: [] for name in outputs.values()}

    def add(self, results: Mapping[str, Array]) -> None:
        """Take the rows of one run, in the element type they have."""
        for name, runs in self._runs.items():
            runs.append(results[name].copy())

    def calibration(self, layer: str) -> Array:
        """Rows to round a layer by."""
        runs = self._runs[self._outputs[layer]]
        return np.concatenate(runs[:-1] or runs)

    def of_layer(self, layer: str, weight: Array, scheme: LinearScheme, parts: Parts) -> float:
        """The norm of the difference of the results over the norm of the result."""
        rows = self._runs[self._outputs[layer]][-1].astype(np.float32)
        wanted = rows @ weight.astype(np.float32).T
        step = np.ones((len(rows), 1), np.float32)
        if scheme.activation == "int8":
            rows, step = quantize_rows(rows)
        found = (rows @ dequantize(scheme, parts).T) * step
        size = float(np.linalg.norm(wanted)) or 1.0
        return float(np.linalg.norm(found - wanted)) / size


def _log_softmax(logits: Array) -> NDArray[np.float64]:
    wide = logits.astype(np.float64)
    wide -= wide.max(axis=-1, keepdims=True)
    result: NDArray[np.float64] = wide - np.log(np.exp(wide).sum(axis=-1, keepdims=True))
    return result
