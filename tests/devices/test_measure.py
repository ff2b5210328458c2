from pathlib import Path

import pytest

from banyan.devices.chip import Cache, Topology
from banyan.devices.measure import Effort, bytes_to_read, kept_or_measured_profile, measure_cpu
from banyan.devices.profile import DeviceProfile, load_profile, save_profile
from banyan.foundation.errors import CompilerMissing
from banyan.foundation.settings import Settings

MEBIBYTE = 1024 * 1024


def test_the_processor_is_measured_and_the_profile_is_found_again(tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    profile = measure_cpu(
        settings=Settings(tmp_path),
        measured_on="2026-01-02",
        num_threads=2,
        progress=lambda what, done, total: seen.append((what, done, total)),
        effort=Effort(rounds=1, seconds_per_round=0.001, memory_bytes=8 * MEBIBYTE),
    )
    assert profile.measured_on == "2026-01-02"
    assert profile.num_threads == 2
    assert profile.read_bytes_per_second > 1e8
    assert profile.read_bytes_per_second_one_thread > 1e8
    assert profile.peaks()["float32"] > 1e8
    assert 0 < profile.launch_seconds < 1
    assert [done for _, done, _ in seen] == [0, *range(9), 9]
    assert seen[-1] == ("done", 9, 9)
    save_profile(profile, tmp_path)
    assert load_profile(profile.fingerprint, tmp_path) == profile


def test_a_profile_is_measured_once(tmp_path: Path) -> None:
    def profile(day: str) -> DeviceProfile:
        return kept_or_measured_profile(
            settings=Settings(tmp_path),
            measured_on=day,
            effort=Effort(rounds=1, seconds_per_round=0.001, memory_bytes=8 * MEBIBYTE),
        )

    assert profile("2026-01-02") == profile("2026-01-03")


def test_without_a_compiler_nothing_is_measured(tmp_path: Path) -> None:
    settings = Settings(tmp_path, compiler_command="no-such-compiler")
    with pytest.raises(CompilerMissing, match="no-such-compiler"):
        measure_cpu(settings=settings, measured_on="2026-01-02")


@pytest.mark.parametrize(
    ("caches", "memory_bytes", "expected"),
    [
        ((), 100_000 * MEBIBYTE, 256 * MEBIBYTE),
        ((300 * MEBIBYTE,), 100_000 * MEBIBYTE, 1200 * MEBIBYTE),
        ((300 * MEBIBYTE, 300 * MEBIBYTE), 100_000 * MEBIBYTE, 2400 * MEBIBYTE),
        ((300 * MEBIBYTE,), 1000 * MEBIBYTE, 250 * MEBIBYTE),
    ],
)
def test_more_is_read_than_caches_hold_and_less_than_the_machine_has(
    caches: tuple[int, ...], memory_bytes: int, expected: int
) -> None:
    levels = [Cache(3, "unified", size, (core,)) for core, size in enumerate(caches)]
    smaller = Cache(2, "unified", MEBIBYTE, (0,))
    topology = Topology(1, (*levels, smaller) if levels else (), ())
    assert bytes_to_read(topology, memory_bytes) == expected
