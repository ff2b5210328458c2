import os
import shutil
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from banyan.models.checkpoint_identity import checkpoint_identity

TIME = (1_000_000_000, 1_000_000_000)


def written(folder: Path, value: float) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "model.safetensors"
    save_file({"w": np.full((100,), value, np.float32)}, path)
    (folder / "config.json").write_text("{}")
    os.utime(path, TIME)
    return folder


def test_the_same_files_have_the_same_identity(tmp_path: Path) -> None:
    folder = written(tmp_path / "a", 1.0)
    assert checkpoint_identity(folder) == checkpoint_identity(folder)


def test_other_numbers_under_the_same_name_size_and_time_are_another_checkpoint(
    tmp_path: Path,
) -> None:
    before = checkpoint_identity(written(tmp_path / "a", 1.0))
    assert checkpoint_identity(written(tmp_path / "a", 2.0)) != before


def test_a_change_of_time_configuration_or_place_is_another_checkpoint(tmp_path: Path) -> None:
    folder = written(tmp_path / "a", 1.0)
    seen = {checkpoint_identity(folder)}
    os.utime(folder / "model.safetensors", (5, 5))
    seen.add(checkpoint_identity(folder))
    (folder / "config.json").write_text('{"quantization_config": {}}')
    seen.add(checkpoint_identity(folder))
    shutil.copytree(folder, tmp_path / "b")
    seen.add(checkpoint_identity(tmp_path / "b"))
    assert len(seen) == 4


def test_another_way_to_prepare_images_is_another_checkpoint(tmp_path: Path) -> None:
    folder = written(tmp_path / "a", 1.0)
    seen = {checkpoint_identity(folder)}
    for name in ("preprocessor_config.json", "processor_config.json"):
        (folder / name).write_text('{"image_mean": [0, 0, 0]}')
        seen.add(checkpoint_identity(folder))
    assert len(seen) == 3
