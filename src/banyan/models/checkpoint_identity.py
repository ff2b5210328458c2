"""Which bytes a checkpoint holds, told without reading all of them."""

import hashlib
from functools import cache
from pathlib import Path

_CONFIGURATIONS = (
    "config.json",
    "quantize_config.json",
    "hf_quant_config.json",
    # Kept keys and values are of images prepared this way.
    "preprocessor_config.json",
    "processor_config.json",
)
_SAMPLE_BYTES = 4096
_NUM_SAMPLES = 16
_LONGEST_HEADER = 16 * 2**20


def checkpoint_identity(directory: Path) -> str:
    """Digest what tells a model directory from any other that ever lay there.

    Of every weight file: its place, size, time of change, header, and sixteen samples of its data,
    because files from images and archives often carry the same time. The samples and the header
    are all that is read.
    """
    digest = hashlib.sha256(_sources_digest().encode())
    for path in sorted(directory.glob("*.safetensors")):
        found = path.stat()
        about = f"{path.resolve()}\0{found.st_size}\0{found.st_mtime_ns}\0"
        digest.update(about.encode() + _samples(path, found.st_size))
    for name in _CONFIGURATIONS:
        if (directory / name).is_file():
            digest.update(name.encode() + b"\0" + (directory / name).read_bytes())
    return digest.hexdigest()


def _samples(path: Path, num_bytes: int) -> bytes:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        digest.update(file.read(min(length, _LONGEST_HEADER)))
        for number in range(_NUM_SAMPLES):
            file.seek((num_bytes - 1) * number // _NUM_SAMPLES)
            digest.update(file.read(_SAMPLE_BYTES))
    return digest.digest()


@cache
def _sources_digest() -> str:
    """Digest the sources that turn stored weights into those of a graph."""
    models = Path(__file__).parent
    digest = hashlib.sha256()
    for path in sorted([*models.glob("*.py"), *models.glob("quantisation/*.py")]):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
