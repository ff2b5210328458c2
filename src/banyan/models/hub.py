"""Find the directory of a model: a folder on this machine, or an id on a model hub.

The only importer of huggingface_hub. The library itself obeys HF_ENDPOINT (mirrors), HF_HOME and
HF_HUB_OFFLINE. Called by `banyan.models.loading`.
"""

import re
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
    path = Path(path_or_id)
    try:
        path = path.expanduser()
        # An empty name would be the current directory.
        if path_or_id and path.is_dir():
            return path
        is_file = path.is_file()
    except (OSError, RuntimeError) as error:  # a name too long, or "~" of an unknown user
        raise ModelError(
            f"{path_or_id!r} cannot be looked up as a model directory: {_first_line(error)}"
        ) from error
    if is_file:
        raise ModelError(f"{path} is a file; name the model directory that holds config.json")
    if not _HUB_ID.match(path_or_id):
        raise ModelError(
            f"there is no model directory {path_or_id!r}; give an existing directory or a hub id "
            "such as 'Qwen/Qwen3-0.6B'"
        )
    return _download(path_or_id, offline=offline)


def _download(model_id: str, *, offline: bool) -> Path:
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
                allow_patterns=list(NEEDED_FILES),
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
