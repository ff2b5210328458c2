"""Clients that stream greedy answers all the time, and compare each with the one given alone."""

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field

from openai import AsyncOpenAI

NUM_PROMPTS = 8
HANG_SECONDS = 150.0


@dataclass(slots=True)
class Answers:
    """What was asked, and what came.

    Attributes:
        sdk: of the server.
        expected: by prompt, the answer given alone.
        whole: answers that were whole and right.
        failures: what must not happen.
        heard: by stream under way, when its last piece came.
        gaps: by stream, its longest silence since the last event.
        ends: when clients stop asking.
    """

    sdk: AsyncOpenAI
    expected: list[str] = field(default_factory=list)
    whole: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    heard: dict[int, float] = field(default_factory=dict)
    gaps: dict[int, float] = field(default_factory=dict)
    ends: bool = False

    async def give_alone(self) -> None:
        """Let the server answer every prompt while nothing else runs and nothing fails."""
        self.expected = [await self.answer(prompt) for prompt in range(NUM_PROMPTS)]
        self.heard.clear()

    async def answer(self, prompt: int, stream_id: int = -1) -> str:
        """Stream one greedy answer; the pieces' times are kept under `stream_id`."""
        pieces = await self.sdk.completions.create(
            model="drilled",
            prompt=f"{'A banyan is a tree. ' * prompt}Leaf {prompt}:",
            max_tokens=120 + 10 * prompt,
            temperature=0,
            stream=True,
            extra_body={"ignore_eos": True},
        )
        text = ""
        async for piece in pieces:
            now = time.monotonic()
            silence = now - self.heard.get(stream_id, now)
            self.gaps[stream_id] = max(silence, self.gaps.get(stream_id, 0.0))
            self.heard[stream_id] = now
            text += piece.choices[0].text
        return text

    async def client(self, number: int) -> None:
        """Ask, compare, ask again."""
        turn = 0
        while not self.ends:
            prompt = (number + turn) % NUM_PROMPTS
            stream_id = number + 1000 * turn
            try:
                async with asyncio.timeout(HANG_SECONDS):
                    text = await self.answer(prompt, stream_id)
            except TimeoutError:
                self.failures["hung"] += 1
            except Exception as error:  # whatever a reader sees counts
                self.failures[f"{type(error).__name__}: {error}"[:160]] += 1
                await asyncio.sleep(0.2)
            else:
                self.whole += text == self.expected[prompt]
                if text != self.expected[prompt]:
                    self.failures[told_difference(text, self.expected[prompt])] += 1
            self.heard.pop(stream_id, None)
            turn += 1


def told_difference(text: str, wanted: str) -> str:
    """Where an answer leaves what it should be."""
    if wanted.startswith(text):
        return "tokens lost at the end"
    place = next((n for n, (a, b) in enumerate(zip(text, wanted, strict=False)) if a != b), -1)
    return f"another text than alone, from character {place}"
