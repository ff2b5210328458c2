"""Structures through llguidance: compiled once, then a mask over the tokens at each step.

Owns the compiled structures and the vocabulary they are compiled for. `TokenConstraint` is what
leaves this module. llguidance (https://github.com/guidance-ai/llguidance) releases Python's lock
while it compiles and while it fills masks.
"""

from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np

from banyan.engine.structure.after_marker import AfterMarker
from banyan.engine.structure.bits import clear_bits, set_bits
from banyan.engine.structure.constraint import MaskArray
from banyan.engine.structure.definition import Structure
from banyan.engine.structure.grammar_text import check_structure, grammar_text, parser_limits
from banyan.foundation.errors import RequestError

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

MAX_CACHED = 128


class StructureCompiler:
    """Compiles structures for one model; may be called from several threads.

    Args:
        vocabulary: gives the tokenizer as the text of a `tokenizer.json`; called once, late.
        vocab_size: token ids are 0 .. vocab_size - 1.
        end_token_ids: the model's end-of-sequence tokens.
        max_cached: structures that are kept compiled.
    """

    def __init__(
        self,
        vocabulary: Callable[[], str],
        *,
        vocab_size: int,
        end_token_ids: Collection[int],
        max_cached: int = MAX_CACHED,
    ) -> None:
        self._vocabulary = vocabulary
        self._max_cached = max_cached
        self._vocab_size = vocab_size
        self._end_token_ids = sorted(end_token_ids)
        self._lock = Lock()
        self._tokenizer: LLTokenizer | None = None
        self._compiled: OrderedDict[Structure, LLMatcher] = OrderedDict()

    def compile(self, structure: Structure) -> None:
        """Make a structure ready for `constraint`; at once when it is known.

        Raises:
            RequestError: it cannot be used; names the place where there is one.
        """
        # Imported late: an engine that never meets a structure starts without it.
        from llguidance import LLMatcher  # noqa: PLC0415

        if self._find(structure) is not None:
            return
        check_structure(_begun(structure))
        tokenizer = self._open_tokenizer()
        matcher = LLMatcher(tokenizer, grammar_text(structure), log_level=0, limits=parser_limits())
        if matcher.is_error():
            raise RequestError(
                f"the {structure.kind} cannot be compiled for this model: "
                f"{' '.join(matcher.get_error().split())}",
                parameter="structure",
            )
        with self._lock:
            self._compiled[structure] = matcher
            while len(self._compiled) > self._max_cached:
                self._compiled.popitem(last=False)

    def is_compiled(self, structure: Structure) -> bool:
        """True when `constraint` would not have to compile it."""
        return self._find(structure) is not None

    def constraint(
        self, structure: Structure, *, end_token_ids: Collection[int]
    ) -> "GuidanceConstraint | AfterMarker":
        """Begin an answer, which may end with any of `end_token_ids` once it is whole.

        Raises:
            RequestError: as `compile`.
        """
        self.compile(structure)
        matcher = self._find(structure)
        # Others may have pushed it out of the cache in between.
        while matcher is None:
            self.compile(structure)
            matcher = self._find(structure)
        inner = GuidanceConstraint(
            matcher.deep_copy(), ends=end_token_ids, known_ends=self._end_token_ids
        )
        if not structure.after:
            return inner
        tokenizer = self._open_tokenizer()
        opening = tokenizer.tokenize_str(structure.opening, parse_special=True)
        return AfterMarker(
            inner,
            structure.after,
            lambda token_id: tokenizer.decode_bytes([token_id]),
            forbidden=self._end_token_ids,
            opening=opening[0] if opening else None,
        )

    def _find(self, structure: Structure) -> "LLMatcher | None":
        with self._lock:
            matcher = self._compiled.get(structure)
            if matcher is not None:
                self._compiled.move_to_end(structure)
            return matcher

    def _open_tokenizer(self) -> "LLTokenizer":
        from llguidance import LLTokenizer  # noqa: PLC0415

        with self._lock:
            if self._tokenizer is None:
                try:
                    self._tokenizer = LLTokenizer(
                        self._vocabulary(),
                        n_vocab=self._vocab_size,
                        eos_token=self._end_token_ids or None,
                        # Sets of tokens that JSON strings take whole; they suit other texts, too.
                        slices=LLTokenizer.json_slices(),
                    )
                except ValueError as error:
                    raise RequestError(
                        f"this model's tokenizer cannot be used for structured answers: {error}",
                        parameter="structure",
                    ) from error
            return self._tokenizer


class GuidanceConstraint:
    """One answer within its structure; a `TokenConstraint`.

    Args:
        matcher: at the beginning of the structure; owned from now on.
        ends: tokens that may end this answer.
        known_ends: the end tokens that the matcher knows; it allows them where the answer is whole.
    """

    def __init__(
        self, matcher: "LLMatcher", *, ends: Collection[int], known_ends: Collection[int]
    ) -> None:
        self._matcher = matcher
        self._ends = frozenset(ends)
        self._all_ends = self._ends | frozenset(known_ends)
        self._is_ended = False
        # Usually equal; else the matcher's ends are exchanged for the answer's in each mask.
        self._ends_differ = self._ends != frozenset(known_ends)
        self._known_ends = np.array(sorted(known_ends), dtype=np.int64)
        self._other_ends = np.array(sorted(self._ends), dtype=np.int64)

    @property
    def is_finished(self) -> bool:
        """True when nothing may follow."""
        return self._is_ended or self._matcher.is_stopped()

    @property
    def failure(self) -> str | None:
        """Why the structure cannot be followed any further, or None."""
        if not self._matcher.is_error():
            return None
        return (
            "the answer's structure cannot be followed any further: "
            f"{' '.join(self._matcher.get_error().split())}"
        )

    def fill(self, mask_W: MaskArray) -> None:
        """Write which tokens may come next; nothing may when there is a failure."""
        self._matcher.unsafe_compute_mask_ptr(mask_W.ctypes.data, mask_W.nbytes)
        if self._ends_differ:
            clear_bits(mask_W, self._known_ends)
            if self._matcher.is_accepting():
                set_bits(mask_W, self._other_ends)

    def accept(self, token_id: int) -> None:
        """Go on past a token; a forbidden one is a failure."""
        if self._ends_differ and token_id in self._ends and self._matcher.is_accepting():
            self._is_ended = True
        else:
            self._matcher.consume_token(token_id)

    def count_valid(self, token_ids: Sequence[int]) -> int:
        """How many of the tokens could follow, the answer's end not counted."""
        num_valid = self._matcher.validate_tokens(list(token_ids))
        ends = (place for place in range(num_valid) if token_ids[place] in self._all_ends)
        return next(ends, num_valid)

    def rollback(self, num_tokens: int) -> None:
        """Take back the newest tokens."""
        self._matcher.rollback(num_tokens)


def _begun(structure: Structure) -> Structure:
    """The structure without what stands before it, which does not change how it compiles."""
    if not structure.after:
        return structure
    return Structure(
        kind=structure.kind, text=structure.text, any_whitespace=structure.any_whitespace
    )
