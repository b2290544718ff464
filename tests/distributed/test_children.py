"""A child of a run that was killed ends with it, and says nothing of the connection that broke."""

import subprocess
import sys

import pytest

CHILD = """
import os, sys, threading
from protoformer.distributed.children import end_with_run
end_with_run(int(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
try:
    raise ConnectionResetError("the other end is gone")
except ConnectionResetError:
    sys.excepthook(*sys.exc_info())
"""


@pytest.mark.parametrize("is_killed", [True, False])
def test_a_broken_connection_is_reported_where_the_run_goes_on(is_killed: bool) -> None:
    with subprocess.Popen(["sleep", "60"]) as run:
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(run.pid)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        if is_killed:
            run.kill()
        _, errors = child.communicate("\n", timeout=20)
        run.kill()
    assert errors == "" if is_killed else "ConnectionResetError: the other end is gone" in errors
    assert child.returncode == (1 if is_killed else 0)
