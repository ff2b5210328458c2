"""An engine with eyes, on the fake model: whatever happens beside it, an answer is its own."""

import time
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from banyan.engine.engine import Engine
from banyan.engine.fake import fake_engine
from banyan.engine.process.messages import AddRequest, decode_command, encode
from banyan.engine.request_context import RequestContext
from banyan.engine.requests.reception import Refusal
from banyan.engine.sampling import SamplingOptions
from banyan.engine.speculation.prompt_lookup import PromptLookup
from banyan.engine.speculation.speculator import Speculator
from banyan.engine.structure.definition import Structure
from banyan.engine.vision.fake_eyes import FakeEyes
from banyan.foundation.errors import ImageError, RequestError
from tests.engine.vision.prompts import GREEDY, Shown, add, finish, image, shown, texts

LONG = "a text that fills more than one block of the cache: "


def alone(
    prompt: Shown,
    options: SamplingOptions = GREEDY,
    *,
    has_grid: bool = True,
    num_slots: int = 0,
) -> str:
    """What a request gets in an engine of its own, without any cache."""
    engine = fake_engine(
        eyes=FakeEyes(has_grid_positions=has_grid),
        enable_prefix_caching=False,
        num_slots=num_slots,
    )
    add(engine, "only", prompt, options)
    text = texts(finish(engine))["only"]
    engine.close()
    return text


def run(engine: Engine, **prompts: Shown) -> dict[str, str]:
    """What requests get together."""
    for name, prompt in prompts.items():
        add(engine, name, prompt)
    return texts(finish(engine))


def is_empty(engine: Engine) -> bool:
    counted = engine.statistics()
    return (
        counted.num_free_blocks == counted.num_blocks
        and counted.num_running == counted.num_waiting == 0
        and counted.image_rows_held == 0
    )


def test_what_is_seen_decides_the_answer() -> None:
    answers = {
        name: alone(shown("Look: ", image(2, 3, name), " What is it?")) for name in ("cat", "dog")
    }
    assert answers["cat"] != answers["dog"]
    assert len(answers["cat"]) == 8
    # And so does where it stands.
    assert alone(shown(image(2, 3), "xy")) != alone(shown(image(3, 2), "xy"))
    counted = alone(shown("Look: ", image(2, 3), " What is it?"), has_grid=False)
    assert counted != answers["cat"]


def test_two_pictures_never_share_a_block_though_their_tokens_are_equal() -> None:
    eyes = FakeEyes()
    engine = fake_engine(eyes=eyes)
    cat, dog = (shown(LONG, image(4, 6, name), " What is it?") for name in ("cat", "dog"))
    assert cat.token_ids == dog.token_ids
    assert run(engine, cat=cat)["cat"] == alone(cat)
    assert run(engine, dog=dog)["dog"] == alone(dog)
    assert eyes.seen == [image(4, 6, "cat"), image(4, 6, "dog")]
    # The text before them, three blocks, was shared.
    assert engine.statistics().prefix_cache_hits == 48
    engine.close()


def test_the_same_picture_is_found_again_and_neither_decoded_nor_encoded() -> None:
    eyes = FakeEyes()
    engine = fake_engine(eyes=eyes)
    first = shown(LONG, image(4, 6), " What is it? And some more words")
    again = shown(LONG, image(4, 6), " What is it? Tell me")
    assert run(engine, first=first)["first"] == alone(first)
    assert run(engine, again=again)["again"] == alone(again)
    assert (len(eyes.seen), eyes.num_prepared) == (1, 1)
    counted = engine.statistics()
    assert (counted.images_asked, counted.images_encoded, counted.image_rows) == (2, 1, 24)
    assert counted.prefix_cache_hits == 80
    assert is_empty(engine)
    engine.close()


def test_a_second_turn_finds_the_first_with_its_picture() -> None:
    eyes = FakeEyes()
    engine = fake_engine(eyes=eyes)
    pieces = (LONG, image(4, 6, "cat"), " What is it?")
    run(engine, first=shown(*pieces))
    second = shown(*pieces, " A cat. And this one?", image(2, 2, "dog"), " and now?")
    assert run(engine, second=second)["second"] == alone(second)
    assert eyes.seen == [image(4, 6, "cat"), image(2, 2, "dog")]
    engine.close()


def test_one_picture_is_encoded_between_two_steps_and_text_goes_on() -> None:
    eyes = FakeEyes()
    engine = fake_engine(eyes=eyes)
    # So many that four pictures are decoded before the last, however slow the machine.
    options = SamplingOptions(temperature=0.0, max_tokens=240, ignore_eos=True)
    add(engine, "text", shown("Hello"), options)
    engine.step()
    add(engine, "seen", shown(*(image(2, 2, str(number)) for number in range(4)), "?"))
    begun: set[str] = set()
    num_seen = 0
    while "seen" not in begun:
        told = {event.request_id for event in engine.step()}
        assert "text" in told, "an answer under way stood still"
        assert len(eyes.seen) - num_seen <= 1
        num_seen = len(eyes.seen)
        begun |= told
        time.sleep(0.005)
    assert num_seen == 4
    finish(engine)
    engine.close()


