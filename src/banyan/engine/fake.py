"""A model, a tokenizer and an engine without weights: for tests, demos and measuring overhead.

`FakeModel` is strict where a real model is forgiving: each token it chooses is a function of every
token it can see through the block tables, so an engine that mixes up slots, blocks or positions
gets other tokens. Shipped, because plug-ins and users test against it too.
"""

import json
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from banyan.compiler.executable import FinishedRun, PendingRun
from banyan.engine.adapters.library import AdapterLibrary
from banyan.engine.adapters.memory import ReadAdapter
from banyan.engine.cache.key_value_blocks import BLOCK_SIZE, blocks_for
from banyan.engine.engine import Engine
from banyan.engine.options import EngineLimits, QueuePolicy
from banyan.engine.requests.steady_load import SteadyLoad
from banyan.engine.runner import StepModel
from banyan.engine.speculation.speculator import Speculator
from banyan.engine.structure.guidance import StructureCompiler
from banyan.engine.vision.eyes import Eyes
from banyan.foundation.errors import ModelError

_FIRST_LETTER, _NUM_LETTERS = ord("a"), 26
_MIX = np.uint64(0x9E3779B97F4A7C15)
_BYTE_LEVEL = {
    "type": "ByteLevel",
    "add_prefix_space": False,
    "trim_offsets": True,
    "use_regex": False,
}


