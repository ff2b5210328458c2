"""Images on their way to the model: decoded in a thread, encoded between steps, kept until used.

Owned by `engine.Engine` and called on its thread. A sequence joins the line like any other and is
passed over until the rows of its images are there; between two steps at most one image is
encoded, so that answers under way stand still for one image at most. What the prefix cache has
is neither decoded nor encoded. Rows go when the prompt has been computed past them; one that has to
stand back gets them again as if it had just come.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from dataclasses import dataclass
from itertools import islice
from typing import Any

from numpy.typing import NDArray

from banyan.engine.options import MOST_IMAGE_BYTES
from banyan.engine.requests.reception import Refusal
from banyan.engine.requests.request import Sequence as Answer
from banyan.engine.requests.step_failures import StepFailures
from banyan.engine.runner import LaneSlice
from banyan.engine.scheduling.scheduler import SequenceId
from banyan.engine.scheduling.waiting_bound import WaitingBound
from banyan.engine.vision.eyes import Eyes
from banyan.engine.vision.prompt_sight import PlacedImage, PromptSight, read_prompt
from banyan.engine.vision.row_store import MOST_ROWS, RowStore
from banyan.engine.vision.step_images import seen_arguments
from banyan.foundation.errors import ImageError
from banyan.models.vision.media import Media

# So many in line are looked at, and so many images are decoded ahead of their turn.
_LOOK_AHEAD = 8
_MOST_PREPARED = 2
_IDLE_WAIT_SECONDS = 0.01

NumFound = Callable[[Answer], int]
"""How many tokens of one that waits are in the cache."""


@dataclass(frozen=True, slots=True)
class SightCounts:
    """What images have come to so far.

    Attributes:
        images_asked: images of the answers that began to run.
        images_encoded: images that were turned into rows.
        rows_encoded: how many rows that were.
        encode_seconds: how long it took.
    """

    images_asked: int = 0
    images_encoded: int = 0
    rows_encoded: int = 0
    encode_seconds: float = 0.0


class Sight:
    """What the sequences of one engine see; without `eyes` they see nothing."""

    def __init__(
        self,
        eyes: Eyes | None,
        *,
        most_rows: int = MOST_ROWS,
        most_file_bytes: float = MOST_IMAGE_BYTES,
    ) -> None:
        self._eyes = eyes
        self._most_rows = most_rows
        self._bound = WaitingBound(max_requests=None, max_size=most_file_bytes, what="image bytes")
        self._failures = StepFailures()
        self._refusals: list[Refusal] = []
        self._rows = RowStore()
        self._pool: ThreadPoolExecutor | None = None
        self._preparing: dict[bytes, Future[Any]] = {}
        # Unfinished answers whose prompt has images, with the bytes of their files.
        self._bytes: dict[SequenceId, int] = {}
        self._lanes: dict[int, PromptSight] = {}
        self._asked: set[SequenceId] = set()
        self._num_asked = self._num_encoded = self._num_rows_encoded = 0
        self._seconds = 0.0

    @property
    def num_rows(self) -> int:
        """Rows that are kept now."""
        return self._rows.num_rows

    @property
    def counts(self) -> SightCounts:
        """Counters as of now."""
        return SightCounts(
            self._num_asked, self._num_encoded, self._num_rows_encoded, self._seconds
        )

    def read(
        self, prompt_token_ids: Sequence[int], media: Sequence[Media], *, is_new: bool = True
    ) -> PromptSight | None:
        """Check the images of a prompt; None when there are none.

        One that is not new was let in before, and is not turned away now.

        Raises:
            RequestError: they cannot be used with this model or prompt.
            Overloaded: too many wait already.
        """
        if not media:
            return None
        size = sum(len(item.content) for item in media)
        if is_new:
            self._bound.check(len(self._bytes), sum(self._bytes.values()), size=size)
        return read_prompt(prompt_token_ids, media, self._eyes)

    def begin(self, answers: Sequence[Answer]) -> None:
        """Take note of new answers; each leaves by `forget`."""
        for answer in answers:
            sight = answer.request.sight
            if sight is not None:
                self._bytes[answer.sequence_id] = sight.num_bytes // len(answers)

    def advance(
        self, line: Iterable[Answer], num_found: NumFound, *, is_idle: bool
    ) -> list[Refusal]:
        """Decode and encode for those next in line, one image at most.

        Args:
            line: who waits, the next one first.
            num_found: what they would find in the cache.
            is_idle: nothing else is to be done, so an image is waited for, for a moment.

        Returns:
            The requests whose image cannot be used.

        Raises:
            Exception: the model fails at whatever image it is given.
        """
        if self._bytes:
            wanted = self._wanted(line, num_found)
            self._prepare([image for _, image in wanted[:_MOST_PREPARED]])
            if wanted:
                self._encode(*wanted[0], is_idle=is_idle)
        elif self._preparing:
            self._prepare(())
        refusals, self._refusals = self._refusals, []
        return refusals + self._failures.take()

    def seatable(self, line: Iterable[Answer], num_found: NumFound) -> Iterator[Answer]:
        """Those who wait for nothing but a place."""
        for answer in line:
            if next(self._lacking(answer, num_found), None) is None:
                yield answer

    def enter(self, answer: Answer) -> None:
        """An answer has a lane now."""
        sight = answer.request.sight
        if sight is None:
            return
        assert answer.lane is not None
        self._lanes[answer.lane] = sight
        if answer.sequence_id not in self._asked:
            self._asked.add(answer.sequence_id)
            self._num_asked += len(sight.images)
        self.note_computed(answer)

    def note_computed(self, answer: Answer) -> None:
        """Let go of images that the prompt of a running answer has passed."""
        sight = answer.request.sight
        if sight is None:
            return
        # The same image may stand once more behind what is computed.
        ahead = {image.digest for image in sight.images if image.stop > answer.num_computed}
        for image in sight.images:
            if image.digest not in ahead:
                self._rows.release(image.digest, answer.sequence_id)

    def leave(self, answer: Answer) -> None:
        """An answer is about to lose its lane, or never had one."""
        if answer.request.sight is not None:
            self._rows.release_all(answer.sequence_id)
            if answer.lane is not None:
                del self._lanes[answer.lane]

    def forget(self, answer: Answer) -> None:
        """An answer is finished."""
        self.leave(answer)
        self._bytes.pop(answer.sequence_id, None)
        self._asked.discard(answer.sequence_id)

    def seen(
        self, arguments: Mapping[str, NDArray[Any]], slices: Sequence[LaneSlice]
    ) -> Mapping[str, NDArray[Any]]:
        """Give the arguments of a step with what its tokens see."""
        if not self._lanes or not any(slice_.lane in self._lanes for slice_ in slices):
            return arguments
        changed = seen_arguments(arguments, slices, self._lanes, self._rows.rows)
        return {**arguments, **changed}

    def close(self) -> None:
        """End the thread."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None

    def _lacking(self, answer: Answer, num_found: NumFound) -> Iterator[PlacedImage]:
        """The images whose rows a waiting answer still needs; holds those that are there."""
        sight = answer.request.sight
        if sight is None:
            return
        found = num_found(answer)
        for image in sight.images:
            if image.stop > found and not self._rows.hold(image.digest, answer.sequence_id):
                yield image

    def _wanted(
        self, line: Iterable[Answer], num_found: NumFound
    ) -> list[tuple[Answer, PlacedImage]]:
        """Images to be encoded, the most urgent first."""
        wanted: list[tuple[Answer, PlacedImage]] = []
        num_rows = self._rows.num_rows
        for position, answer in enumerate(islice(line, _LOOK_AHEAD)):
            for image in self._lacking(answer, num_found):
                num_rows += image.stop - image.start
                # Nobody is before the first one whose rows could make room.
                if position and num_rows > self._most_rows:
                    return wanted
                wanted.append((answer, image))
        return wanted

    def _prepare(self, images: Sequence[PlacedImage]) -> None:
        """Decode these in the thread, and nothing else any more."""
        assert self._eyes is not None
        digests = {image.digest for image in images}
        for digest in [digest for digest in self._preparing if digest not in digests]:
            self._preparing.pop(digest).cancel()
        for image in images:
            if image.digest not in self._preparing:
                if self._pool is None:
                    self._pool = ThreadPoolExecutor(1, thread_name_prefix="banyan-images")
                job = self._pool.submit(self._eyes.prepare, image.media.content)
                self._preparing[image.digest] = job

    def _encode(self, answer: Answer, image: PlacedImage, *, is_idle: bool) -> None:
        """Encode an image if it is decoded."""
        assert self._eyes is not None
        job = self._preparing[image.digest]
        if is_idle:
            wait_for([job], timeout=_IDLE_WAIT_SECONDS)
        if not job.done():
            return
        del self._preparing[image.digest]
        began = time.perf_counter()
        try:
            rows = self._eyes.encode(job.result())
        except ImageError as error:
            place = image.media.place
            wrong = ImageError(f"{place}: {error}", parameter=place)
            self._refusals.append(Refusal(answer.request.request_id, wrong))
            return
        except Exception as error:  # whatever the model raises: the failures judge
            self._failures.give_up(answer.request.request_id, error)
            return
        self._failures.succeed()
        assert len(rows) == image.stop - image.start, "an image has not as many rows as places"
        self._rows.add(image.digest, rows, answer.sequence_id)
        self._num_encoded += 1
        self._num_rows_encoded += len(rows)
        self._seconds += time.perf_counter() - began
