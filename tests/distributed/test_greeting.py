"""Who fits whom."""

import pytest

from banyan.distributed.frames import Hello
from banyan.distributed.greeting import Identity, check_fit
from banyan.foundation.errors import PeerRefused


def hello(name: str, version: str = "1.0", plan: str | None = None) -> Hello:
    return Hello(name=name, version=version, plan=plan, beat_seconds=1.0)


@pytest.mark.parametrize("plans", [(None, None), ("p", None), (None, "p"), ("p", "p")])
def test_the_same_version_and_no_other_plan_fit(plans: tuple[str | None, str | None]) -> None:
    check_fit(hello("a", plan=plans[0]), hello("b", plan=plans[1]))


def test_another_version_does_not_fit_and_both_are_named() -> None:
    with pytest.raises(
        PeerRefused, match=r"^b runs Banyan 1\.1 and a runs 1\.0; install the same version on both"
    ):
        check_fit(hello("a"), hello("b", "1.1"))


def test_another_plan_does_not_fit() -> None:
    with pytest.raises(PeerRefused, match=r"^b carries out plan q and a plan p; start both with"):
        check_fit(hello("a", plan="p"), hello("b", plan="q"))


def test_a_worker_is_of_the_installed_version() -> None:
    assert Identity("a").version[0].isdigit()
