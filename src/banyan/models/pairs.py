"""Two texts as one prompt for a model that scores how well they fit together.

A cross-encoder takes both as its tokenizer's template joins them. A language model that answers
"yes" or "no" takes them inside a conversation: its own template with a message from "query" and one
from "document", or, without such a template, the wording Qwen3-Reranker was trained on. Imports no
torch and no NumPy.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from banyan.foundation.errors import ModelError, RequestError
from banyan.models.json_fields import Fields
from banyan.models.task import read_modules
from banyan.models.tokenizer import EncodedPair, Tokenizer

# The wording of https://huggingface.co/Qwen/Qwen3-Reranker-0.6B (model card, "Usage").
_BEFORE = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and "
    'the Instruct provided. Note that the answer can only be "yes" or "no".<|im_end|>\n'
    "<|im_start|>user\n"
)
_AFTER = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
_INSTRUCTION = "Given a web search query, retrieve relevant passages that answer the query"

Render = Callable[[Sequence[Mapping[str, Any]]], str]


@dataclass(frozen=True, slots=True)
class AnswerTokens:
    """The words a language model answers with; without `false` the logit of `true` is the score."""

    true: int
    false: int | None


class Pairs(Protocol):
    """Makes one prompt of two texts."""

    def encode(self, query: str, document: str, *, max_tokens: int) -> EncodedPair:
        """Give the tokens of a pair, the texts cut so that they are at most `max_tokens`."""
        ...


@dataclass(frozen=True, slots=True)
class JoinedPairs:
    """Pairs as the tokenizer's template joins them; the longer text is cut first."""

    tokenizer: Tokenizer

    def encode(self, query: str, document: str, *, max_tokens: int) -> EncodedPair:
        """Give the tokens of a pair."""
        return self.tokenizer.encode_pair(query, document, max_tokens=max_tokens)


@dataclass(frozen=True, slots=True)
class InstructedPairs:
    """Pairs in the wording of Qwen3-Reranker; what is too long is cut at its end."""

    tokenizer: Tokenizer

    def encode(self, query: str, document: str, *, max_tokens: int) -> EncodedPair:
        """Give the tokens of a pair."""
        before, after = (
            self.tokenizer.encode(text, add_special_tokens=False) for text in (_BEFORE, _AFTER)
        )
        text = f"<Instruct>: {_INSTRUCTION}\n<Query>: {query}\n<Document>: {document}"
        inner = self.tokenizer.encode(text, add_special_tokens=False)
        room = max_tokens - len(before) - len(after)
        if room < 1:
            raise RequestError(
                f"a prompt of at most {max_tokens} tokens has no room for the wording of this "
                f"model, which takes {len(before) + len(after)}; allow more"
            )
        return EncodedPair((*before, *inner[:room], *after), ())


@dataclass(frozen=True, slots=True)
class TemplatePairs:
    """Pairs as the model's chat template writes them; nothing is cut."""

    tokenizer: Tokenizer
    render: Render

    def encode(self, query: str, document: str, *, max_tokens: int) -> EncodedPair:
        """Give the tokens of a pair."""
        messages = [
            {"role": "query", "content": query},
            {"role": "document", "content": document},
        ]
        tokens = self.tokenizer.encode(self.render(messages), add_special_tokens=False)
        return EncodedPair(tuple(tokens), ())


def read_answer_tokens(directory: Path, tokenizer: Tokenizer) -> AnswerTokens:
    """Find the words that a reranking language model answers with.

    Those of the module for logits that sentence-transformers writes, otherwise "yes" and "no".

    Raises:
        ModelError: the tokenizer has no such words.
    """
    for kind, folder in read_modules(directory):
        if kind == "LogitScore":
            fields = Fields.read(folder / "config.json")
            false = "false_token_id"
            return AnswerTokens(
                true=fields.integer("true_token_id", minimum=0),
                false=fields.integer(false, minimum=0) if fields.has(false) else None,
            )
    true, false_id = tokenizer.token_id("yes"), tokenizer.token_id("no")
    if true is None or false_id is None:
        raise ModelError(
            f"{directory} cannot rerank: its tokenizer has no tokens 'yes' and 'no' to answer with"
        )
    return AnswerTokens(true, false_id)
