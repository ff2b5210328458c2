"""What a model directory is for: to write, to make vectors, or to score.

Pure decisions over what the directory holds. Imports no torch. Called by `banyan.models.loading`.
"""

from pathlib import Path
from typing import Literal

from banyan.foundation.errors import InputError, ModelError
from banyan.models.json_fields import Fields, read_json

Task = Literal["generate", "embed", "classify", "rerank"]
TASKS: tuple[Task, ...] = ("generate", "embed", "classify", "rerank")


def choose_task(directory: Path, *, architecture: str, is_encoder: bool, asked: str) -> Task:
    """Choose what to do with a model; `asked` is a task, or "auto" for what its files say.

    A decoder with the pooling of sentence-transformers beside it makes vectors, one with their
    module for logits of two words scores pairs; any other that ends in a vocabulary writes. A
    model with a head for labels classifies, or reranks by its first label.

    Raises:
        InputError: the model cannot do what was asked.
    """
    able = _able(architecture, is_encoder=is_encoder)
    if asked != "auto":
        for task in able:
            if task == asked:
                return task
        raise InputError(
            f"task={asked!r} is not possible with {architecture}, which can {' or '.join(able)}"
        )
    if able[0] != "generate":
        return able[0]
    kinds = {kind for kind, _ in read_modules(directory)}
    if "Pooling" in kinds:
        return "embed"
    return "rerank" if "LogitScore" in kinds else "generate"


def _able(architecture: str, *, is_encoder: bool) -> tuple[Task, ...]:
    """Every task a model can do, the ordinary one first."""
    if architecture.endswith("ForSequenceClassification"):
        return ("classify", "rerank")
    if architecture.endswith("ForConditionalGeneration"):
        return ("generate",)
    if is_encoder or architecture.endswith("Model"):
        return ("embed",)
    return ("generate", "embed", "rerank")


def read_modules(directory: Path) -> list[tuple[str, Path]]:
    """Give kind and folder of each module in `modules.json`; without the file there are none."""
    path = directory / "modules.json"
    if not path.is_file():
        return []
    modules = read_json(path)
    if not isinstance(modules, list) or any(not isinstance(item, dict) for item in modules):
        raise ModelError(f"{path} must hold a list of modules")
    fields = [Fields(item, str(path)) for item in modules]
    return [
        (module.text("type").rpartition(".")[2], directory / module.text("path", ""))
        for module in fields
    ]
