from dataclasses import replace
from pathlib import Path

import pytest

from banyan.cli.plan_inputs import read_devices, read_file, read_shape
from banyan.devices.cpu_probe import CpuProbe
from banyan.devices.profile import DeviceProfile, fingerprint_of, save_profile
from banyan.foundation.errors import InputError
from banyan.foundation.settings import Settings, load_settings
from banyan.planner.costs import RooflineCost
from tests.conftest import Checkpoint

HERE = '[types.server]\nprofile = "here"\nmemory = "8GB"\n[[devices]]\ntype = "server"\n'


def settings(folder: Path) -> Settings:
    return load_settings({"BANYAN_CACHE": str(folder), "HF_HUB_OFFLINE": "1"})


def keep_profile(folder: Path) -> None:
    """Pretend that this machine was measured, ceilings only."""
    facts = CpuProbe().inventory()[0]
    profile = DeviceProfile(
        fingerprint=fingerprint_of(facts, num_threads=facts.cores),
        model=facts.model,
        measured_on="2026-01-01",
        num_threads=facts.cores,
        read_bytes_per_second=5e10,
        read_bytes_per_second_one_thread=3e10,
        copy_bytes_per_second=5e10,
        operations_per_second=(("float32", 1e11),),
        operations_per_second_one_thread=(("float32", 5e10),),
        launch_seconds=1e-6,
    )
    save_profile(profile, folder)


def test_dtypes_are_those_of_the_checkpoint_or_those_asked_for(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    name, here = str(checkpoint("llama")), settings(tmp_path)
    stored = read_shape(name, weights="auto", cache="auto", settings=here)
    dtypes = (stored.weight_dtype, stored.cache_dtype, stored.compute_dtype)
    assert dtypes == ("float32", "float32", "float32")
    asked = read_shape(name, weights="int4", cache="int8", settings=here)
    assert (asked.weight_dtype, asked.cache_dtype, asked.compute_dtype) == (
        "int4",
        "int8",
        "bfloat16",
    )
    assert replace(asked, weight_dtype="x", cache_dtype="y").layers == stored.layers


def test_this_machine_is_what_it_was_measured_to_be(tmp_path: Path) -> None:
    (tmp_path / "inventory.toml").write_text(HERE)
    with pytest.raises(InputError, match="profile='here' is not known; there are none; banyan dev"):
        read_devices(tmp_path / "inventory.toml", None, settings(tmp_path))
    keep_profile(tmp_path)
    found = read_devices(tmp_path / "inventory.toml", None, settings(tmp_path))
    kind = found.inventory.devices[0].type
    assert (kind.name, kind.kind, kind.source) == ("server", "cpu", "measured")
    assert (kind.memory_bytes, kind.read_bytes_per_second) == (8 * 10**9, 5e10)
    # Without measured programs the ceilings are all there is to predict from.
    assert found.costs == RooflineCost()


def test_a_file_that_is_no_text_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="cannot be read: it is no text; name a file of TOML"):
        read_file(tmp_path / "x", "the inventory")