class FakeTokenizer:
    """One token for each byte of UTF-8, and one special token, the end of the sequence."""

    end_token_id = 256
    vocab_size = 260

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Return the bytes of the text; there is nothing to add."""
        return list(text.encode())

    def encode_cut(self, text: str, *, max_tokens: int) -> list[int]:
        """Return the first bytes of the text."""
        return self.encode(text)[:max_tokens]

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """Return the text; broken characters as U+FFFD."""
        end = "" if skip_special_tokens else "<end>"
        text, piece = "", bytearray()
        for token_id in token_ids:
            if token_id < 256:
                piece.append(token_id)
                continue
            text += piece.decode(errors="replace") + end
            piece.clear()
        return text + piece.decode(errors="replace")

    def token_text(self, token_id: int) -> str | None:
        """Return the byte as hexadecimal digits, `<end>` for the end."""
        if token_id == self.end_token_id:
            return "<end>"
        return f"<0x{token_id:02X}>" if 0 <= token_id < 256 else None

    def token_id(self, entry: str) -> int | None:
        """Return the id of an entry as `token_text` writes it, None for any other."""
        return next((index for index in range(257) if self.token_text(index) == entry), None)

    def to_json(self) -> str:
        """Return the text of a `tokenizer.json` that does the same."""
        return json.dumps(
            {
                "version": "1.0",
                "added_tokens": [_added_token(self.end_token_id, "<end>")],
                "pre_tokenizer": _BYTE_LEVEL,
                "decoder": _BYTE_LEVEL,
                "model": {
                    "type": "BPE",
                    "vocab": {_byte_name(byte): byte for byte in range(256)},
                    "merges": [],
                },
            }
        )


class FakeModel(StepModel):
    """Deterministic logits from the tokens seen; the likeliest is a letter "a" to "z".

    Args:
        num_blocks: size of its cache; it remembers one number for each token place.
        vocab_size: width of the logits.
        end_token_id: the likeliest token once `end_after` tokens are seen.
        end_after: None never ends.
        num_slots: room for adapters; what a token leaves in the cache depends on the one it has.
        num_in_flight: steps that may be begun and not finished; with more than one nothing is
            computed before it is asked for.
    """

    def __init__(
        self,
        num_blocks: int,
        *,
        vocab_size: int = FakeTokenizer.vocab_size,
        end_token_id: int = FakeTokenizer.end_token_id,
        end_after: int | None = None,
        num_slots: int = 0,
        num_in_flight: int = 1,
    ) -> None:
        self.num_slots = num_slots
        self._num_in_flight = num_in_flight
        self._begun: deque[_LateRun] = deque()
        # The last place is that of tokens without an adapter.
        self._seeds = np.zeros(num_slots + 1, dtype=np.uint64)
        self._vocab_size = vocab_size
        self._end_token_id = end_token_id
        self._end_after = end_after
        self._words_V = np.arange(vocab_size, dtype=np.uint64)
        # Rubbish to begin with: reading a place before writing it changes the answer.
        self.cache = np.arange(num_blocks * BLOCK_SIZE, dtype=np.uint64) * np.uint64(7919)
        self.num_runs = 0

    @property
    def num_in_flight(self) -> int:
        """See above."""
        return self._num_in_flight

    def begin(self, arguments: Mapping[str, NDArray[Any]]) -> PendingRun:
        """Take a step; what is written by one that is not finished must be touched by no other."""
        if self._num_in_flight == 1:
            return FinishedRun(self.run(arguments))
        assert len(self._begun) < self._num_in_flight, "more steps are begun than the model takes"
        begun = _LateRun(self.run, arguments, self._begun)
        for other in self._begun:
            assert begun.written.isdisjoint(other.touched), "a step writes what another reads"
            assert other.written.isdisjoint(begun.touched), "a step reads what another writes"
        self._begun.append(begun)
        return begun

    def run(self, arguments: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        """Write the new tokens into the cache, then read whole contexts back through the tables."""
        self.num_runs += 1
        tokens_T = arguments["token_ids"].astype(np.uint64)
        places = np.atleast_2d(arguments["positions"]).astype(np.uint64)
        written_T = _mix(tokens_T * np.uint64(65537) + places[0])
        for others_T in places[1:]:
            written_T = _mix(written_T + others_T)
        if "image_index" in arguments:
            written_T = _shown(written_T, arguments["image_rows"], arguments["image_index"])
        if self.num_slots:
            written_T = _mix(written_T + self._seeds[arguments["adapters"]])
        self.cache[arguments["slots"]] = written_T
        query_starts = arguments["query_starts"]
        rows = [
            self._logits(arguments, *self._owner(arguments, int(row)))
            for row in arguments["logit_rows"]
        ]
        assert query_starts[-1] == len(tokens_T), "query_starts must end at the number of tokens"
        shape = (0, self._vocab_size)
        return {"logits": np.stack(rows) if rows else np.zeros(shape, dtype=np.float32)}

    def read(self, path: str) -> ReadAdapter:
        """Take an adapter that is nothing but the text of its `adapter_config.json`."""
        file = Path(path) / "adapter_config.json"
        try:
            seed = crc32(file.read_bytes())
        except OSError as error:
            raise ModelError(f"the adapter {path} cannot be read: {error}") from error
        return ReadAdapter(seed, digest=str(seed), base_model="fake")

    def write(self, slot: int, weights: int) -> None:
        """Put an adapter into a slot."""
        self._seeds[slot] = weights

    def _owner(self, arguments: Mapping[str, NDArray[Any]], row: int) -> tuple[int, int]:
        """The sequence that owns a row, and how many tokens the row sees."""
        query_starts = arguments["query_starts"]
        sequence = int(np.searchsorted(query_starts, row, side="right")) - 1
        num_after = int(query_starts[sequence + 1]) - 1 - row
        num_seen = int(arguments["context_lengths"][sequence]) - num_after
        positions = arguments["positions"]
        is_counted = positions.ndim == 1
        assert not is_counted or positions[row] == num_seen - 1, "positions and lengths disagree"
        return sequence, num_seen

    def _logits(
        self, arguments: Mapping[str, NDArray[Any]], sequence: int, num_seen: int
    ) -> NDArray[np.float32]:
        places = np.arange(num_seen)
        blocks = arguments["block_tables"][sequence, places // BLOCK_SIZE].astype(np.int64)
        seen = self.cache[blocks * BLOCK_SIZE + places % BLOCK_SIZE]
        digest = _mix(np.bitwise_xor.reduce(seen + _mix(places.astype(np.uint64))))
        noise_V = _mix(self._words_V + digest) >> np.uint64(40)
        logits_V: NDArray[np.float32] = noise_V.astype(np.float32) / np.float32(2**24)
        if self._end_after is not None and num_seen >= self._end_after:
            logits_V[self._end_token_id] += 4.0
        logits_V[_FIRST_LETTER + int(digest % np.uint64(_NUM_LETTERS))] += 2.0
        return logits_V


class _LateRun:
    """A step that is computed when it is finished.

    Attributes:
        written: the blocks it writes.
        touched: the blocks it reads or writes.
    """

    def __init__(
        self,
        run: Callable[[Mapping[str, NDArray[Any]]], dict[str, NDArray[np.float32]]],
        arguments: Mapping[str, NDArray[Any]],
        begun: "deque[_LateRun]",
    ) -> None:
        self._run, self._arguments, self._begun = run, arguments, begun
        self._copies = {name: array.copy() for name, array in arguments.items()}
        self.written = set((arguments["slots"] // BLOCK_SIZE).tolist())
        rows = zip(arguments["block_tables"], arguments["context_lengths"], strict=True)
        read = {int(block) for row, length in rows for block in row[: blocks_for(int(length))]}
        self.touched = self.written | read

    def finish(self) -> Mapping[str, NDArray[Any]]:
        """Compute."""
        assert self._begun.popleft() is self, "a step is finished before an older one"
        for name, copy in self._copies.items():
            assert np.array_equal(copy, self._arguments[name]), f"{name} changed meanwhile"
        return self._run(self._arguments)


class FakeBlocks:
    """The blocks of a fake model's cache, to be copied out and in."""

    def __init__(self, model: FakeModel) -> None:
        self._model = model

    @property
    def bytes_per_block(self) -> int:
        """Bytes of one block."""
        return BLOCK_SIZE * self._model.cache.itemsize

    def read(self, block: int) -> bytes:
        """Copy a block out."""
        return self._model.cache[block * BLOCK_SIZE : (block + 1) * BLOCK_SIZE].tobytes()

    def write(self, block: int, content: bytes) -> None:
        """Copy a block in."""
        places = slice(block * BLOCK_SIZE, (block + 1) * BLOCK_SIZE)
        self._model.cache[places] = np.frombuffer(content, np.uint64)


