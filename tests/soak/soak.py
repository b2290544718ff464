"""Runs that are stopped or killed and continued, compared bit for bit with ones that are not: `make soak KILLS=n SEED=s`.

A trial runs a command that is ended one to three times by drawn cases (`cases`), each time continued by the same command, and
at last to its end. Then it looks for differences from the undisturbed run, processes left behind and half files.
"""

import argparse
import random
import shutil
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from cases import (
    EVALUATED,
    HARDWARE,
    KINDS,
    METHODS,
    MOMENTS,
    SAME_BITS,
    SIGNALS,
    Case,
    Deck,
    Trace,
    command,
    faults_of,
    possible,
    with_surroundings,
)
from comparison import differences
from faults import Faults
from workspace import Workspace

SECONDS = 240  # for one command
EXIT_CODES = {"INT": (130,), "TERM": (143,), "HUP": (143,), "USR1": (143,)}
SHOWN = 6  # problems
TEXT = "The cat sat on the mat. It was a cat that sat; the mat was red.\n"


@dataclass
class Shown:
    """A case that was shown: the exit code, the seconds from the signal to the end."""

    case: Case
    seconds: float
    number: int
    problems: list[str] = field(default_factory=list)


class Harness:
    """Trials in one workspace; undisturbed runs are made once."""

    def __init__(self, workspace: Workspace, seed: int) -> None:
        self.workspace, self.seed = workspace, seed
        self.references: dict[tuple[str, str], tuple[Path, Trace]] = {}

    def reference(self, kind: str, hardware: str) -> tuple[Path, Trace]:
        """The folder and the calls of an undisturbed run."""
        hardware = SAME_BITS.get(hardware, hardware)
        if (kind, hardware) not in self.references:
            name = f"{kind}-{hardware}-reference"
            trace = self.workspace.folder / f"{name}.trace"
            trace.unlink(missing_ok=True)
            shutil.rmtree(self.workspace.folder / name, ignore_errors=True)
            words = self.command(kind, hardware)
            faults = Faults(methods=METHODS, trace=str(trace))
            process = self.workspace.start(words, name, faults)
            if self.workspace.finish(process, name, SECONDS):
                raise RuntimeError(f"{name}: the undisturbed run failed, see {self.workspace.folder / name}.log")
            self.references[kind, hardware] = self.workspace.run_folder(name), Trace(trace)
        return self.references[kind, hardware]

    def command(self, kind: str, hardware: str) -> str:
        files = {}
        if kind in EVALUATED:
            files = {"text": self.workspace.folder / "held.txt", "weights": self.reference("clm", "cpu")[0]}
            files["text"].write_text(TEXT * 40, encoding="utf-8")
        return command(kind, hardware, files)

    def trial(self, number: int, deck: Deck) -> list[Shown]:
        """One to three cases on one run; what was wrong stands with each of them."""
        first = deck.draw()
        cases = [first, *(deck.draw(first.kind, first.hardware) for _ in range(deck.generator.choice((0, 1, 1, 2))))]
        cases.sort(key=lambda case: list(MOMENTS).index(case.moment))
        outputs = f"{first.kind}-{first.hardware}-{self.seed}-{number}"
        shutil.rmtree(self.workspace.folder / outputs, ignore_errors=True)
        (self.workspace.folder / f"{outputs}.log").unlink(missing_ok=True)
        expected, trace = self.reference(first.kind, first.hardware)
        shown = []
        for index, case in enumerate(cases):
            faults = faults_of(case, trace, 1 / (len(cases) - index), deck.generator)
            marker = self.workspace.folder / f"{outputs}.{index}"
            marker.unlink(missing_ok=True)
            if faults is not None:
                faults = with_surroundings(replace(faults, marker=str(marker)), deck.generator)
                if (result := self._attempt(case, faults, outputs)) is not None:
                    shown.append(result)
                    continue
            deck.put_back(case)
        problems = self._end(self.command(first.kind, first.hardware), outputs, expected)
        for each in shown:
            each.problems += problems
        text = "; ".join(f"{each.case} ({each.number}, {each.seconds:.1f} s)" for each in shown)
        all_problems = sorted({problem for each in shown for problem in each.problems})
        more = f" and {len(all_problems) - SHOWN} more" if len(all_problems) > SHOWN else ""
        print(
            f"{outputs}: {text or 'nothing came'}: {'; '.join(all_problems[:SHOWN]) or 'identical'}{more}", flush=True
        )
        if not all_problems:
            shutil.rmtree(self.workspace.folder / outputs)
        return shown

    def _attempt(self, case: Case, faults: Faults, outputs: str) -> Shown | None:
        """Start the command, which the faults end; None where it came to its end."""
        process = self.workspace.start(self.command(case.kind, case.hardware), outputs, faults)
        marker = Path(faults.marker)
        try:
            code = self.workspace.finish(process, outputs, SECONDS)
        except TimeoutError as error:
            return Shown(case, SECONDS, -9, [str(error)])
        ended_at = time.time()
        if not marker.exists():
            return None
        shown = Shown(case, ended_at - marker.stat().st_mtime, code)
        is_finished = code == 0 and any(
            (self.workspace.folder / outputs).rglob("result.json")
        )  # it came in the last step
        if case.name != "KILL" and code not in EXIT_CODES[case.name] and not is_finished:
            shown.problems.append(f"exit code {code} after {case}")
        if left := self.workspace.orphans(process):
            shown.problems.append(f"{len(left)} processes left")
        if (pattern := "Traceback") in (self.workspace.folder / f"{outputs}.log").read_text(encoding="utf-8"):
            shown.problems.append(pattern)
        return shown

    def _end(self, words: str, outputs: str, expected: Path) -> list[str]:
        """Give the same command once more; what is wrong with the run then."""
        process = self.workspace.start(words, outputs, Faults())
        try:
            code = self.workspace.finish(process, outputs, SECONDS)
        except TimeoutError as error:
            return [f"the same command: {error}"]
        if code:
            return [f"the same command failed: exit code {code}"]
        problems = differences(expected, self.workspace.run_folder(outputs))
        return problems + [f"half file: {path.name}" for path in (self.workspace.folder / outputs).rglob("*.part")]


