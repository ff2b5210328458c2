"""The worker processes of a process."""

from pathlib import Path


def workers_of(process: int) -> set[int]:
    """Workers that a process started and that have not ended."""
    found = set()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = (entry / "cmdline").read_bytes()
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, IndexError, ValueError):
            continue
        if parent == process and b"stage_worker" in words:
            found.add(int(entry.name))
    return found
