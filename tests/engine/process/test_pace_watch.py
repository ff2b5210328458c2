from banyan.engine.process.pace_watch import WINDOW_SECONDS, PaceWatch
from banyan.engine.process.stragglers import StragglerRules
from banyan.planner.plan import Plan, Replica, Stage

PLAN = Plan(
    model="m",
    model_fingerprint="",
    num_layers=2,
    replicas=(Replica((Stage(0, 1, ("a",)), Stage(1, 2, ("b",)))),),
)


class Time:
    """A watch, and devices that work while time passes."""

    def __init__(self) -> None:
        self.watch = PaceWatch(StragglerRules(windows=2, busy_seconds=0.1))
        self.watch.begin(PLAN, {"a": 0.1, "b": 0.1}, {})
        self.busy = {"a": 0.0, "b": 0.0}
        self.now = 0.0
        self.pass_windows(1, 1.0)

    def pass_windows(self, count: int, slowness: float) -> list[dict[str, float]]:
        """Windows in which b takes so many times longer than a; the news of them."""
        news = []
        for _ in range(count):
            self.now += WINDOW_SECONDS
            self.busy = {"a": self.busy["a"] + 1.0, "b": self.busy["b"] + slowness}
            assert self.watch.is_due(self.now)
            found = self.watch.look(self.busy, self.now)
            assert not self.watch.is_due(self.now + WINDOW_SECONDS / 2)
            if found is not None:
                news.append(dict(found))
        return news


def test_a_slow_device_is_news_once() -> None:
    time = Time()
    assert time.pass_windows(6, 3.0) == [{"b": 3.0}]


def test_two_moves_for_slowness_lie_further_and_further_apart() -> None:
    time, told = Time(), []
    for slowness in (3.0, 1.0, 3.0, 1.0):
        began = time.now
        while not time.pass_windows(1, slowness):
            assert time.now - began < 400.0
        told.append(time.now - began)
    assert told[0] == 2 * WINDOW_SECONDS
    assert told[1] >= 30.0 - 2 * WINDOW_SECONDS
    assert told[2] >= 60.0 - 2 * WINDOW_SECONDS
    assert told[3] >= 120.0 - 2 * WINDOW_SECONDS


def test_a_device_known_to_be_slow_is_no_news_under_the_next_plan() -> None:
    time = Time()
    assert time.watch.knows(PLAN)
    time.watch.begin(PLAN, {"a": 0.1, "b": 0.1}, {"b": 3.0, "gone": 2.0})
    time.busy = {"a": 0.0, "b": 0.0}
    assert time.pass_windows(6, 3.0) == []
