"""Who may join the line, who is turned away, and who waited too long.

Owns the waiting line, the callers' shares and the time limits; a clock's reading comes in as an
argument, so every case can be tested with small numbers. Called by `engine.Engine`.

What a bounded queue promises: an answer that is let in begins within the goal or is told in time
that it will not; nobody waits in silence. A caller that floods the queue is turned away before
others are.
"""

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from types import MappingProxyType
from typing import NamedTuple

from banyan.engine.options import QueuePolicy
from banyan.engine.requests.request import Request, SequenceState
from banyan.engine.requests.request import Sequence as Answer
from banyan.engine.requests.waiting_line import WaitingLine
from banyan.engine.scheduling.expected_wait import LineSpeed, retry_after_seconds
from banyan.engine.scheduling.fair_share import FairShare
from banyan.engine.scheduling.scheduler import SequenceId
from banyan.foundation.errors import DeadlineMissed, Overloaded

# A prompt so long that it alone misses the goal may still wait for this part of it.
_LEAST_SHARE_OF_GOAL_TO_WAIT = 0.5
# The goal is its reader's: the way from the reader to here and back takes this part of it.
_SHARE_OF_GOAL_FOR_THE_WAY = 0.04
_LEAST_LIMITS_TO_SWEEP = 64


@dataclass(frozen=True, slots=True)
class Refusal:
    """A request that is given up before its answer began, and the error to end it with."""

    request_id: str
    error: Exception


class _Limit(NamedTuple):
    """An answer has to run by a time, or to have begun when `is_deadline`."""

    latest: float
    order: int
    answer: Answer
    is_deadline: bool