def fake_engine(
    *,
    max_model_len: int = 256,
    max_num_seqs: int = 8,
    token_budget: int = 64,
    num_blocks: int = 128,
    end_after: int | None = None,
    seed: int | None = None,
    speculator: Speculator | None = None,
    enable_prefix_caching: bool = True,
    policy: QueuePolicy | None = None,
    clock: Callable[[], float] = time.monotonic,
    num_slots: int = 0,
    max_adapters: int | None = None,
    eyes: Eyes | None = None,
    num_in_flight: int = 1,
    num_parts: int | None = None,
) -> Engine:
    """Build an engine on a `FakeModel` that reads and writes bytes of text.

    `num_parts` is that of `SteadyLoad`; None lets answers begin as soon as there is room.
    """
    limits = EngineLimits(
        max_model_len=max_model_len,
        max_num_seqs=max_num_seqs,
        token_budget=token_budget,
        num_blocks=num_blocks,
    )
    tokenizer = FakeTokenizer()
    model = FakeModel(
        num_blocks, end_after=end_after, num_slots=num_slots, num_in_flight=num_in_flight
    )
    return Engine(
        model,
        limits,
        vocab_size=FakeTokenizer.vocab_size,
        end_token_ids=(FakeTokenizer.end_token_id,),
        tokenizer=tokenizer,
        seed=seed,
        structures=StructureCompiler(
            tokenizer.to_json,
            vocab_size=tokenizer.vocab_size,
            end_token_ids=(tokenizer.end_token_id,),
        ),
        speculator=speculator,
        enable_prefix_caching=enable_prefix_caching,
        policy=policy,
        clock=clock,
        adapters=AdapterLibrary(model, max_adapters=max_adapters) if num_slots else None,
        eyes=eyes,
        steady_load=None if num_parts is None else SteadyLoad(limits, num_parts=num_parts),
    )


def _added_token(token_id: int, content: str) -> dict[str, Any]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": token_id, "content": content, "special": True, **flags}


def _byte_name(byte: int) -> str:
    """The letter that byte-level tokenizers write for a byte (GPT-2's table)."""
    is_visible = 33 <= byte <= 126 or 161 <= byte <= 172 or 174 <= byte <= 255
    if is_visible:
        return chr(byte)
    hidden = (*range(33), *range(127, 161), 173)
    return chr(256 + hidden.index(byte))


def _shown(
    written_T: NDArray[np.uint64], rows_RN: NDArray[Any], index_T: NDArray[Any]
) -> NDArray[np.uint64]:
    """Let what is seen change what is written for the tokens that see it."""
    digests_R = np.array([crc32(row.tobytes()) for row in rows_RN], dtype=np.uint64)
    changed: NDArray[np.uint64] = _mix(written_T + digests_R[index_T])
    return np.where(index_T < 0, written_T, changed)


def _mix(numbers: Any) -> Any:
    """Spread the bits of 64-bit numbers (the finaliser of SplitMix64, Steele et al. 2014)."""
    with np.errstate(over="ignore"):
        numbers = numbers + _MIX
        numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return numbers ^ (numbers >> np.uint64(31))
