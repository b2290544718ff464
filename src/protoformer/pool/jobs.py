"""The jobs of `--multirun` as trials of a pool: finished ones are not started, the others each end as a row."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from protoformer.errors import DiskFullError, InterruptedRunError, RunFolderError
from protoformer.pool.pool import POLL, Pool, RunningTrial, remaining
from protoformer.pool.slots import Slots
from protoformer.pool.words import words_of_trial
from protoformer.runs import reader
from protoformer.runs.digests import code_digest
from protoformer.runs.folder import RunFolder

Status = Literal["not started", "running", "finished", "finished before", "failed", "stopped"]
STOPPED = (InterruptedRunError.exit_code, 130)
FAILED = 1


@dataclass
class PooledJob:
    """A job: its number from 1, its overrides, and what has become of it."""

    number: int
    text: str  # the overrides in which it differs from the others
    words: list[str]  # of its process
    folder: Path
    grace: float
    slots: int
    status: Status = "not started"
    device: str = ""
    seconds: float | None = None
    result: dict[str, Any] | None = None
    error: str = ""
    exit_code: int = 0


@dataclass
class JobTrial(RunningTrial):
    job: PooledJob


def pooled_job(number: int, words: Sequence[str], text: str, config: Mapping[str, Any], slots: Slots) -> PooledJob:
    """Raises ConfigurationError for a job that needs more slots than the pool has."""
    folder = RunFolder.locate(config, force=config["force"])
    job = PooledJob(
        number,
        text,
        words_of_trial(words, config),
        folder.path,
        float(config["hardware"]["grace"]),
        slots.needed(config),
    )
    if folder.state == "finished":
        result = folder.read_result()
        if config["reuse"] or result["digests"]["code"] == code_digest(config):  # else its process says what is wrong
            job.status, job.result = "finished before", result
    return job


class JobPool(Pool[JobTrial]):
    """Runs jobs in their order, each as soon as its slots are free; what they print is in `logs`, a file each."""

    def __init__(
        self,
        jobs: Sequence[PooledJob],
        logs: Path,
        slots: Slots,
        say: Callable[[str], None],
        score_text: Callable[[dict[str, Any]], str],
        poll: float = POLL,
    ) -> None:
        super().__init__(slots, say, poll)
        self.jobs, self.logs, self.score_text = jobs, logs, score_text

    def start_next(self) -> bool:
        taken_folders = {trial.job.folder for trial in self.running}  # of two jobs that are one run the second waits
        for job in self.jobs:
            if job.status == "not started" and job.folder not in taken_folders:
                placement = self.slots.take(job.slots)
                if placement is not None:
                    process = self.start(job.words, self.logs / f"{job.number}.log", job.grace, placement)
                    job.status, job.device = "running", placement.device
                    self.say(f"{self._name(job)}: started")
                    self.begin(JobTrial(process, placement, job))
                    return True
        return False

    def look_at(self, trial: JobTrial) -> None:
        code = trial.process.poll()
        if code is None:
            return
        self.end(trial)
        job = trial.job
        job.seconds, job.exit_code = trial.process.seconds, code if code >= 0 else FAILED
        if code == 0:
            self._finish(job)
        else:
            job.error = trial.process.reason()
            job.status = "stopped" if code in STOPPED or self.is_stopping else "failed"
            if code == DiskFullError.exit_code:
                self.stop_for_full_disk(trial)
        running, queued = (sum(each.status == status for each in self.jobs) for status in ("running", "not started"))
        outcome = job.error or f"score {self.score_text(job.result or {})}"
        log = f"; {trial.process.log_file}" if job.status == "failed" else ""
        left = f"({running} running, {queued} to start)"
        self.say(f"{self._name(job)}: {job.status} in {job.seconds:.0f} s: {outcome}{log} {left}")

    @staticmethod
    def _finish(job: PooledJob) -> None:
        try:
            job.result = reader.read_result(job.folder)
            job.error = "" if job.result else f"{job.folder} has no result.json"
        except RunFolderError as error:
            job.error = str(error)
        job.status = "failed" if job.error else "finished"
        job.exit_code = FAILED if job.error else 0

    def remaining(self) -> str:
        unfinished, queued = (sum(job.status == name for job in self.jobs) for name in ("stopped", "not started"))
        return remaining(unfinished, queued)

    def _name(self, job: PooledJob) -> str:
        return f"trial {job.number}/{len(self.jobs)} on {job.device}: {job.text}"
