"""A W&B server for `wandb sync`: it keeps the history of each run by the offset that each upload names, as the real one."""

import contextlib
import gzip
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class FakeServer:
    """What was uploaded: rows of each run's history, and its last summary."""

    def __init__(self) -> None:
        self.history: dict[str, list[str]] = {}
        self.summaries: dict[str, dict[str, Any]] = {}
        self.runs: dict[str, dict[str, Any]] = {}
        self.address = ""

    def answer(self, path: str, request: dict[str, Any]) -> dict[str, Any]:
        if match := re.fullmatch(r"/files/[^/]+/[^/]+/([^/]+)/file_stream", path):
            self._take(match[1], request.get("files") or {})
            return {"exitcode": None, "limits": {}}
        query, variables = request.get("query", ""), request.get("variables") or {}
        project = {"id": "1", "name": "p", "entity": {"id": "1", "name": "e"}}
        name = str(variables.get("name"))
        if "upsertBucket" in query:
            self.runs.setdefault(name, {}).update({k: v for k, v in variables.items() if v is not None})
            bucket = {"id": "1", "name": name, "displayName": name, "config": "{}", "project": project}
            return {"data": {"upsertBucket": {"bucket": bucket, "inserted": True}}}
        if request.get("operationName") == "RunResumeStatus":
            return {"data": {"model": {**project, "bucket": self._status(name)}}}
        if request.get("operationName") == "CreateRunFiles":
            files = [{"name": each, "uploadUrl": f"{self.address}/{each}"} for each in variables["files"]]
            return {"data": {"createRunFiles": {"runID": "1", "uploadHeaders": [], "files": files}}}
        return {"data": {}}

    def _status(self, name: str) -> dict[str, Any] | None:
        rows = self.history.get(name)
        if rows is None:
            return None
        counts = {"historyLineCount": len(rows), "eventsLineCount": 0, "logLineCount": 0}
        tails = {"historyTail": json.dumps(rows[-1:]), "eventsTail": "[]", "summaryMetrics": "{}"}
        return {"id": "1", "name": name, "config": "{}", "wandbConfig": '{"t": 1}', "tags": [], **counts, **tails}

    def _take(self, name: str, files: dict[str, Any]) -> None:
        rows = self.history.setdefault(name, [])
        if "wandb-history.jsonl" in files:
            offset, content = (files["wandb-history.jsonl"][key] for key in ("offset", "content"))
            rows[offset:] = content
        if "wandb-summary.json" in files:
            self.summaries[name] = json.loads(files["wandb-summary.json"]["content"][-1])


@contextlib.contextmanager
def fake_server() -> Iterator[FakeServer]:
    """Within the block it answers at its `address`."""
    fake = FakeServer()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            try:
                request = json.loads(body)
            except ValueError:  # a file
                request = {}
            answer = json.dumps(fake.answer(self.path, request)).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_PUT = do_GET = do_POST  # noqa: N815

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        fake.address = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield fake
        server.shutdown()
        thread.join()