def test_text_passes_a_picture_that_is_being_decoded() -> None:
    engine = fake_engine(eyes=FakeEyes(prepare_seconds=0.2))
    add(engine, "seen", shown(image(2, 2), "?"))
    add(engine, "text", shown("Hello"))
    order: list[str] = []
    while len(order) < 2:
        order += [event.request_id for event in engine.step() if event.finish_reason]
    assert order == ["text", "seen"]
    engine.close()


def test_an_idle_engine_waits_for_a_picture_without_spinning() -> None:
    engine = fake_engine(eyes=FakeEyes(prepare_seconds=0.2))
    add(engine, "seen", shown(image(2, 2), "?"))
    num_steps, began = 0, time.monotonic()
    while not engine.step():
        num_steps += 1
    seconds = time.monotonic() - began
    assert seconds >= 0.2
    assert num_steps < 300 * seconds
    finish(engine)
    engine.close()


def test_the_answers_of_one_request_see_the_same_rows() -> None:
    for caching in (True, False):
        eyes = FakeEyes()
        engine = fake_engine(eyes=eyes, enable_prefix_caching=caching)
        prompt = shown("Look: ", image(2, 3), " What is it?")
        options = SamplingOptions(temperature=0.0, max_tokens=8, ignore_eos=True, n=3)
        add(engine, "three", prompt, options)
        events = finish(engine)["three"]
        written = {
            index: "".join(event.text for event in events if event.index == index)
            for index in range(3)
        }
        assert set(written.values()) == {alone(prompt)}
        assert len(eyes.seen) == 1
        assert is_empty(engine)
        engine.close()


