"""Who waits, and in which order they are served. Pure: no clock, no block, no token.

The order: lower priority numbers first; among equals those who ran already and had to stand back;
then callers in turn, the least served first (`fair_share`); of one caller the oldest first.
"""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field

from banyan.engine.requests.request import Sequence as Answer
from banyan.engine.scheduling.fair_share import PROMPT_TOKEN_SERVICE, FairShare
from banyan.engine.scheduling.scheduler import SequenceId


@dataclass(slots=True)
class _Queue:
    """Some who wait, in order of arrival, and how many prompt tokens they have."""

    answers: dict[SequenceId, Answer] = field(default_factory=dict)
    num_tokens: int = 0

    def append(self, answer: Answer) -> None:
        self.answers[answer.sequence_id] = answer
        self.num_tokens += len(answer.request.prompt_token_ids)

    def remove(self, sequence_id: SequenceId) -> None:
        self.num_tokens -= len(self.answers.pop(sequence_id).request.prompt_token_ids)


@dataclass(slots=True)
class _PriorityClass:
    """Those who wait with one priority."""

    stood_back: _Queue = field(default_factory=_Queue)
    by_caller: dict[str, _Queue] = field(default_factory=dict)


class WaitingLine:
    """Answers that wait for a place.

    Args:
        fair_share: tells which caller comes next; every caller who waits is active there.

    """

    def __init__(self, fair_share: FairShare) -> None:
        self._fair_share = fair_share
        self._classes: dict[int, _PriorityClass] = {}
        self._everyone = _Queue()

    def __len__(self) -> int:
        return len(self._everyone.answers)

    def __contains__(self, sequence_id: SequenceId) -> bool:
        return sequence_id in self._everyone.answers

    def __getitem__(self, sequence_id: SequenceId) -> Answer:
        return self._everyone.answers[sequence_id]

    @property
    def num_tokens(self) -> int:
        """Prompt tokens of all who wait."""
        return self._everyone.num_tokens

    def __iter__(self) -> Iterator[Answer]:
        """Yield those who wait in the order in which they should be served.

        Each one yielded counts as served, so that the callers take turns within one step.
        """
        for priority in sorted(self._classes):
            class_ = self._classes[priority]
            yield from class_.stood_back.answers.values()
            yield from self._take_turns(class_)

    @property
    def most_urgent(self) -> int | None:
        """The lowest priority number of all who wait."""
        return min(self._classes, default=None)

    def append(self, answer: Answer) -> None:
        """Let a new answer wait."""
        context = answer.request.context
        class_ = self._classes.setdefault(context.priority, _PriorityClass())
        class_.by_caller.setdefault(context.caller, _Queue()).append(answer)
        self._everyone.append(answer)

    def stand_back(self, answer: Answer) -> None:
        """Let one wait again that ran already: before all new ones of its priority."""
        class_ = self._classes.setdefault(answer.request.context.priority, _PriorityClass())
        class_.stood_back.append(answer)
        oldest_first = sorted(class_.stood_back.answers.items())
        class_.stood_back.answers = dict(oldest_first)
        self._everyone.append(answer)

    def remove(self, sequence_id: SequenceId) -> Answer:
        """Take one out who waits."""
        answer = self._everyone.answers[sequence_id]
        self._everyone.remove(sequence_id)
        context = answer.request.context
        class_ = self._classes[context.priority]
        if sequence_id in class_.stood_back.answers:
            class_.stood_back.remove(sequence_id)
        else:
            queue = class_.by_caller[context.caller]
            queue.remove(sequence_id)
            if not queue.answers:
                del class_.by_caller[context.caller]
        if not class_.stood_back.answers and not class_.by_caller:
            del self._classes[context.priority]
        return answer

    def num_waiting(self, caller: str) -> int:
        """New answers of a caller that wait."""
        queues = (class_.by_caller.get(caller) for class_ in self._classes.values())
        return sum(len(queue.answers) for queue in queues if queue is not None)

    def tokens_before(self, *, priority: int, caller: str, num_tokens: int) -> int:
        """Prompt tokens that are served before one of `num_tokens` who would join now.

        Of each other caller no more than this one would have had by then: they take turns.
        """
        before = 0
        for other, class_ in self._classes.items():
            queues = class_.by_caller
            if other < priority:
                before += sum(queue.num_tokens for queue in queues.values())
            elif other == priority:
                own = queues[caller].num_tokens if caller in queues else 0
                before += own + sum(
                    min(queue.num_tokens, own + num_tokens)
                    for name, queue in queues.items()
                    if name != caller
                )
            if other <= priority:
                before += class_.stood_back.num_tokens
        return before

    def last_of_the_greediest(self) -> Answer | None:
        """Whom to turn away first: of the least urgent the caller with most, its youngest.

        None when only such wait that ran already.
        """
        for priority in sorted(self._classes, reverse=True):
            queues = self._classes[priority].by_caller
            if queues:
                greediest = max(queues.values(), key=lambda queue: len(queue.answers))
                return next(reversed(greediest.answers.values()))
        return None

    def _take_turns(self, class_: _PriorityClass) -> Iterator[Answer]:
        turns = [
            (self._fair_share.service(caller), next(iter(queue.answers)), caller)
            for caller, queue in class_.by_caller.items()
        ]
        heapq.heapify(turns)
        # Of a crowd of callers only a few are looked at in one step.
        queues: dict[str, Iterator[Answer]] = {}
        upcoming: dict[str, Answer] = {}
        while turns:
            service, _, caller = heapq.heappop(turns)
            if caller not in queues:
                queues[caller] = iter(class_.by_caller[caller].answers.values())
                upcoming[caller] = next(queues[caller])
            answer = upcoming[caller]
            following = next(queues[caller], None)
            if following is not None:
                upcoming[caller] = following
                # All of its tokens, though some may be cached: by then the next step knows.
                service += len(answer.request.prompt_token_ids) * PROMPT_TOKEN_SERVICE
                heapq.heappush(turns, (service, following.sequence_id, caller))
            yield answer
