"""Python programs that start with their imports done: a server imports torch and Lightning once, and forks for each program.

A fresh interpreter takes four to five seconds until it trains, a fork a tenth of that. Each program has its own working
directory, environment, standard streams and signal handlers, and is `__main__`. What a fork cannot show stays with fresh
interpreters: what is said, and which signals are taken, while it imports.
"""

import atexit
import contextlib
import fcntl
import functools
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

MESSAGE_BYTES = 2**18
LIBRARIES = ("torch._dynamo", "lightning.pytorch", "matplotlib.figure", "pyarrow.parquet", "tokenizers", "hydra")
READ_THE_ENVIRONMENT = "huggingface_hub"  # when they are imported


class Process:
    """A forked program, with the methods of `subprocess.Popen` that tests use."""

    def __init__(
        self, arguments: Sequence[str], folder: Path, environ: Mapping[str, str], server: socket.socket
    ) -> None:
        self.args = list(arguments)
        self.returncode: int | None = None
        self._out, self._err = (open(os.memfd_create(name), "w+", encoding="utf-8") for name in ("out", "err"))  # noqa: SIM115
        self._status, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        request = json.dumps({"arguments": self.args, "folder": str(folder), "environ": dict(environ)}).encode()
        with theirs:
            socket.send_fds(server, [request], [self._out.fileno(), self._err.fileno(), theirs.fileno()])
        self.pid = int(self._status.recv(64))

    def poll(self) -> int | None:
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            if not select.select([self._status], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            self.returncode = os.waitstatus_to_exitcode(int(self._status.recv(64)))
            self._status.close()
        return self.returncode

    def printed(self) -> str:
        """Standard output so far."""
        return os.pread(self._out.fileno(), os.fstat(self._out.fileno()).st_size, 0).decode()

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        self.wait(timeout)
        texts = []
        for file in (self._out, self._err):
            file.seek(0)
            texts.append(file.read())
            file.close()
        return texts[0], texts[1]

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def start(arguments: Sequence[str], folder: Path, environ: Mapping[str, str], modules: Sequence[str] = ()) -> Process:
    """Run a Python file with its arguments; `modules` are imported beforehand, besides the libraries."""
    return Process(arguments, folder, environ, _server(tuple(modules)))


@functools.cache
def _server(modules: tuple[str, ...]) -> socket.socket:
    """A server, which ends with this process; with modules it is forked from the one without."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MESSAGE_BYTES)
    if modules:
        with theirs:
            socket.send_fds(_server(()), [json.dumps({"modules": modules}).encode()], [theirs.fileno()])
        return ours
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "WANDB_", "PROTOFORMER_"))}
    with theirs:
        server = subprocess.Popen(
            [sys.executable, __file__, str(theirs.fileno())],
            env={**kept, "OMP_NUM_THREADS": "1"}, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def end() -> None:
        ours.close()
        server.wait()

    atexit.register(end)
    return ours


def _serve(requests: socket.socket) -> dict[str, Any] | None:
    """Fork for each request, of a program or of a server; returns it in the child, and None when no more can come."""
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(write_end)
    replies: dict[int, socket.socket] = {}
    while True:
        ready, _, _ = select.select([requests, read_end], [], [])
        if read_end in ready:
            os.read(read_end, 256)
            while replies:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if not pid:
                    break
                if pid not in replies:  # a server's
                    continue
                with replies.pop(pid) as reply, contextlib.suppress(OSError):  # a test that failed waits no more
                    reply.send(str(status).encode())
        if requests in ready:
            request, descriptors, _, _ = socket.recv_fds(requests, MESSAGE_BYTES, 3)
            if not request:
                return None
            given = json.loads(request)
            pid = os.fork()
            if not pid:
                signal.set_wakeup_fd(-1)
                above = max(*descriptors, requests.fileno(), read_end, write_end) + 1
                if "modules" in given:
                    given["requests"] = fcntl.fcntl(descriptors[0], fcntl.F_DUPFD, above)
                else:
                    os.dup2(descriptors[0], 1)
                    os.dup2(descriptors[1], 2)
                os.closerange(3, above)
                for other in (*replies.values(), requests):
                    other.detach()
                return given
            if "modules" in given:
                os.close(descriptors[0])
                continue
            out, err, reply_end = descriptors
            os.close(out)
            os.close(err)
            replies[pid] = socket.socket(fileno=reply_end)
            replies[pid].send(str(pid).encode())


def _run(arguments: list[str], folder: str, environ: dict[str, str]) -> None:
    """Become the program."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGUSR1, signal.SIGCHLD):
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environ)
    for name in [name for name in sys.modules if name.partition(".")[0] == READ_THE_ENVIRONMENT]:
        del sys.modules[name]
    sys.argv = arguments
    sys.path[0] = str(Path(arguments[0]).parent)
    code: object = None
    try:
        runpy.run_path(arguments[0], run_name="__main__")
    except SystemExit as end:
        code = end.code
    _end(code)


def _end(code: object) -> NoReturn:
    """As an interpreter ends, but for the freeing of every module: that copies each page, for seconds."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    if not isinstance(code, int | None):
        print(code, file=sys.stderr)
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code or 0)


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGHUP):  # a terminal's are for the tests
        signal.signal(number, signal.SIG_IGN)
    given: dict[str, Any] | None = {"requests": int(sys.argv[1]), "modules": LIBRARIES}
    while given is not None and "modules" in given:
        for name in given["modules"]:
            importlib.import_module(name)
        gc.collect()
        gc.freeze()  # collections in a fork would copy the pages that it shares
        given = _serve(socket.socket(fileno=given["requests"]))
    if given is not None:
        _run(**given)
