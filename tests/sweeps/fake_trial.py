"""Stands in for train.py: writes a run's files within milliseconds, and fails, waits or is slow where its overrides say so.

lr=0.1          the score, at each of 4 validations and at the end
fails=full      exit code 5
fails=nan       exit code 4 with an error line; killed: SIGKILL; text: a traceback; absent: no score; once: only the first time
wait=1          waits before the last validation until TERM comes, or until the file `go` exists
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

from protoformer.distributed.children import end_with_named_parent

end_with_named_parent()
values = dict(word.split("=", 1) for word in sys.argv[1:])
folder = (
    Path(values["paths.outputs"]) / "runs" / "-".join(f"{k}-{v}" for k, v in sorted(values.items()) if "." not in k)
)
folder.mkdir(parents=True, exist_ok=True)
with (folder / "starts").open("a") as starts:
    starts.write(f"{os.getpid()}\n")
print("overrides", *sys.argv[1:])


def stop(*_: object) -> None:
    print("error: stopped at step 30; the same command continues from there", file=sys.stderr)
    raise SystemExit(143)


signal.signal(signal.SIGTERM, stop)
fails = values.get("fails", "no")
if fails == "once":
    fails = "nan" if len((folder / "starts").read_text().splitlines()) == 1 else "no"
if fails == "nan":
    print("error: the loss is not finite at step 3", file=sys.stderr)
    raise SystemExit(4)
if fails == "full":
    print("error: x: no space left; make room, and the same command continues", file=sys.stderr)
    raise SystemExit(5)
if fails == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
if fails == "text":
    raise RuntimeError("no kernel image")
score = float(values["lr"])
metrics = folder / "metrics.jsonl"
with metrics.open("a") as log:
    for step in (10, 20, 30, 40):
        if step == 40 and values.get("wait") == "1" and not (go := Path(values["paths.outputs"]) / "go").exists():
            while not go.exists():
                time.sleep(0.01)
        log.write(json.dumps({"step": step, "val/score": score}) + "\n")
        log.flush()
        time.sleep(float(values.get("slow", "0")))
scores = {} if fails == "absent" else {"val/score": score}
result = {
    "run_id": "r",
    "model": "m",
    "task": "t",
    "metrics": scores,
    "score": scores.get("val/score"),
    "finished": "today",
}
(folder / "result.json").write_text(json.dumps(result))
