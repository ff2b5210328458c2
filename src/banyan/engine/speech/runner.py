"""The two programs of a Whisper model: a window of sound into a lane, a step of text over lanes.

Every lane owns blocks of both caches for good: text of the longest kind and one window of sound.
Knows the names and shapes of both programs' arguments. Dims: T tokens, S lanes of a step.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from banyan.compiler.executable import Executable
from banyan.compiler.ir.cached import CACHE_FORMATS
from banyan.engine.cache.key_value_blocks import BLOCK_SIZE, blocks_for
from banyan.models.speech.configuration import SpeechConfiguration
from banyan.models.speech.log_mel import log_mel

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class LaneTokens:
    """New tokens of one lane, and the places among them whose logits are wanted.

    Attributes:
        start: position of the first one.
        wanted: counted from the first new token.
    """

    lane: int
    start: int
    token_ids: tuple[int, ...]
    wanted: tuple[int, ...]


class SpeechRunner:
    """Runs both programs; the states of `decoder` have `num_lanes` times the blocks of a lane."""

    def __init__(
        self,
        encoder: Executable,
        decoder: Executable,
        configuration: SpeechConfiguration,
        *,
        dtype: str,
        num_lanes: int,
    ) -> None:
        self.num_lanes = num_lanes
        self.configuration = configuration
        self._encoder, self._decoder = encoder, decoder
        self._form = CACHE_FORMATS[dtype]
        self._text_blocks = blocks_for(configuration.max_tokens)
        self._sound_blocks = blocks_for(configuration.num_frames)
        decoder.allocate_state(
            {
                "num_blocks": num_lanes * self._text_blocks,
                "num_sound_blocks": num_lanes * self._sound_blocks,
            }
        )

    def hear(self, lane: int, samples: Floats) -> None:
        """Encode one window of samples at 16 kHz, padded by silence, into a lane."""
        c = self.configuration
        features = log_mel(samples, num_bins=c.num_mel_bins, num_frames=2 * c.num_frames)
        found = self._encoder.run({"features": features[None]})
        first = lane * self._sound_blocks
        for layer in range(c.decoder_layers):
            keys = _key_blocks(found[f"sound_keys.{layer}"], self._form.pack)
            values = _value_blocks(found[f"sound_values.{layer}"], self._form.pack)
            for number in range(self._sound_blocks):
                at = first + number
                self._decoder.write_state_part(f"sound_key_cache.{layer}", at, keys[number])
                self._decoder.write_state_part(f"sound_value_cache.{layer}", at, values[number])

    def step(self, lanes: Sequence[LaneTokens]) -> list[Floats]:
        """Write new tokens of many lanes at once; gives the wanted logits [rows, V] of each."""
        logits_RV = self._decoder.run(self._arguments(lanes))["logits"]
        stops = list(accumulate(len(lane.wanted) for lane in lanes))
        return [
            logits_RV[stop - len(lane.wanted) : stop]
            for stop, lane in zip(stops, lanes, strict=True)
        ]

    def _arguments(self, lanes: Sequence[LaneTokens]) -> dict[str, NDArray[Any]]:
        counts = [len(lane.token_ids) for lane in lanes]
        starts = np.array([0, *accumulate(counts)], dtype=np.int32)
        num_tokens = int(starts[-1])
        positions_T = np.concatenate(
            [np.arange(x.start, x.start + len(x.token_ids)) for x in lanes]
        )
        numbers_S = np.array([lane.lane for lane in lanes], dtype=np.int32)
        numbers_T = np.repeat(numbers_S, counts)
        ends_S = np.array([x.start + len(x.token_ids) for x in lanes], dtype=np.int32)
        columns = np.arange(blocks_for(int(ends_S.max())), dtype=np.int32)
        sound_columns = np.arange(self._sound_blocks, dtype=np.int32)
        return {
            "token_ids": np.array([t for x in lanes for t in x.token_ids], dtype=np.int64),
            "positions": positions_T,
            "slots": numbers_T.astype(np.int64) * (self._text_blocks * BLOCK_SIZE) + positions_T,
            "block_tables": numbers_S[:, None] * self._text_blocks + columns,
            "query_starts": starts,
            "context_lengths": ends_S,
            "sound_tables": numbers_T[:, None] * np.int32(self._sound_blocks) + sound_columns,
            "sound_starts": np.arange(num_tokens + 1, dtype=np.int32),
            "sound_lengths": np.full(num_tokens, self.configuration.num_frames, dtype=np.int32),
            "logit_rows": np.concatenate(
                [
                    start + np.array(lane.wanted, dtype=np.int64)
                    for start, lane in zip(starts, lanes, strict=False)
                ]
            ),
        }


def _padded(rows_FHD: NDArray[Any]) -> NDArray[Any]:
    """Fill the last block with zeros."""
    missing = -len(rows_FHD) % BLOCK_SIZE
    return np.pad(rows_FHD, ((0, missing), (0, 0), (0, 0)))


def _key_blocks(keys_FHD: NDArray[Any], pack: int) -> NDArray[Any]:
    """Lay out keys as [blocks, H, D / p, 16, p]."""
    rows = _padded(keys_FHD)
    _, heads, size = rows.shape
    shaped = rows.reshape(-1, BLOCK_SIZE, heads, size // pack, pack)
    return np.ascontiguousarray(shaped.transpose(0, 2, 3, 1, 4))


def _value_blocks(values_FHD: NDArray[Any], pack: int) -> NDArray[Any]:
    """Lay out values as [blocks, H, 16 / p, D, p]."""
    rows = _padded(values_FHD)
    _, heads, size = rows.shape
    shaped = rows.reshape(-1, BLOCK_SIZE // pack, pack, heads, size)
    return np.ascontiguousarray(shaped.transpose(0, 3, 1, 4, 2))
