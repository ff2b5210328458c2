"""Adapters in a running engine: each request answers as it would alone, whatever comes and goes."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from banyan.engine.adapters.library import load_named
from banyan.engine.engine import Engine
from banyan.engine.fake import fake_engine
from banyan.engine.request_context import RequestContext
from banyan.engine.sampling import SamplingOptions
from banyan.foundation.errors import InputError, RequestError

NAMES = ("one", "two", "three", "four")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four adapters of the fake model."""
    for name in NAMES:
        (tmp_path / name).mkdir()
        (tmp_path / name / "adapter_config.json").write_text(name)
    return tmp_path


def load(engine: Engine, folder: Path, name: str, *, content: str | None = None) -> None:
    library = engine.adapters
    assert library is not None
    path = folder / (content or name)
    library.add(name, str(path), library.read(str(path)))


def ask(engine: Engine, number: int, adapter: str | None, *, length: int = 8) -> None:
    prompt = [100 + number % 3] * 20
    context = RequestContext(adapter=adapter)
    engine.add_request(
        str(number), prompt, SamplingOptions(temperature=0, max_tokens=length), context
    )


def finish(engine: Engine) -> dict[str, str]:
    texts: dict[str, str] = {}
    for _ in range(1000):
        if not engine.has_work():
            return texts
        for event in engine.step():
            texts[event.request_id] = texts.get(event.request_id, "") + event.text
    raise AssertionError("the engine did not come to an end")


def alone(folder: Path, number: int, content: str | None, *, length: int = 8) -> str:
    """What a request answers in an engine of its own."""
    engine = fake_engine(num_slots=1, enable_prefix_caching=False)
    if content is not None:
        load(engine, folder, "only", content=content)
    ask(engine, number, None if content is None else "only", length=length)
    return finish(engine)[str(number)]


def test_requests_of_one_batch_have_their_own_adapters(folder: Path) -> None:
    engine = fake_engine(num_slots=4)
    for name in NAMES:
        load(engine, folder, name)
    adapters = dict(enumerate([*NAMES, None]))
    for number, adapter in adapters.items():
        ask(engine, 3 * number, adapter)
    texts = finish(engine)
    assert len(set(texts.values())) == 5
    for number, adapter in adapters.items():
        assert texts[str(3 * number)] == alone(folder, 3 * number, adapter)


def test_more_adapters_than_slots_take_turns(folder: Path) -> None:
    engine = fake_engine(num_slots=2)
    for name in NAMES:
        load(engine, folder, name)
    for number in range(12):
        ask(engine, number, NAMES[number % 4], length=2 + number)
    texts = finish(engine)
    for number in range(12):
        wanted = alone(folder, number, NAMES[number % 4], length=2 + number)
        assert texts[str(number)] == wanted


def test_a_waiting_adapter_is_not_passed_for_ever(folder: Path) -> None:
    engine = fake_engine(num_slots=1, max_num_seqs=4)
    load(engine, folder, "one")
    load(engine, folder, "two")
    ask(engine, 0, "one", length=6)
    ask(engine, 1, "two", length=2)
    first_of_two = None
    for step in range(40):
        # Somebody always asks for the adapter that is seated.
        ask(engine, 100 + step, "one", length=6)
        if any(event.request_id == "1" for event in engine.step()):
            first_of_two = step
            break
    assert first_of_two is not None
    assert first_of_two < 12
    ask(engine, 2, None)
    assert "2" in finish(engine)


def test_the_base_model_does_not_wait_for_slots(folder: Path) -> None:
    engine = fake_engine(num_slots=1)
    for name in ("one", "two"):
        load(engine, folder, name)
    for number, adapter in enumerate(["one", "two", None]):
        ask(engine, number, adapter, length=30)
    seen = {event.request_id for _ in range(3) for event in engine.step()}
    assert seen == {"0", "2"}


def test_a_request_keeps_its_adapter_when_the_name_goes_to_another(folder: Path) -> None:
    engine = fake_engine(num_slots=1)
    assert engine.adapters is not None
    load(engine, folder, "one")
    ask(engine, 0, "one", length=20)
    (first,) = engine.step()
    ask(engine, 3, "one", length=20)
    engine.adapters.remove("one")
    with pytest.raises(RequestError, match="no adapter 'one' is loaded"):
        ask(engine, 9, "one")
    load(engine, folder, "one", content="two")
    ask(engine, 6, "one", length=20)
    texts = finish(engine)
    assert first.text + texts["0"] == alone(folder, 0, "one", length=20)
    assert texts["3"] == alone(folder, 3, "one", length=20)
    assert texts["6"] == alone(folder, 6, "two", length=20)


