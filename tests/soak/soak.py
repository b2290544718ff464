"""Runs that are killed at random and continued, compared bit for bit with ones that are not: `make soak TRIALS=n SEED=s`.

A trial draws a kind of run, its ranks and data workers, one or two faults (a signal at a random moment to one process or to the
whole group; SIGKILL at a named call, such as the renaming of a checkpoint), and sometimes another clock or a slow disk. It then
gives the same command until it ends, and looks for differences, processes left behind and half files.
"""

import argparse
import os
import random
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from comparison import differences
from faults import VARIABLE, Faults

SECONDS = 300  # for one command
ORPHAN_SECONDS = 10  # for all processes of a killed run to end
MARK = "PROTOFORMER_SOAK"
BERT = "model=bert_l2_h128 model.d_model=32 model.n_heads=2 model.d_ff=64"
COMMON = (
    "source=sample tracking=none trainer.keep_optimizer=true trainer.log_every=1 hardware.threads=1 hardware.grace=30"
)
KINDS = {  # dropout stays on: the states of random generators are part of a checkpoint
    "classification": f"{BERT} task=glue/mrpc source.rows=200 init_from=scratch recipe.epochs=3 recipe.batch_size=16 "
    "task.max_len=32 recipe.lr=3e-3 trainer.val_check_interval=9 trainer.checkpoint_every=4",
    "clm": "model=gpt2_tiny model.d_model=32 model.d_ff=64 task=pretrain/clm task.max_len=64 recipe.max_steps=60 "
    "recipe.batch_size=8 trainer.val_check_interval=17 trainer.checkpoint_every=5",
    "mlm_nsp": f"{BERT} task=pretrain/mlm_nsp task.max_len=256 recipe.max_steps=60 recipe.batch_size=8 recipe.lr=1e-3 "
    "recipe.warmup=10 trainer.val_check_interval=17 trainer.checkpoint_every=5",
    "translation": "model=transformer_tiny model.d_model=32 task=translate/multi30k_en_de source.rows=120 recipe.epochs=3 "
    "recipe.batch_size=500 recipe.average=3 trainer.checkpoint_every=3",
}
HARDWARE = {
    "cpu": "",
    "workers": "hardware.workers=2",
    "ddp": "hardware=ddp_cpu",
    "ddp_workers": "hardware=ddp_cpu hardware.workers=2",
}
POINTS = (  # os function, part of the path, largest number to draw
    ("link", "lock", 1), ("unlink", "lock", 2), ("fsync", "last.ckpt", 6), ("replace", "last.ckpt", 6),
    ("replace", "best.ckpt", 2), ("replace", "predictions", 1), ("replace", "result.json", 1), ("fsync", "", 20),
    ("replace", "", 20), ("unlink", "step-", 3), ("replace", "averaged.ckpt", 1), ("replace", "card.md", 1),
)  # fmt: skip
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def default_signals() -> None:
    """In a new process: it takes signals that this one may ignore, as a background job or below nohup."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


class Workspace:
    """A folder with a cache; each command runs in a session of its own, and its processes carry a mark."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.mark = folder, secrets.token_hex(8)
        folder.mkdir(parents=True, exist_ok=True)

    def start(self, command: str, outputs: str, faults: Faults) -> subprocess.Popen[bytes]:
        environ = {
            **os.environ,
            "PROTOFORMER_OUTPUTS": str(self.folder / outputs),
            "PROTOFORMER_CACHE": str(self.folder / "cache"),
            "OMP_NUM_THREADS": "1",
            MARK: self.mark,
            VARIABLE: faults.to_variable(),
        }
        with (self.folder / f"{outputs}.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, str(Path(__file__).with_name("child.py")), *command.split()],
                env=environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                preexec_fn=default_signals,
            )  # fmt: skip

    def processes(self) -> list[int]:
        """Living processes of this workspace."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                alive = (entry / "stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
                if alive and f"{MARK}={self.mark}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
            except OSError:
                continue
        return found

    def orphans(self) -> list[int]:
        """Processes that are still there some seconds after their command; they are ended."""
        deadline = time.monotonic() + ORPHAN_SECONDS
        while (left := self.processes()) and time.monotonic() < deadline:
            time.sleep(0.1)
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        return left

    def run_folder(self, outputs: str) -> Path:
        (folder,) = {file.parent for file in (self.folder / outputs).rglob("config.yaml")}
        return folder


def interrupt(workspace: Workspace, process: subprocess.Popen[bytes], generator: random.Random, seconds: float) -> str:
    """A signal at a random moment to one process, or to the group; says what was done."""
    number = generator.choice(SIGNALS)
    target = generator.choice(("command", "group", "any"))
    moment = generator.uniform(0.05, 1.0) * seconds
    try:
        process.wait(timeout=moment)
        return "ended before the signal"
    except subprocess.TimeoutExpired:
        pids = sorted(workspace.processes())
    if target == "group":
        os.killpg(process.pid, number)
    else:
        victim = process.pid if target == "command" or number != signal.SIGKILL else generator.choice(pids)
        try:
            os.kill(victim, number)
        except ProcessLookupError:
            return "ended before the signal"
    return f"{signal.Signals(number).name} to {target} after {moment:.1f} s"


@dataclass(frozen=True)
class Trial:
    """A command with faults in its first attempts; `reference` is the folder of an undisturbed run, which took `seconds`."""

    workspace: Workspace
    outputs: str
    command: str
    reference: Path
    seconds: float

    def run(self, generator: random.Random) -> list[str]:
        """What was wrong; prints what was done."""
        attempts = [self._attempt(number, generator) for number in range(generator.choice((1, 1, 2)))]
        done, wrong = [text for text, _ in attempts], [problem for _, problems in attempts for problem in problems]
        process = self.workspace.start(self.command, self.outputs, Faults())
        if process.wait(timeout=SECONDS):
            wrong.append(f"the same command failed: exit {process.returncode}")
        else:
            wrong += differences(self.reference, self.workspace.run_folder(self.outputs))
        wrong += [f"half file: {path.name}" for path in self.workspace.folder.rglob("*.part")]
        print(f"{self.outputs}: {'; '.join(done)}: {'; '.join(wrong) or 'equal'}", flush=True)
        return wrong

    def _attempt(self, number: int, generator: random.Random) -> tuple[str, list[str]]:
        """Start the command with faults; says what was done, and what was wrong."""
        clock = generator.choice((0.0, 0.0, -3600.0, 3600.0))
        faults = Faults(clock=clock, fsync_seconds=generator.choice((0.0, 0.0, 0.05)))
        if generator.random() < 0.5:
            marker = self.workspace.folder / f"{self.outputs}.{number}"
            call, path, largest = generator.choice(POINTS)
            nth, before = generator.randint(1, largest), generator.random() < 0.5
            faults = replace(faults, call=call, path=path, nth=nth, before=before, marker=str(marker))
            process = self.workspace.start(self.command, self.outputs, faults)
            process.wait(timeout=SECONDS)
            done = f"SIGKILL at {call} {path}#{nth}" if marker.exists() else f"{call} {path}#{nth} did not come"
        else:
            process = self.workspace.start(self.command, self.outputs, faults)
            done = interrupt(self.workspace, process, generator, self.seconds)
            process.wait(timeout=SECONDS)
        surroundings = f"{', clock' if faults.clock else ''}{', slow disk' if faults.fsync_seconds else ''}"
        left = self.workspace.orphans()
        return f"{done} (exit {process.returncode}{surroundings})", [f"left: {len(left)} processes"] if left else []


def soak(folder: Path, trials: int, seed: int, kinds: Sequence[str], hardware: Sequence[str]) -> Counter[str]:
    """Run trials; returns how many ended equal, and how many in which way otherwise."""
    generator, workspace = random.Random(seed), Workspace(folder)
    seconds: dict[str, float] = {}
    counts: Counter[str] = Counter()
    for number in range(trials):
        kind, where = generator.choice(kinds), generator.choice(hardware)
        name, command = f"{kind}-{where}", f"{KINDS[kind]} {COMMON} {HARDWARE[where]}"
        reference = f"{name}-reference"
        if name not in seconds:
            begun_at = time.monotonic()
            if workspace.start(command, reference, Faults()).wait(timeout=SECONDS):
                raise RuntimeError(f"{name}: the undisturbed run failed, see {folder / reference}.log")
            seconds[name] = time.monotonic() - begun_at
        outputs = f"{name}-{seed}-{number}"
        trial = Trial(workspace, outputs, command, workspace.run_folder(reference), seconds[name])
        wrong = trial.run(generator)
        counts.update({text.split(":")[0] for text in wrong} or {"equal"})
        if not wrong:
            shutil.rmtree(folder / outputs)
    return counts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kinds", nargs="*", choices=KINDS, default=list(KINDS))
    parser.add_argument("--hardware", nargs="*", choices=HARDWARE, default=list(HARDWARE))
    parser.add_argument("--folder", type=Path, required=True, help="for runs; equal ones are removed")
    options = parser.parse_args()
    counts = soak(options.folder, options.trials, options.seed, options.kinds, options.hardware)
    print(f"{options.trials} trials: " + ", ".join(f"{count} {what}" for what, count in counts.most_common()))
    return 0 if set(counts) <= {"equal"} else 1


if __name__ == "__main__":
    raise SystemExit(main())
