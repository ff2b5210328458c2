"""Where the model that ships with the repository is."""

from pathlib import Path

from banyan.foundation.errors import InputError

SHIPPED_MODEL = "seedling"


def find_model(name: str | None, *, start: Path | None = None) -> str:
    """Return the model to use: what was named, or the shipped one.

    The shipped one is `models/seedling` here, in a folder above, or beside this source tree.

    Raises:
        InputError: nothing was named and the shipped model is not here.
    """
    if name is not None and name != SHIPPED_MODEL:
        return name
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents, Path(__file__).resolve().parents[3]):
        candidate = folder / "models" / SHIPPED_MODEL
        if (candidate / "config.json").is_file():
            return str(candidate)
    raise InputError(
        f"the shipped model models/{SHIPPED_MODEL} is not in {here} or above it; name a model "
        "directory or a hub id, or run this in the repository"
    )