def soak(folder: Path, kills: int, seed: int, kinds: Sequence[str], hardware: Sequence[str]) -> list[Shown]:
    """Show so many cases; returns them."""
    harness = Harness(Workspace(folder), seed)
    deck = Deck(possible(kinds, hardware), random.Random(seed))
    shown: list[Shown] = []
    trials = 0
    while len(shown) < kills:
        shown += harness.trial(trials, deck)
        trials += 1
    return shown


def table(shown: Sequence[Shown]) -> str:
    """Signals by each property, how many of them ended in the same bits, and the longest time from a signal to the end."""
    lines = [f"{'':24}{'signals':>8}{'identical':>11}{'longest':>10}"]
    axes = {"kind": KINDS, "hardware": HARDWARE, "moment": MOMENTS, "name": SIGNALS}
    for axis, values in axes.items():
        for value in values:
            if of_value := [each for each in shown if getattr(each.case, axis) == value]:
                lines.append(_row(value, of_value))
        lines.append("")
    return "\n".join([*lines, _row("all", shown)])


def _row(name: str, shown: Sequence[Shown]) -> str:
    identical, longest = sum(not each.problems for each in shown), max(each.seconds for each in shown)
    return f"{name:24}{len(shown):8}{identical:11}{longest:8.1f} s"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kinds", nargs="*", choices=KINDS, default=list(KINDS))
    parser.add_argument("--hardware", nargs="*", choices=HARDWARE, default=list(HARDWARE))
    parser.add_argument("--folder", type=Path, required=True, help="for runs; those without differences are removed")
    options = parser.parse_args()
    begun_at = time.monotonic()
    shown = soak(options.folder, options.kills, options.seed, options.kinds, options.hardware)
    print(f"\n{table(shown)}\n{time.monotonic() - begun_at:.0f} s")
    problems = Counter(problem for each in shown for problem in each.problems)
    for problem, count in problems.most_common(SHOWN):
        print(f"{count} times: {problem}")
    if problems:
        print(f"again: make soak KILLS={options.kills} SEED={options.seed}; runs that differ are in {options.folder}")
    return 1 if problems else 0


if __name__ == "__main__":
    raise SystemExit(main())
