"""Find the directory of a model: a folder on this machine, or an id on a model hub.

The only importer of huggingface_hub. The library itself obeys HF_ENDPOINT (mirrors), HF_HOME and
HF_HUB_OFFLINE. Called by `banyan.models.loading`.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from banyan.foundation.errors import ModelError

# What a model directory needs: no other weight formats, no pictures, no code.
NEEDED_FILES = (
    "*.json",
    "*.safetensors",
    "*.jinja",
    "*.txt",
    "*.model",
    "1_Pooling/*.json",
)

# The same weights again, in the layouts of other programs.
UNUSED_FILES = ("consolidated*", "original/*", "onnx/*", "openvino/*")

_HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*/[\w.-]+$")


def find_model_directory(path_or_id: str, *, offline: bool = False) -> Path:
    """Give the local directory of a model, downloading it when it is an id on a hub.

    A directory on this machine wins over a hub id of the same spelling.

    Raises:
        ModelError: neither a directory nor an id that can be had; the message says which.
    """
    found = _look_up(path_or_id)
    if found is not None and found.is_dir():
        return found
    if found is not None:
        raise ModelError(f"{found} is a file; name the model directory that holds config.json")
    return _download(path_or_id, NEEDED_FILES, offline=offline)


def find_configuration_file(path_or_id: str, *, offline: bool = False) -> Path:
    """Give the config.json of a model; of one on a hub nothing else is downloaded.

    Args:
        path_or_id: a model directory, an id on a hub, or a file that is a config.json itself.
        offline: never ask the hub.

    Raises:
        ModelError: none of the three; the message says which.
    """
    found = _look_up(path_or_id)
    if found is None:
        found = _download(path_or_id, ("config.json",), offline=offline)
    return found / "config.json" if found.is_dir() else found


def _look_up(path_or_id: str) -> Path | None:
    """What is on this machine under a name; None where it may be an id on a hub."""
    path = Path(path_or_id)
    try:
        path = path.expanduser()
        # An empty name would be the current directory.
        if (path_or_id and path.is_dir()) or path.is_file():
            return path
    except (OSError, RuntimeError) as error:  # a name too long, or "~" of an unknown user
        raise ModelError(
            f"{path_or_id!r} cannot be looked up as a model directory: {_first_line(error)}"
        ) from error
    if not _HUB_ID.match(path_or_id):
        raise ModelError(
            f"there is no model directory {path_or_id!r}; give an existing directory or a hub id "
            "such as 'Qwen/Qwen3-0.6B'"
        )
    return None


def _download(model_id: str, wanted: Sequence[str], *, offline: bool) -> Path:
    # Imported here because it brings an HTTP client, which a model on this machine does not need.
    import huggingface_hub  # noqa: PLC0415
    from huggingface_hub.errors import (  # noqa: PLC0415
        HfHubHTTPError,
        LocalEntryNotFoundError,
    )

    try:
        return Path(
            huggingface_hub.snapshot_download(
                model_id,
                allow_patterns=list(wanted),
                ignore_patterns=list(UNUSED_FILES),
                local_files_only=offline,
            )
        )
    except LocalEntryNotFoundError as error:
        reason = (
            "and downloads are off (HF_HUB_OFFLINE)" if offline else "and the hub is not reachable"
        )
        raise ModelError(
            f"there is no directory {model_id!r}, the model is not in the local cache, {reason}"
        ) from error
    except HfHubHTTPError as error:
        raise ModelError(
            f"there is no directory {model_id!r}, and the hub refused the model of that name: "
            f"{_first_line(error)}"
        ) from error
    except (OSError, ValueError) as error:
        raise ModelError(f"downloading {model_id!r} failed: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
