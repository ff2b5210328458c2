"""From answers to the reply or the stream of a chat request: OpenAI's shape, vLLM's additions."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

import msgspec

from banyan.engine.events import TokenLogprob
from banyan.gateway.answer_reading import AnswerReader
from banyan.gateway.generation import Answer, Answers, Part
from banyan.gateway.logprobs import prompt_logprobs, token_logprob
from banyan.gateway.replies.chat import (
    ChatChoice,
    ChatChunk,
    ChatChunkChoice,
    ChatCompletion,
    ChatDelta,
    ChatLogprobs,
)
from banyan.gateway.streamed_usage import StreamedUsage
from banyan.gateway.token_spelling import TokenSpelling
from banyan.gateway.tool_calling import AnswerReading
from banyan.gateway.wire.chat import ChatRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatReply:
    """Writes the reply of one request.

    Attributes:
        reply_id: the id the caller sees.
        created: seconds since 1970.
        asked: the request.
        prompt_token_ids: what the engine was given.
        spelling: how tokens are written.
        fingerprint: the server's `system_fingerprint`.
        reading: how the text of an answer is taken apart.
    """

    reply_id: str
    created: int
    asked: ChatRequest
    prompt_token_ids: list[int]
    spelling: TokenSpelling
    fingerprint: str | None
    reading: AnswerReading = field(default_factory=AnswerReading)

    def completion(self, answers: Answers) -> ChatCompletion:
        """Write a whole reply."""
        asked_scores = self.asked.prompt_logprobs is not None
        return ChatCompletion(
            id=self.reply_id,
            created=self.created,
            model=self.asked.model,
            choices=[self._choice(index, answer) for index, answer in enumerate(answers.items)],
            usage=answers.usage(),
            system_fingerprint=self.fingerprint,
            prompt_logprobs=(
                prompt_logprobs(answers.items[0].prompt_logprobs, self.spelling)
                if asked_scores
                else msgspec.UNSET
            ),
            prompt_token_ids=(
                self.prompt_token_ids if self.asked.return_token_ids else msgspec.UNSET
            ),
        )

    async def chunks(
        self, parts: AsyncGenerator[Part, None], answers: Answers
    ) -> AsyncGenerator[bytes, None]:
        """Write a stream chunk by chunk, each encoded."""
        usage = StreamedUsage.asked_by(self.asked)
        readers = [AnswerReader(self.reading) for _ in answers.items]
        async with aclosing(parts):
            for index in range(len(answers.items)):
                opening = ChatDelta(role="assistant", content="")
                choice = ChatChunkChoice(index=index, delta=opening)
                ids = self.asked.return_token_ids and index == 0
                yield self._chunk([choice], usage, answers, with_prompt=bool(ids))
            async for part in parts:
                answers.add(part)
                for choice in self._choices(part, readers[part.index]):
                    yield self._chunk([choice], usage, answers)
        if usage.at_end:
            yield msgspec.json.encode(
                msgspec.structs.replace(self._empty_chunk(), usage=answers.usage())
            )

    def _choice(self, index: int, answer: Answer) -> ChatChoice:
        reader = AnswerReader(self.reading)
        message = reader.message(answer.text)
        return ChatChoice(
            index=index,
            message=message,
            logprobs=self._logprobs(answer.logprobs),
            finish_reason=reader.finish_reason(answer.finish_reason),
            stop_reason=answer.stop_reason,
            token_ids=answer.token_ids if self.asked.return_token_ids else msgspec.UNSET,
        )

    def _choices(self, part: Part, reader: AnswerReader) -> list[ChatChunkChoice]:
        """Split a part as OpenAI does: the text first, the end in a chunk of its own."""
        event = part.event
        wants_ids = bool(self.asked.return_token_ids and event.token_ids)
        deltas = reader.deltas(event.text, is_last=event.finish_reason is not None)
        if not deltas and (event.logprobs or wants_ids):
            deltas = [ChatDelta(content="")]
        choices = [ChatChunkChoice(index=part.index, delta=delta) for delta in deltas]
        if choices:
            choices[0] = msgspec.structs.replace(
                choices[0],
                logprobs=self._logprobs(event.logprobs or ()),
                token_ids=list(event.token_ids) if wants_ids else msgspec.UNSET,
            )
        if event.finish_reason is not None:
            choices.append(
                ChatChunkChoice(
                    index=part.index,
                    delta=ChatDelta(),
                    finish_reason=reader.finish_reason(event.finish_reason),
                    stop_reason=event.stop_reason,
                )
            )
        return choices

    def _chunk(
        self,
        choices: list[ChatChunkChoice],
        usage: StreamedUsage,
        answers: Answers,
        *,
        with_prompt: bool = False,
    ) -> bytes:
        chunk = msgspec.structs.replace(
            self._empty_chunk(), choices=choices, usage=usage.of_chunk(answers)
        )
        if with_prompt:
            chunk = msgspec.structs.replace(chunk, prompt_token_ids=self.prompt_token_ids)
        return msgspec.json.encode(chunk)

    def _empty_chunk(self) -> ChatChunk:
        return ChatChunk(
            id=self.reply_id,
            created=self.created,
            model=self.asked.model,
            choices=[],
            system_fingerprint=self.fingerprint,
        )

    def _logprobs(self, tokens: Sequence[TokenLogprob]) -> ChatLogprobs | None:
        if not tokens:
            return None
        return ChatLogprobs([token_logprob(token, self.spelling) for token in tokens])
