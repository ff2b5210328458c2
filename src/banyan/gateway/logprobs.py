"""Log-probabilities of tokens in OpenAI's two shapes, and those of prompts in vLLM's."""

from collections.abc import Sequence

from banyan.engine.events import TokenLogprob as EngineLogprob
from banyan.gateway.replies.chat import TokenLogprob, TopLogprob
from banyan.gateway.replies.completions import CompletionLogprobs
from banyan.gateway.replies.prompt_logprobs import PromptLogprob, PromptLogprobs
from banyan.gateway.token_spelling import TokenSpelling

# JSON has no minus infinity; OpenAI sends this for tokens that cannot come.
_IMPOSSIBLE = -9999.0


def token_logprob(token: EngineLogprob, spelling: TokenSpelling) -> TokenLogprob:
    """Spell one token and its rivals as a chat reply does."""
    chosen = _spelt(token.token_id, token.logprob, spelling)
    return TokenLogprob(
        chosen.token,
        chosen.logprob,
        chosen.bytes,
        [_spelt(token_id, logprob, spelling) for token_id, logprob in token.top],
    )


def completion_logprobs(
    tokens: Sequence[EngineLogprob],
    spelling: TokenSpelling,
    *,
    first_offset: int,
    unscored: Sequence[int] = (),
) -> CompletionLogprobs:
    """Spell tokens as a plain completion does; offsets count characters from `first_offset`.

    `unscored` are tokens that stand before the others and have no log probability.
    """
    names = [spelling.name(token_id) for token_id in unscored]
    names += [spelling.name(token.token_id) for token in tokens]
    offsets = []
    offset = first_offset
    for name in names:
        offsets.append(offset)
        offset += len(name)
    return CompletionLogprobs(
        text_offset=offsets,
        token_logprobs=[
            *(None for _ in unscored),
            *(max(token.logprob, _IMPOSSIBLE) for token in tokens),
        ],
        tokens=names,
        top_logprobs=[
            *(None for _ in unscored),
            *(
                {
                    spelling.name(token_id): max(logprob, _IMPOSSIBLE)
                    # As OpenAI says: the chosen token is always there, so one more may be.
                    for token_id, logprob in (*token.top, (token.token_id, token.logprob))
                }
                for token in tokens
            ),
        ],
    )


def prompt_logprobs(tokens: Sequence[EngineLogprob], spelling: TokenSpelling) -> PromptLogprobs:
    """Spell the scores of a prompt; its first token has none."""
    return [None, *(_prompt_entry(token, spelling) for token in tokens)]


def _prompt_entry(token: EngineLogprob, spelling: TokenSpelling) -> dict[str, PromptLogprob]:
    ranked = [(token.token_id, token.logprob, token.rank)]
    ranked += [(token_id, logprob, rank) for rank, (token_id, logprob) in enumerate(token.top, 1)]
    entry: dict[str, PromptLogprob] = {}
    for token_id, logprob, rank in ranked:
        name = spelling.name(token_id)
        entry.setdefault(str(token_id), PromptLogprob(max(logprob, _IMPOSSIBLE), rank, name))
    return entry


def _spelt(token_id: int, logprob: float, spelling: TokenSpelling) -> TopLogprob:
    return TopLogprob(spelling.name(token_id), max(logprob, _IMPOSSIBLE), spelling.bytes(token_id))
