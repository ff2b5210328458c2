import pytest

from banyan.engine.launcher import describe_exit


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        (3, "the engine process ended with exit code 3"),
        (-9, "the engine process was killed by signal 9 (SIGKILL)"),
        (-99, "the engine process was killed by signal 99 (unknown)"),
    ],
)
def test_an_exit_is_described_by_its_code_or_signal(code: int, sentence: str) -> None:
    assert describe_exit(code) == sentence
