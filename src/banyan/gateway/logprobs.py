"""Log-probabilities of tokens in OpenAI's two shapes."""

from collections.abc import Sequence

from banyan.engine.events import TokenLogprob as EngineLogprob
from banyan.gateway.backend import TextModel
from banyan.gateway.replies.chat import TokenLogprob, TopLogprob
from banyan.gateway.replies.completions import CompletionLogprobs

# JSON has no minus infinity; OpenAI sends this for tokens that cannot come.
_IMPOSSIBLE = -9999.0


def token_logprob(token: EngineLogprob, text: TextModel) -> TokenLogprob:
    """Spell one token and its rivals as a chat reply does."""
    chosen = _spelt(token.token_id, token.logprob, text)
    return TokenLogprob(
        chosen.token,
        chosen.logprob,
        chosen.bytes,
        [_spelt(token_id, logprob, text) for token_id, logprob in token.top],
    )


def completion_logprobs(
    tokens: Sequence[EngineLogprob], text: TextModel, *, first_offset: int
) -> CompletionLogprobs:
    """Spell tokens as a plain completion does; offsets count characters from `first_offset`."""
    names = [text.decode([token.token_id]) for token in tokens]
    offsets = []
    offset = first_offset
    for name in names:
        offsets.append(offset)
        offset += len(name)
    return CompletionLogprobs(
        text_offset=offsets,
        token_logprobs=[max(token.logprob, _IMPOSSIBLE) for token in tokens],
        tokens=names,
        top_logprobs=[
            {
                text.decode([token_id]): max(logprob, _IMPOSSIBLE)
                # As OpenAI says: the chosen token is always there, so one more may be.
                for token_id, logprob in (*token.top, (token.token_id, token.logprob))
            }
            for token in tokens
        ],
    )


def _spelt(token_id: int, logprob: float, text: TextModel) -> TopLogprob:
    name = text.decode([token_id])
    # A token may be a part of a character; its own text is then a replacement sign.
    spelling = None if "\ufffd" in name else list(name.encode())
    return TopLogprob(name, max(logprob, _IMPOSSIBLE), spelling)
