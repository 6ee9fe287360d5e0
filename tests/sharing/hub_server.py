"""A hub in this process: the few addresses of its HTTP interface that moving small files asks for."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

SHA = "0" * 39 + "1"
TOKEN = "hf_tests"


class Hub:
    """Repositories as `{name: {path: content}}`; what it was asked for is kept."""

    def __init__(self) -> None:
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.private: dict[str, bool] = {}
        self.asked: list[str] = []
        self.endpoint = ""

    def get(self, path: str, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        parts = path.strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            name = "/".join(parts[2:4])
            if name not in self.repositories:
                return 404, {"X-Error-Code": "RepoNotFound"}, b"{}"
            if parts[4:6] == ["revision", "nowhere"]:
                return 404, {"X-Error-Code": "RevisionNotFound"}, b"{}"
            files = self.repositories[name]
            if parts[4:5] == ["tree"]:
                listing = [{"type": "file", "path": file, "size": len(files[file]), "oid": SHA} for file in files]
                return 200, {}, json.dumps(listing).encode()
            siblings = [{"rfilename": file} for file in files]
            return 200, {}, json.dumps({"id": name, "sha": SHA, "siblings": siblings}).encode()
        name, file = "/".join(parts[:2]), "/".join(parts[4:])
        content = self.repositories.get(name, {}).get(file)
        if parts[2:3] != ["resolve"] or content is None:
            return 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": SHA}, b""
        return 200, {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": SHA}, content

    def post(self, path: str, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        if headers.get("authorization") != f"Bearer {TOKEN}":
            return 401, {"X-Error-Message": "Invalid username or password."}, b"{}"
        parts = path.strip("/").split("/")
        if parts == ["api", "repos", "create"]:
            wanted = json.loads(body)
            name = f"{wanted['organization']}/{wanted['name']}"
            if name in self.repositories:
                return 409, {}, json.dumps({"url": f"{self.endpoint}/{name}"}).encode()
            if wanted["organization"] == "somebody":
                return 403, {"X-Error-Message": "You don't have the rights"}, b"{}"
            self.repositories[name], self.private[name] = (
                {},
                wanted.get("visibility") == "private" or bool(wanted.get("private")),
            )
            return 200, {}, json.dumps({"url": f"{self.endpoint}/{name}", "id": name}).encode()
        if parts == ["api", "validate-yaml"]:
            return 200, {}, b'{"errors": [], "warnings": []}'
        name = "/".join(parts[2:4])
        if parts[4] == "preupload":
            sent = json.loads(body)["files"]
            files = [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False} for file in sent]
            return 200, {}, json.dumps({"files": files}).encode()
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "deletedFile":
                del self.repositories[name][line["value"]["path"]]
            if line["key"] == "file":
                self.repositories[name][line["value"]["path"]] = base64.b64decode(line["value"]["content"])
        url = f"{self.endpoint}/{name}/commit/{SHA}"
        return 200, {}, json.dumps({"commitUrl": url, "commitOid": SHA, "success": True}).encode()


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """The hub at an address of this machine."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self, body: bytes | None = None) -> None:
            path, headers = urlsplit(self.path).path, {name.lower(): value for name, value in self.headers.items()}
            hub.asked.append(f"{self.command} {path}")
            reply = hub.get(path, headers) if body is None else hub.post(path, headers, body)
            status, fields, content = reply
            self.send_response(status)
            for name, value in (fields | {"Content-Length": str(len(content))}).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def do_GET(self) -> None:
            self.answer()

        def do_HEAD(self) -> None:
            self.answer()

        def do_POST(self) -> None:
            self.answer(self.rfile.read(int(self.headers.get("Content-Length", 0))))

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