def test_prefixes_are_shared_by_requests_of_the_same_weights_only(folder: Path) -> None:
    engine = fake_engine(num_slots=2)
    assert engine.adapters is not None
    load(engine, folder, "one")
    for number in (0, 3):
        ask(engine, number, "one")
        finish(engine)
    hits = engine.statistics().prefix_cache_hits
    assert hits == 16
    ask(engine, 6, None)
    engine.adapters.remove("one")
    load(engine, folder, "one", content="two")
    ask(engine, 9, "one")
    texts = finish(engine)
    assert engine.statistics().prefix_cache_hits == hits
    load(engine, folder, "again", content="one")
    ask(engine, 12, "again")
    assert finish(engine)["12"] == alone(folder, 12, "one")
    assert engine.statistics().prefix_cache_hits == hits + 16
    assert texts["9"] == alone(folder, 9, "two")


def test_an_engine_without_slots_says_how_to_get_them() -> None:
    with pytest.raises(RequestError, match="without enable_lora") as caught:
        ask(fake_engine(), 0, "one")
    assert caught.value.parameter == "model"


def test_names_and_numbers_of_adapters_have_limits(folder: Path) -> None:
    engine = fake_engine(num_slots=1, max_adapters=2)
    load(engine, folder, "one")
    with pytest.raises(RequestError, match="'one' is already loaded"):
        load(engine, folder, "one")
    load(engine, folder, "two")
    with pytest.raises(RequestError, match="max_cpu_loras=2 allows no more"):
        load(engine, folder, "three")
    assert engine.adapters is not None
    with pytest.raises(RequestError, match="has 0 characters"):
        engine.adapters.check_name("")
    engine.adapters.check_name("two", replaces=True)
    with pytest.raises(InputError, match=r"the adapter 'x' cannot be loaded: .*cannot be read"):
        load_named(fake_engine(num_slots=1).adapters, [("x", str(folder / "none"))])  # type: ignore[arg-type]


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_churn_under_traffic_changes_no_answer(folder: Path, data: st.DataObject) -> None:
    """Loads, unloads, cancellations and requests in any order, with few blocks and slots."""
    engine = fake_engine(
        num_slots=data.draw(st.integers(1, 3)), num_blocks=20, max_num_seqs=4, token_budget=24
    )
    library = engine.adapters
    assert library is not None
    content_of: dict[str, str] = {}
    expected: dict[str, str] = {}
    texts: dict[str, str] = {}
    for number in range(data.draw(st.integers(1, 25))):
        action = data.draw(
            st.sampled_from(["load", "ask", "ask", "ask", "unload", "step", "cancel"])
        )
        name = data.draw(st.sampled_from(["a", "b"]))
        if action == "load" and name not in content_of:
            content_of[name] = data.draw(st.sampled_from(NAMES))
            load(engine, folder, name, content=content_of[name])
        elif action == "unload" and name in content_of:
            del content_of[name]
            library.remove(name)
        elif action == "ask":
            chosen = name if name in content_of else None
            length = data.draw(st.integers(1, 20))
            ask(engine, number, chosen, length=length)
            expected[str(number)] = alone(folder, number, content_of.get(name), length=length)
        elif action == "cancel" and expected:
            request_id = data.draw(st.sampled_from(sorted(expected)))
            engine.cancel(request_id)
            expected.pop(request_id)
        else:
            for event in engine.step():
                texts[event.request_id] = texts.get(event.request_id, "") + event.text
    for request_id, text in finish(engine).items():
        texts[request_id] = texts.get(request_id, "") + text
    for request_id, text in expected.items():
        assert texts[request_id] == text
    assert engine.statistics().num_free_blocks == engine.statistics().num_blocks


def test_the_counters_name_the_adapters_that_are_used_and_waited_for(folder: Path) -> None:
    engine = fake_engine(num_slots=2, max_num_seqs=2)
    for name in NAMES:
        load(engine, folder, name)
    for number, adapter in enumerate(["two", "one", "three", None, "one"]):
        ask(engine, number, adapter)
    assert engine.statistics().adapters_running == ()
    assert engine.statistics().adapters_waiting == ("one", "three", "two")
    engine.step()
    assert engine.statistics().adapters_running == ("one", "two")
    assert engine.statistics().adapters_waiting == ("one", "three")
    finish(engine)
    counted = engine.statistics()
    assert (counted.adapters_running, counted.adapters_waiting) == ((), ())
    assert sum(counted.step_sizes) == counted.num_steps
    assert counted.step_tokens >= counted.tokens_prefilled
