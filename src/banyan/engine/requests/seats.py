"""Who runs: each has a lane, blocks and, with an adapter, a slot for it.

One whose step is under way keeps its place until the step is back, whatever becomes of it
meanwhile: the model writes there. Owned by `engine.Engine`.
"""

from collections.abc import Collection, Sequence

from banyan.engine.requests.request import Sequence as Answer
from banyan.engine.requests.residency import Residency
from banyan.engine.requests.sight import Sight
from banyan.engine.scheduling.scheduler import SequenceId


class Seats:
    """The answers that run, and those that left while their step was under way.

    Attributes:
        running: those that run.
    """

    def __init__(self, residency: Residency, sight: Sight) -> None:
        self._residency = residency
        self._sight = sight
        self.running: dict[SequenceId, Answer] = {}
        self._under_way: set[SequenceId] = set()
        self._left: dict[SequenceId, Answer] = {}

    @property
    def num_taken(self) -> int:
        """Seats that nobody else can have now."""
        return len(self.running) + len(self._left)

    @property
    def num_under_way(self) -> int:
        """Those whose steps are under way, whether they left or not."""
        return len(self._under_way)

    def at_rest(self) -> list[Answer]:
        """Those that run and are in no step under way: the most urgent first, of equals the oldest.

        The next step is planned over these.
        """
        under_way = self._under_way
        resting: Collection[Answer] = self.running.values()
        if under_way:
            resting = [one for one in resting if one.sequence_id not in under_way]
        return sorted(resting, key=_precedence)

    def enter(self, answer: Answer) -> None:
        """Give one that waited its place."""
        self._residency.enter(answer)
        self._sight.enter(answer)
        self.running[answer.sequence_id] = answer

    def stand_back(self, sequence_id: SequenceId) -> Answer:
        """Take the place of one that is in no step; it waits again."""
        answer = self.running.pop(sequence_id)
        self._sight.leave(answer)
        self._residency.leave(answer)
        answer.stand_back()
        return answer

    def leave(self, answer: Answer) -> None:
        """One is finished, whether it runs, waits or never did either."""
        self.running.pop(answer.sequence_id, None)
        self._sight.forget(answer)
        if answer.sequence_id in self._under_way:
            self._left[answer.sequence_id] = answer
        else:
            self._free(answer)

    def set_out(self, answers: Sequence[Answer]) -> None:
        """The step of these is under way."""
        self._under_way.update(answer.sequence_id for answer in answers)

    def come_back(self, answers: Sequence[Answer]) -> list[Answer]:
        """The step of these is over; returns those that run on."""
        self._under_way.difference_update(answer.sequence_id for answer in answers)
        if not self._left:
            return list(answers)
        for answer in answers:
            if self._left.pop(answer.sequence_id, None) is not None:
                self._free(answer)
        return [answer for answer in answers if answer.sequence_id in self.running]

    def _free(self, answer: Answer) -> None:
        self._residency.leave(answer)
        answer.finish()


def _precedence(answer: Answer) -> tuple[int, SequenceId]:
    return answer.priority, answer.sequence_id
