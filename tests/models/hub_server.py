"""A model hub on this machine, with the few requests that a download makes."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class _Hub(ThreadingHTTPServer):
    def __init__(self, model_id: str, directory: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.model_id = model_id
        self.files = {
            path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()
        }
        self.requested: list[str] = []


class _Handler(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, *_: object) -> None:
        """Keep the output of the tests clean."""

    def _answer(self) -> None:
        hub = self.server
        assert isinstance(hub, _Hub)
        path = self.path.partition("?")[0]
        name = path.rpartition("/")[2]
        if path.startswith(f"/api/models/{hub.model_id}/tree/"):
            tree = [
                {"type": "file", "path": name, "size": len(content), "oid": _digest(content)}
                for name, content in hub.files.items()
            ]
            self._send(json.dumps(tree).encode(), "application/json")
        elif path.startswith(f"/api/models/{hub.model_id}"):
            siblings = [{"rfilename": name} for name in hub.files]
            answer = {"id": hub.model_id, "sha": COMMIT, "siblings": siblings}
            self._send(json.dumps(answer).encode(), "application/json")
        elif path.startswith(f"/{hub.model_id}/resolve/") and name in hub.files:
            hub.requested.append(name)
            self._send(hub.files[name], "application/octet-stream")
        else:
            self._refuse()

    def _refuse(self) -> None:
        self.send_response(404)
        self.send_header("X-Error-Code", "RepoNotFound")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _send(self, content: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{_digest(content)}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)


@contextmanager
def serve_hub(model_id: str, directory: Path) -> Iterator[tuple[str, list[str]]]:
    """Serve one model; gives the address and the list of file names asked for, as it grows."""
    hub = _Hub(model_id, directory)
    thread = Thread(target=hub.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{hub.server_port}", hub.requested
    finally:
        hub.shutdown()
        hub.server_close()
        thread.join()


def _digest(content: bytes) -> str:
    return hashlib.sha1(content, usedforsecurity=False).hexdigest()
