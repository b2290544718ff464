"""A Hugging Face hub on 127.0.0.1: as much of its file and data-set API as huggingface_hub and datasets ask for.

Files of repositories at their commits (`main` means the newest): HEAD and GET of `resolve`, with ETag, X-Repo-Commit
and a redirect of large files to a storage address of their own; repository info; the tree; paths-info. Whatever else is
asked is answered by 404 and kept in `unknown`, so that a test can see that nothing was. All that a client says is kept.
"""

import hashlib
import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from urllib.parse import parse_qs, unquote, urlsplit

LARGE = (".safetensors", ".bin", ".parquet")  # kept by LFS on the real hub: served through a redirect
PLURAL = {"models": "model", "datasets": "dataset"}


@dataclass(frozen=True)
class Repository:
    """Files of one repository at one commit."""

    commit: str
    files: Mapping[str, bytes]

    def entry(self, path: str) -> dict[str, object]:
        """What the tree and paths-info say of a file or folder."""
        if path not in self.files:
            return {"type": "directory", "oid": hashlib.sha1(path.encode()).hexdigest(), "size": 0, "path": path}
        content = self.files[path]
        entry: dict[str, object] = {"type": "file", "oid": git_hash(content), "size": len(content), "path": path}
        if path.endswith(LARGE):
            entry["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
        return entry

    def folders(self) -> set[str]:
        return {path.rsplit("/", depth)[0] for path in self.files for depth in range(1, path.count("/") + 1)}

    def tree(self, under: str, recursive: bool) -> list[dict[str, object]]:
        """Entries below a folder (the empty name: the root)."""
        prefix = f"{under}/" if under else ""
        below = sorted(path for path in {*self.files, *self.folders()} if path.startswith(prefix))
        return [self.entry(path) for path in below if recursive or "/" not in path.removeprefix(prefix)]


def git_hash(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def etag(path: str, content: bytes) -> str:
    return hashlib.sha256(content).hexdigest() if path.endswith(LARGE) else git_hash(content)


@dataclass
class Hub:
    """`with Hub(models=..., datasets=...) as hub:` serves at `hub.endpoint` until the block ends."""

    models: Mapping[str, Sequence[Repository]] = field(default_factory=dict)  # the commits of each, newest first
    datasets: Mapping[str, Sequence[Repository]] = field(default_factory=dict)
    token: str | None = None  # who comes with another one is refused
    asked: list[str] = field(default_factory=list)  # method and path of every request
    unknown: list[str] = field(default_factory=list)
    credentials: list[tuple[str, str]] = field(default_factory=list)  # who was asked (a path), with which Authorization
    heard: list[str] = field(default_factory=list)  # all else of every request: address, headers, body

    def __enter__(self) -> "Hub":
        hub = self

        class Bound(Handler):
            serves = hub

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Bound)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self.thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(timeout=5)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    @property
    def storage(self) -> str:
        """Another host, as far as a client can see: credentials must not follow there."""
        return f"http://localhost:{self.server.server_address[1]}"

    def commits(self, kind: str, name: str) -> Sequence[Repository]:
        return (self.datasets if kind == "dataset" else self.models).get(name, ())

    def stored(self, tag: str) -> bytes:
        """A large file by its hash."""
        kept = (repository for commits in (*self.models.values(), *self.datasets.values()) for repository in commits)
        return next(content for of in kept for path, content in of.files.items() if etag(path, content) == tag)


class Handler(BaseHTTPRequestHandler):
    """One request. Addresses: `/api/<kind>s/<name>/...`, `[/datasets]/<name>/resolve/<revision>/<path>`, `/storage/<hash>`."""

    serves: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        return

    def do_HEAD(self) -> None:
        self._route()

    def do_GET(self) -> None:
        self._route()

    def do_POST(self) -> None:
        self._route()

    def _route(self) -> None:
        hub = self.serves
        address = urlsplit(self.path)
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        hub.asked.append(f"{self.command} {unquote(address.path)}")
        token = self.headers["Authorization"]
        if token is not None:
            hub.credentials.append((unquote(address.path), token))
            del self.headers["Authorization"]
        hub.heard.append(f"{unquote(self.path)}\n{self.headers}\n{self.body.decode(errors='replace')}")
        parts = [unquote(part) for part in address.path.strip("/").split("/")]
        if parts == [""]:
            self._send(HTTPStatus.OK, b"a hub")
        elif hub.token is not None and token not in (None, f"Bearer {hub.token}"):
            why = "Invalid credentials in Authorization header"
            self._send(HTTPStatus.UNAUTHORIZED, json.dumps({"error": why}).encode(), {"X-Error-Message": why})
        elif parts == ["api", "agent-harnesses"]:  # best-effort telemetry: an empty list
            self._json({"harnesses": {}})
        elif parts[0] == "api" and len(parts) > 3 and parts[1] in PLURAL:
            self._api(PLURAL[parts[1]], "/".join(parts[2:4]), parts[4:], parse_qs(address.query))
        elif parts[0] == "storage":
            self._send(HTTPStatus.OK, hub.stored(parts[1]), {"ETag": f'"{parts[1]}"'})
        elif "resolve" in parts:
            kind, rest = ("dataset", parts[1:]) if parts[0] == "datasets" else ("model", parts)
            at = rest.index("resolve")
            self._resolve(kind, "/".join(rest[:at]), rest[at + 1], "/".join(rest[at + 2 :]))
        else:
            hub.unknown.append(f"{self.command} {self.path}")
            self._send(HTTPStatus.NOT_FOUND, b"not found")

    def _found(self, kind: str, name: str, revision: str) -> Repository | None:
        """The repository, when it has that revision; otherwise the answer has been given."""
        commits = self.serves.commits(kind, name)
        results = next((one for one in commits if revision in ("main", one.commit)), None)
        if not commits:
            self._send(HTTPStatus.UNAUTHORIZED, b"Repository not found", {"X-Error-Code": "RepoNotFound"})
        elif results is None:
            self._send(HTTPStatus.NOT_FOUND, b"Invalid rev id", {"X-Error-Code": "RevisionNotFound"})
        return results

    def _api(self, kind: str, name: str, rest: list[str], query: Mapping[str, list[str]]) -> None:
        verb, revision = (rest[0], rest[1]) if len(rest) > 1 else ("revision", "main")
        repository = self._found(kind, name, revision)
        if repository is None:
            return
        if verb == "revision":
            siblings = [{"rfilename": path} for path in repository.files]
            self._json({"id": name, "sha": repository.commit, "siblings": siblings, "tags": [], "private": False})
        elif verb == "tree":
            self._json(repository.tree("/".join(rest[2:]), query.get("recursive", ["False"])[0].lower() == "true"))
        elif verb == "paths-info":
            asked = json.loads(self.body) if self.body.startswith(b"{") else parse_qs(self.body.decode())
            paths = asked.get("paths", [])
            known = {*repository.files, *repository.folders()}
            self._json([repository.entry(path) for path in paths if path in known])
        else:
            self.serves.unknown.append(f"{self.command} {self.path}")
            self._send(HTTPStatus.NOT_FOUND, b"not found")

    def _resolve(self, kind: str, name: str, revision: str, path: str) -> None:
        repository = self._found(kind, name, revision)
        if repository is None:
            return
        known = {"X-Repo-Commit": repository.commit}
        hub, content = self.serves, repository.files.get(path)
        if content is None:
            self._send(HTTPStatus.NOT_FOUND, b"Entry not found", {**known, "X-Error-Code": "EntryNotFound"})
        elif path.endswith(LARGE):
            tag = etag(path, content)
            known |= {"X-Linked-Etag": f'"{tag}"', "X-Linked-Size": str(len(content))}
            self._send(HTTPStatus.FOUND, b"", {**known, "Location": f"{hub.storage}/storage/{tag}"})
        else:
            self._send(HTTPStatus.OK, content, {**known, "ETag": f'"{etag(path, content)}"'})

    def _json(self, answer: object) -> None:
        self._send(HTTPStatus.OK, json.dumps(answer).encode(), {"Content-Type": "application/json"})

    def _send(self, status: HTTPStatus, content: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
