"""From answers to the reply or the stream of a plain completion."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

import msgspec

from banyan.engine.events import TokenEvent, TokenLogprob
from banyan.gateway.generation import Answer, Answers, Part
from banyan.gateway.logprobs import completion_logprobs, prompt_logprobs
from banyan.gateway.replies.completions import Completion, CompletionChoice, CompletionLogprobs
from banyan.gateway.replies.usage import Usage
from banyan.gateway.streamed_usage import StreamedUsage
from banyan.gateway.token_spelling import TokenSpelling
from banyan.gateway.wire.completions import CompletionRequest


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt: its tokens, and its text when that is to be echoed."""

    token_ids: list[int]
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionReply:
    """Writes the reply of one request.

    Attributes:
        reply_id: the id the caller sees.
        created: seconds since 1970.
        asked: the request.
        prompts: what the engine was given.
        spelling: how tokens are written.
        fingerprint: the server's `system_fingerprint`.
    """

    reply_id: str
    created: int
    asked: CompletionRequest
    prompts: Sequence[Prompt]
    spelling: TokenSpelling
    fingerprint: str | None

    def completion(self, answers: Answers) -> bytes:
        """Write a whole reply, encoded."""
        n = self.asked.n or 1
        choices = [
            self._choice(index, self.prompts[index // n], answer)
            for index, answer in enumerate(answers.best(n))
        ]
        return msgspec.json.encode(self._reply(choices, usage=answers.usage()))

    async def chunks(
        self, parts: AsyncGenerator[Part, None], answers: Answers
    ) -> AsyncGenerator[bytes, None]:
        """Write a stream chunk by chunk, each encoded."""
        usage = StreamedUsage.asked_by(self.asked)
        num_choices = self.asked.n or 1
        # Counted by tokens, as in a whole reply: their text may be held back for a while.
        offsets = [0] * len(answers.items)
        begun: set[int] = set()
        async with aclosing(parts):
            async for part in parts:
                answers.add(part)
                event = part.event
                prompt = self.prompts[part.index // num_choices]
                is_first = part.index not in begun
                begun.add(part.index)
                choice = self._part(part.index, event, offset=offsets[part.index])
                if choice.logprobs is not None:
                    offsets[part.index] += sum(map(len, choice.logprobs.tokens))
                if is_first:
                    choice = self._with_prompt(choice, prompt)
                if choice.text or event.logprobs or event.finish_reason or choice.token_ids:
                    chunk = self._reply([choice], usage=usage.of_chunk(answers))
                    yield msgspec.json.encode(chunk)
        if usage.at_end:
            yield msgspec.json.encode(self._reply([], usage=answers.usage()))

    def _choice(self, index: int, prompt: Prompt, answer: Answer) -> CompletionChoice:
        asked = self.asked
        # Of 0 tokens one is made, for the engine makes at least one: it is left out.
        only_echo = asked.max_tokens == 0
        wants_ids = bool(asked.return_token_ids)
        scores = answer.prompt_logprobs
        return CompletionChoice(
            index=index,
            text=prompt.text if only_echo else prompt.text + answer.text,
            logprobs=self._logprobs(prompt, scores, [] if only_echo else answer.logprobs),
            finish_reason="length" if only_echo else answer.finish_reason,
            stop_reason=None if only_echo else answer.stop_reason,
            prompt_logprobs=(
                msgspec.UNSET
                if asked.prompt_logprobs is None
                else prompt_logprobs(scores, self.spelling)
            ),
            prompt_token_ids=prompt.token_ids if wants_ids else msgspec.UNSET,
            token_ids=answer.token_ids if wants_ids else msgspec.UNSET,
        )

    def _logprobs(
        self, prompt: Prompt, scores: Sequence[TokenLogprob], tokens: Sequence[TokenLogprob]
    ) -> CompletionLogprobs | None:
        if self.asked.logprobs is None:
            return None
        if self.asked.echo:
            tokens = (*scores, *tokens)
            unscored = prompt.token_ids[:1]
        else:
            unscored = []
        return completion_logprobs(tokens, self.spelling, first_offset=0, unscored=unscored)

    def _part(self, index: int, event: TokenEvent, *, offset: int) -> CompletionChoice:
        logprobs = None
        if event.logprobs:
            logprobs = completion_logprobs(event.logprobs, self.spelling, first_offset=offset)
        wants_ids = bool(self.asked.return_token_ids)
        return CompletionChoice(
            index=index,
            text=event.text,
            logprobs=logprobs,
            finish_reason=event.finish_reason,
            stop_reason=event.stop_reason,
            token_ids=list(event.token_ids) if wants_ids else msgspec.UNSET,
        )

    def _with_prompt(self, choice: CompletionChoice, prompt: Prompt) -> CompletionChoice:
        wants_ids = bool(self.asked.return_token_ids)
        return msgspec.structs.replace(
            choice,
            text=prompt.text + choice.text,
            prompt_token_ids=prompt.token_ids if wants_ids else msgspec.UNSET,
        )

    def _reply(
        self, choices: list[CompletionChoice], *, usage: Usage | None | msgspec.UnsetType
    ) -> Completion:
        return Completion(
            id=self.reply_id,
            created=self.created,
            model=self.asked.model,
            choices=choices,
            usage=usage,
            system_fingerprint=self.fingerprint,
        )