class Reception:
    """Lets answers into the line and out of it.

    Args:
        policy: bounds and goals.

    Attributes:
        line: who waits.
        fair_share: how much each caller was served.
        num_refused: answers turned away for want of room or time.
        num_late: answers whose deadline passed.
    """

    def __init__(self, policy: QueuePolicy) -> None:
        self._policy = policy
        self.fair_share = FairShare()
        self.line = WaitingLine(self.fair_share)
        self.num_refused = 0
        self.num_late = 0
        self._speed = LineSpeed()
        self._line_seen: float | None = None
        self._joined: set[SequenceId] = set()
        self._limits: list[_Limit] = []
        self._order = count()

    def make_room(
        self,
        request: Request,
        unfinished: Mapping[str, Sequence[Answer]],
        begin_seconds: float,
        *,
        num_on_the_way: int = 0,
    ) -> list[Refusal]:
        """Decide whether a request may join; the refusals are of others that must go for it.

        Those others have left the line, but are still to be ended.

        Args:
            request: who wants to join.
            unfinished: the answers of all requests that are being served.
            begin_seconds: from its start to its first token, when nothing is cached.
            num_on_the_way: answers that will join later; they take room already.

        Raises:
            Overloaded: it may not; says when to come back.
        """
        self._check_wait(request, begin_seconds)
        displaced: list[tuple[Sequence[Answer], Refusal]] = []
        while self._is_full(request, num_on_the_way):
            victim = self._less_entitled(request)
            siblings = () if victim is None else unfinished[victim.request.request_id]
            # One whose other answers are being written already is not taken back.
            if (
                victim is None
                or _is_under_way(victim.request, siblings)
                or any(one.sequence_id not in self.line for one in siblings)
            ):
                self._put_back(displaced)
                self.num_refused += request.options.n
                is_callers_share = self._has_too_much(request)
                raise self._too_many(request, num_on_the_way, is_callers_share=is_callers_share)
            is_callers_share = victim.priority == request.context.priority
            error = self._too_many(
                victim.request, num_on_the_way, is_callers_share=is_callers_share
            )
            displaced.append((siblings, Refusal(victim.request.request_id, error)))
            for answer in siblings:
                self.line.remove(answer.sequence_id)
        for siblings, _ in displaced:
            self.num_refused += siblings[0].request.options.n
            for answer in siblings:
                self.leave(answer)
        return [refusal for _, refusal in displaced]

    def _put_back(self, displaced: Sequence[tuple[Sequence[Answer], Refusal]]) -> None:
        """Let those wait on whose going would not have been enough; each has its old place.

        They were the youngest of their callers, the very youngest first.
        """
        for siblings, _ in reversed(displaced):
            for answer in siblings:
                self.line.append(answer)

    def join(self, answer: Answer, *, now: float, begin_seconds: float) -> None:
        """Let a new answer wait; its time limits count from its arrival."""
        if not self.line:
            self._line_seen = now
        caller = answer.request.context.caller
        self.fair_share.arrive(caller)
        self._joined.add(answer.sequence_id)
        if answer.num_generated:  # taken up behind what its reader has
            self.line.stand_back(answer)
        else:
            self.line.append(answer)
        goal = self._policy.first_token_goal_seconds
        if goal is not None:
            in_here = (1 - _SHARE_OF_GOAL_FOR_THE_WAY) * goal
            most_to_wait = max(in_here - begin_seconds, _LEAST_SHARE_OF_GOAL_TO_WAIT * goal)
            self._limit(answer.arrived + most_to_wait, answer, is_deadline=False)
        deadline = answer.request.context.deadline_seconds
        if deadline is not None:
            latest = answer.arrived + deadline - begin_seconds
            self._limit(latest, answer, is_deadline=True)

    def charge(self, answer: Answer, *, num_prompt: int = 0, num_written: int = 0) -> None:
        """Count what was done for an answer that joined."""
        caller = answer.request.context.caller
        self.fair_share.charge(caller, num_prompt=num_prompt, num_written=num_written)

    def leave(self, answer: Answer) -> None:
        """Forget an answer, whether it waits, runs or never joined."""
        if answer.sequence_id in self.line:
            self.line.remove(answer.sequence_id)
        if answer.sequence_id in self._joined:
            self._joined.remove(answer.sequence_id)
            self.fair_share.leave(answer.request.context.caller)

    def overdue(
        self, now: float, unfinished: Mapping[str, Sequence[Answer]] = MappingProxyType({})
    ) -> list[Refusal]:
        """Give up those who can no longer begin in time; their answers are still to be ended.

        A request is not given up any more when one of its answers has begun; `unfinished` are the
        answers of all requests that are being served.
        """
        refusals = []
        while self._limits and self._limits[0].latest <= now:
            limit = heapq.heappop(self._limits)
            request = limit.answer.request
            siblings = unfinished.get(request.request_id)
            if siblings is not None and _is_under_way(request, siblings):
                continue
            if self._is_overdue(limit):
                refusals.append(self._late(limit, now) if limit.is_deadline else self._slow(limit))
        return refusals

    def note_step(self, admitted: Sequence[Answer], *, now: float) -> None:
        """Learn how fast the line moves; `admitted` left it in this step."""
        if self._line_seen is not None:
            num_tokens = sum(len(answer.request.prompt_token_ids) for answer in admitted)
            self._speed.observe(num_tokens, now - self._line_seen)
        self._line_seen = now if self.line else None

    def _check_wait(self, request: Request, begin_seconds: float) -> None:
        goal = self._policy.first_token_goal_seconds
        if goal is None:
            return
        wait = self._wait_of(request)
        # What it takes itself is no reason to refuse when it need not wait for others.
        if wait and wait + begin_seconds > goal:
            self.num_refused += request.options.n
            raise Overloaded(
                f"the answer would begin after about {wait + begin_seconds:.1f} s, later than "
                f"the {goal:g} s this server promises; {len(self.line)} answers wait before it",
                retry_after_seconds=retry_after_seconds(wait + begin_seconds, goal),
                is_callers_share=self._has_too_much(request),
            )

    def _wait_of(self, request: Request) -> float:
        context = request.context
        num_tokens = self.line.tokens_before(
            priority=context.priority,
            caller=context.caller,
            num_tokens=len(request.prompt_token_ids),
        )
        return self._speed.seconds_for(num_tokens)

    def _is_full(self, request: Request, num_on_the_way: int) -> bool:
        num_waiting = len(self.line) + num_on_the_way
        if not num_waiting:
            return False  # whatever it asks for, nothing is in its way
        most = self._policy.max_waiting_requests
        if most is not None and num_waiting + request.options.n > most:
            return True
        most = self._policy.max_waiting_tokens
        num_tokens = request.options.n * len(request.prompt_token_ids)
        return most is not None and self.line.num_tokens + num_tokens > most

    def _less_entitled(self, request: Request) -> Answer | None:
        """Who should go so that `request` can come: less urgent, or of a caller with more."""
        victim = self.line.last_of_the_greediest()
        if victim is None:
            return None
        context, theirs = request.context, victim.request.context
        if theirs.priority != context.priority:
            return victim if theirs.priority > context.priority else None
        ours = self.line.num_waiting(context.caller) + request.options.n
        return victim if self.line.num_waiting(theirs.caller) > ours else None

    def _too_many(
        self, request: Request, num_on_the_way: int, *, is_callers_share: bool
    ) -> Overloaded:
        policy = self._policy
        bounds = [
            f"{used} of at most {most} {what}"
            for used, most, what in (
                (len(self.line) + num_on_the_way, policy.max_waiting_requests, "answers"),
                (self.line.num_tokens, policy.max_waiting_tokens, "prompt tokens"),
            )
            if most is not None
        ]
        wait = self._wait_of(request)
        return Overloaded(
            f"the queue is full: {' and '.join(bounds)} wait already; try again later",
            retry_after_seconds=retry_after_seconds(wait, policy.first_token_goal_seconds),
            is_callers_share=is_callers_share,
        )

    def _has_too_much(self, request: Request) -> bool:
        """Whether this caller alone fills more than its part of the line, beside others."""
        caller = request.context.caller
        num_callers = self.fair_share.num_active + (not self.fair_share.is_active(caller))
        waiting = self.line.num_waiting(caller)
        return num_callers > 1 and waiting * num_callers > len(self.line)

    def _limit(self, latest: float, answer: Answer, *, is_deadline: bool) -> None:
        heapq.heappush(self._limits, _Limit(latest, next(self._order), answer, is_deadline))
        if len(self._limits) > 4 * len(self._joined) + _LEAST_LIMITS_TO_SWEEP:
            self._limits = [limit for limit in self._limits if not _has_begun(limit.answer)]
            heapq.heapify(self._limits)

    def _is_overdue(self, limit: _Limit) -> bool:
        if _has_begun(limit.answer):
            return False
        return limit.is_deadline or limit.answer.state is SequenceState.WAITING

    def _late(self, limit: _Limit, now: float) -> Refusal:
        self.num_late += 1
        request = limit.answer.request
        deadline = request.context.deadline_seconds
        return Refusal(
            request.request_id,
            DeadlineMissed(
                f"the answer could not begin within deadline_seconds={deadline:g}: "
                f"{now - limit.answer.arrived:.2f} s have passed and its prompt of "
                f"{len(request.prompt_token_ids)} tokens is not computed; allow more time"
            ),
        )

    def _slow(self, limit: _Limit) -> Refusal:
        self.num_refused += 1
        request = limit.answer.request
        goal = self._policy.first_token_goal_seconds
        return Refusal(
            request.request_id,
            Overloaded(
                f"the answer would begin later than the {goal:g} s this server promises; "
                f"{len(self.line)} answers wait; try again later",
                retry_after_seconds=retry_after_seconds(self._wait_of(request), None),
                is_callers_share=self._has_too_much(request),
            ),
        )


def _is_under_way(request: Request, unfinished: Sequence[Answer]) -> bool:
    """Whether a reader has something of a request already."""
    is_partly_whole = len(unfinished) < request.options.n
    return is_partly_whole or any(answer.num_generated for answer in unfinished)


def _has_begun(answer: Answer) -> bool:
    return answer.num_generated > 0 or answer.state is SequenceState.FINISHED