class AtOnce(Executor):
    """Does everything at once, so that the order of steps is always the same."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def submit(self, work: Any, /, *arguments: Any, **named: Any) -> "Future[Any]":
        done: Future[Any] = Future()
        done.set_result(work(*arguments, **named))
        return done


def test_one_that_stands_back_gets_its_rows_again(monkeypatch: pytest.MonkeyPatch) -> None:
    # Both must be there together; a thread would let the first one finish alone now and then.
    monkeypatch.setattr("banyan.engine.requests.sight.ThreadPoolExecutor", AtOnce)
    eyes = FakeEyes()
    # Room for one and a half of them; nothing is found again.
    engine = fake_engine(
        eyes=eyes, num_blocks=7, max_model_len=96, token_budget=16, enable_prefix_caching=False
    )
    options = SamplingOptions(temperature=0.0, max_tokens=40, ignore_eos=True)
    prompts = {name: shown("Look: ", image(3, 4, name), " Well?") for name in ("cat", "dog")}
    for name, prompt in prompts.items():
        add(engine, name, prompt, options)
    answers = texts(finish(engine))
    assert engine.statistics().preemptions > 0
    assert len(eyes.seen) > 2
    for name, prompt in prompts.items():
        assert answers[name] == alone(prompt, options)
    assert is_empty(engine)
    engine.close()


@pytest.mark.parametrize("num_steps", range(6))
def test_whenever_a_reader_leaves_everything_is_free(num_steps: int) -> None:
    engine = fake_engine(eyes=FakeEyes(), token_budget=8)
    add(engine, "seen", shown("Look: ", image(4, 4), image(4, 4, "dog"), " Well?"))
    for _ in range(num_steps):
        engine.step()
    engine.cancel("seen")
    finish(engine)
    assert is_empty(engine)
    assert not engine.has_work()
    engine.close()


def test_rows_are_let_go_when_the_prompt_is_past_them() -> None:
    engine = fake_engine(eyes=FakeEyes(), token_budget=8)
    add(engine, "seen", shown(image(2, 2, "cat"), image(4, 4, "dog"), " Well?"))
    most, first = 0, engine.step()
    while not first:
        most = max(most, engine.statistics().image_rows_held)
        first = engine.step()
    # The step that both were there for passed the first one.
    assert most == 16
    assert engine.statistics().image_rows_held == 0
    finish(engine)
    engine.close()


def test_a_damaged_picture_ends_its_request_alone_and_names_the_field() -> None:
    engine = fake_engine(eyes=FakeEyes())
    add(engine, "bad", shown("Look: ", image(2, 2), image(2, 2, "broken")))
    add(engine, "good", shown("Look: ", image(2, 2)))
    refusals: list[Refusal] = []
    answers = texts(finish(engine, refusals))
    (refusal,) = refusals
    assert (refusal.request_id, list(answers)) == ("bad", ["good"])
    assert isinstance(refusal.error, ImageError)
    assert str(refusal.error) == "content[1]: the image is damaged: it says so"
    assert refusal.error.parameter == "content[1]"
    assert is_empty(engine)
    engine.close()


def test_a_tower_that_fails_at_everything_ends_the_engine() -> None:
    engine = fake_engine(eyes=FakeEyes())
    for number in range(9):
        add(engine, str(number), shown(image(2, 2, f"fatal {number}")))
    refusals: list[Refusal] = []
    with pytest.raises(RuntimeError, match="the tower fell"):
        finish(engine, refusals)
    assert len(refusals) == 7
    engine.close()


def test_an_engine_without_eyes_refuses_at_once() -> None:
    engine = fake_engine()
    with pytest.raises(RequestError, match="sees no images"):
        add(engine, "seen", shown(image(2, 2)))
    assert not engine.has_work()
    engine.close()


def test_guesses_structures_and_scores_work_beside_pictures() -> None:
    prompt = shown("aaaa bbbb aaaa ", image(2, 3), " aaaa bbbb")
    options = SamplingOptions(temperature=0.0, max_tokens=30, ignore_eos=True)
    speculator = Speculator(PromptLookup(shortest=2, longest=4), most=4, always=True)
    engine = fake_engine(eyes=FakeEyes(), speculator=speculator)
    add(engine, "guessed", prompt, options)
    assert texts(finish(engine))["guessed"] == alone(prompt, options)

    chosen = SamplingOptions(
        temperature=0.0, max_tokens=8, structure=Structure(kind="choice", text='["xyz"]')
    )
    add(engine, "chosen", prompt, chosen)
    assert texts(finish(engine))["chosen"] == "xyz"

    scored = SamplingOptions(temperature=0.0, max_tokens=2, ignore_eos=True, prompt_logprobs=0)
    add(engine, "scored", prompt, scored)
    first = finish(engine)["scored"][0]
    assert first.prompt_logprobs is not None
    assert len(first.prompt_logprobs) == len(prompt.token_ids) - 1
    assert is_empty(engine)
    engine.close()


def test_an_adapter_changes_what_is_made_of_a_picture_and_shares_its_rows(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("one")
    eyes = FakeEyes()
    engine = fake_engine(eyes=eyes, num_slots=1)
    assert engine.adapters is not None
    engine.adapters.add("one", str(tmp_path), engine.adapters.read(str(tmp_path)))
    prompt = shown(LONG, image(4, 6), " What is it?")
    add(engine, "base", prompt)
    add(engine, "adapted", prompt, GREEDY, RequestContext(adapter="one"))
    answers = texts(finish(engine))
    assert answers["base"] == alone(prompt, num_slots=1)
    assert answers["adapted"] != answers["base"]
    assert len(eyes.seen) == 1
    engine.close()


def test_pictures_cross_from_process_to_process() -> None:
    prompt = shown("Look: ", image(2, 2))
    command = AddRequest("1", tuple(prompt.token_ids), GREEDY, media=prompt.media)
    assert decode_command(encode(command)) == command


PIECES = st.lists(
    st.one_of(
        st.sampled_from(["a", "Look: ", LONG]),
        st.builds(
            image, st.integers(1, 4), st.integers(1, 5), st.sampled_from(["cat", "dog", "cow"])
        ),
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    prompts=st.lists(PIECES, min_size=1, max_size=5),
    waits=st.lists(st.integers(0, 3), min_size=5, max_size=5),
    num_blocks=st.integers(14, 40),
    token_budget=st.integers(4, 40),
    caching=st.booleans(),
    cancelled=st.sets(st.integers(0, 4), max_size=2),
    has_grid=st.booleans(),
)
def test_any_mix_gives_each_request_its_own_answer(
    prompts: list[list[str | bytes]],
    waits: list[int],
    num_blocks: int,
    token_budget: int,
    caching: bool,
    cancelled: set[int],
    has_grid: bool,
) -> None:
    engine = fake_engine(
        eyes=FakeEyes(has_grid_positions=has_grid),
        max_model_len=224,
        num_blocks=num_blocks,
        token_budget=token_budget,
        max_num_seqs=4,
        enable_prefix_caching=caching,
    )
    asked = {str(number): shown(*pieces) for number, pieces in enumerate(prompts)}
    asked = {name: prompt for name, prompt in asked.items() if len(prompt.token_ids) < 200}
    told: dict[str, str] = {}
    for name, num_steps in zip(list(asked), waits, strict=False):
        add(engine, name, asked[name])
        for _ in range(num_steps):
            for event in engine.step():
                told[event.request_id] = told.get(event.request_id, "") + event.text
    for number in cancelled:
        engine.cancel(str(number))
    for name, text in texts(finish(engine)).items():
        told[name] = told.get(name, "") + text
    for name, prompt in asked.items():
        expected = alone(prompt, has_grid=has_grid)
        if int(name) in cancelled:
            assert expected.startswith(told.get(name, ""))
        else:
            assert told[name] == expected
    assert is_empty(engine)
    engine.close()
