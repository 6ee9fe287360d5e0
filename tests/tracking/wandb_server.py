"""Minimal W&B server that answers and stores the requests of an upload."""

import gzip
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

#: Of the form that W&B wants.
KEY = "0" * 40


class WandbServer:
    """Uploaded data by run.

    Attributes:
        url: `http://127.0.0.1:PORT`.
        runs: latest metadata of each run: name, group, job type, tags, config.
        history: rows of each run by line number, as in W&B's server: an upload from line 0 overwrites earlier rows.
        made, used: names of artifacts.
    """

    def __init__(self, url: str):
        self.url = url
        self.runs: dict[str, dict[str, Any]] = {}
        self.history: dict[str, list[dict[str, Any]]] = {}
        self.made: list[str] = []
        self.used: list[tuple[str, str]] = []
        self._names: dict[str, str] = {}

    def stream(self, run_id: str, body: dict[str, Any]) -> dict[str, Any]:
        """Store rows of the history."""
        if chunk := (body.get("files") or {}).get("wandb-history.jsonl"):
            rows = [json.loads(line) for line in chunk["content"]]
            self.history.setdefault(run_id, [])[chunk["offset"] : chunk["offset"] + len(rows)] = rows
        return {"exitcode": None, "limits": {}}

    def answer(self, operation: str, values: dict[str, Any]) -> dict[str, Any]:
        """Answer one request."""
        given = values.get("input") or {}
        if operation == "UpsertBucket":
            self.runs.setdefault(values["name"], {}).update({key: value for key, value in values.items() if value})
            return {"upsertBucket": {"bucket": _bucket(values["name"]), "inserted": True}}
        if operation == "RunResumeStatus":
            return {"model": _project() | {"bucket": self._resumed(values["name"])}}
        if operation == "CreateArtifact":
            self.made.append(given["artifactCollectionName"])
            self._names[given["digest"]] = given["artifactCollectionName"]
            artifact = {"id": given["digest"], "state": "PENDING"}
            return {
                "createArtifact": {"artifact": artifact | {"artifactSequence": {"id": "s", "latestArtifact": None}}}
            }
        if operation == "CreateArtifactManifest":
            return {"createArtifactManifest": {"artifactManifest": {"id": "m", "file": self._file("manifest")}}}
        if operation == "CreateArtifactFiles":
            files = [
                self._file(file["name"]) | {"artifact": {"id": file["artifactID"]}} for file in given["artifactFiles"]
            ]
            return {"createArtifactFiles": {"files": {"edges": [{"node": file} for file in files]}}}
        if operation == "CommitArtifact":
            return {"commitArtifact": {"artifact": {"id": values["artifactID"], "digest": "d"}}}
        if operation == "UseArtifact":
            self.used.append((given["runName"], self._names[given["artifactID"]]))
            return {"useArtifact": {"artifact": {"id": given["artifactID"], "digest": "d", "description": ""}}}
        if operation == "CreateRunFiles":
            files = [self._file(name) for name in values["files"]]
            return {"createRunFiles": {"runID": "r", "uploadHeaders": [], "files": files}}
        if operation == "ServerFeaturesQuery":
            return {"serverInfo": {"features": []}}
        return {"viewer": {"id": "u", "entity": "lab", "username": "u", "flags": "{}", "teams": {"edges": []}}}

    def _file(self, name: str) -> dict[str, Any]:
        where = {"uploadUrl": f"{self.url}/upload", "uploadHeaders": [], "uploadMultipartUrls": None}
        return {"id": "f", "name": name, "displayName": name, "storagePath": name, **where}

    def _resumed(self, run_id: str) -> dict[str, Any] | None:
        if run_id not in self.history:
            return None
        rows = self.history[run_id]
        lines = {"historyLineCount": len(rows), "logLineCount": 0, "eventsLineCount": 0}
        last = {"historyTail": json.dumps([json.dumps(rows[-1])]), "eventsTail": "[]"}
        known = {"summaryMetrics": json.dumps({"_step": rows[-1]["_step"]}), "config": "{}", "tags": [], "notes": None}
        return _bucket(run_id) | lines | last | known | {"wandbConfig": json.dumps({"t": 1})}


def _project() -> dict[str, Any]:
    return {"id": "p", "name": "mindeye_pl", "entity": {"id": "e", "name": "lab"}}


def _bucket(run_id: str) -> dict[str, Any]:
    return {"id": f"id-{run_id}", "name": run_id, "displayName": run_id, "project": _project(), "sweepName": None}


class _QuietServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore connections that W&B's process leaves open when it ends."""


@contextmanager
def wandb_server() -> Iterator[WandbServer]:
    """Run a server on a free local port."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: Any) -> None:
            pass

        def do_PUT(self) -> None:
            self._body()
            self._reply({})

        def do_POST(self) -> None:
            body = self._body()
            if "file_stream" in self.path:
                self._reply(server.stream(self.path.split("/")[-2], body))
                return
            match = re.search(r"(?:query|mutation)\s+(\w+)", body.get("query", ""))
            operation = body.get("operationName") or (match[1] if match else "")
            self._reply({"data": server.answer(operation, body.get("variables") or {})})

        def _body(self) -> Any:
            content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self.headers.get("Content-Encoding") == "gzip":
                content = gzip.decompress(content)
            try:
                return json.loads(content)
            except ValueError:  # a file, or W&B's telemetry
                return {}

        def _reply(self, answer: dict[str, Any]) -> None:
            content = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    listener = _QuietServer(("127.0.0.1", 0), Handler)
    server = WandbServer(f"http://127.0.0.1:{listener.server_port}")
    Thread(target=listener.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        listener.shutdown()
        listener.server_close()
