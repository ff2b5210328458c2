"""How much of pictures may wait in an engine."""

from dataclasses import replace

import pytest

from banyan.engine.fake import fake_engine
from banyan.engine.options import QueuePolicy
from banyan.engine.requests.answer_maker import AnswerMaker
from banyan.engine.requests.sight import Sight
from banyan.engine.vision.fake_eyes import FakeEyes
from banyan.foundation.errors import Overloaded
from tests.engine.answers import Arrivals
from tests.engine.vision.prompts import add, image, shown


def test_who_bounds_no_queue_may_bring_any_number_of_pictures() -> None:
    large = image(1, 1) + bytes(100 * 2**20)
    prompt = shown(large)
    engine = fake_engine(eyes=FakeEyes())
    for number in range(3):
        add(engine, str(number), prompt)
    engine.close()
    engine = fake_engine(eyes=FakeEyes(), policy=QueuePolicy(max_waiting_requests=9))
    add(engine, "0", prompt)
    add(engine, "1", prompt)
    with pytest.raises(Overloaded, match="image bytes wait already"):
        add(engine, "2", prompt)
    engine.close()


def test_too_many_bytes_of_pictures_are_turned_away() -> None:
    sight = Sight(FakeEyes(), most_file_bytes=20)
    prompt = shown(image(1, 1, "with many words behind it"))  # the only one is let in
    seen = sight.read(prompt.token_ids, prompt.media)
    arrivals = Arrivals()
    answers = AnswerMaker(None, seed=1).answers(
        replace(arrivals.request(n=2), sight=seen), arrived=0.0
    )
    sight.begin(answers)
    small = shown(image(1, 1))
    with pytest.raises(Overloaded, match="image bytes wait already"):
        sight.read(small.token_ids, small.media)
    sight.forget(answers[0])
    sight.forget(answers[1])
    assert sight.read(small.token_ids, small.media) is not None
