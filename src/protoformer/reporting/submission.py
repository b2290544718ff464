"""Submission file of the GLUE server, a zip (gluebenchmark.com, FAQ).

The zip has one tab-separated file for each test set, with the header `index`, `prediction`. Classes are written as 0 and 1, or
as label names for inference tasks; the similarity of STS-B is a number. The server rejects a zip with missing files.
"""

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from protoformer.atomic import replace_atomically
from protoformer.errors import RunFolderError, UserError
from protoformer.runs import reader

NLI_LABELS = ("entailment", "neutral", "contradiction")
BINARY_NLI_LABELS = ("entailment", "not_entailment")
MAX_SIMILARITY = 5.0  # of STS-B, from 0


@dataclass(frozen=True)
class Sheet:
    """One file of the zip: task and split, format of the predictions, number of rows of the official test set."""

    name: str
    task: str
    stage: str
    rows: int
    form: Literal["index", "word", "similarity"]
    fill: str  # constant prediction if there is no run
    words: tuple[str, ...] = ()  # label names that the server accepts


SHEETS = (
    Sheet("CoLA.tsv", "glue/cola", "test", 1063, "index", "1"),
    Sheet("SST-2.tsv", "glue/sst2", "test", 1821, "index", "1"),
    Sheet("MRPC.tsv", "glue/mrpc", "test", 1725, "index", "1"),
    Sheet("STS-B.tsv", "glue/stsb", "test", 1379, "similarity", "2.500"),
    Sheet("QQP.tsv", "glue/qqp", "test", 390965, "index", "0"),
    Sheet("MNLI-m.tsv", "glue/mnli", "test_matched", 9796, "word", "entailment", NLI_LABELS),
    Sheet("MNLI-mm.tsv", "glue/mnli", "test_mismatched", 9847, "word", "entailment", NLI_LABELS),
    Sheet("QNLI.tsv", "glue/qnli", "test", 5463, "word", "entailment", BINARY_NLI_LABELS),
    Sheet("RTE.tsv", "glue/rte", "test", 3000, "word", "entailment", BINARY_NLI_LABELS),
    Sheet("WNLI.tsv", "glue/wnli", "test", 146, "index", "0"),
    Sheet("AX.tsv", "glue/ax", "test", 1104, "word", "entailment", NLI_LABELS),
)


def main(runs: Sequence[str], out: str = "submission.zip", partial: bool = False, fill: bool = False) -> Path:
    """Write the zip from the test predictions of finished runs, one run per task, and print its contents.

    `partial` writes an incomplete zip; `fill` writes a constant prediction for missing tasks. Raises UserError for missing
    tasks, and for a number of rows that differs from the official test set (a warning with `partial`).
    """
    chosen = _by_task(runs)
    missing = [sheet for sheet in SHEETS if sheet.task not in chosen]
    if missing and not (partial or fill):
        names = ", ".join(dict.fromkeys(sheet.task for sheet in missing))
        raise UserError(
            f"no run for {names}; the GLUE server rejects a zip without {', '.join(sheet.name for sheet in missing)}: "
            "add their runs, or use --fill (a constant prediction) or --partial (an incomplete zip)"
        )
    files: dict[str, list[str]] = {}
    for sheet in SHEETS:
        if sheet.task in chosen:
            files[sheet.name] = _answers(sheet, chosen[sheet.task])
            if len(files[sheet.name]) != sheet.rows and not partial:
                raise UserError(
                    f"{chosen[sheet.task].folder}: {_row_mismatch(sheet, len(files[sheet.name]))}; the server "
                    "rejects such a file: predict the official test set, or use --partial"
                )
        elif fill:
            files[sheet.name] = [sheet.fill] * sheet.rows
    path = Path(out)
    _write(path, files)
    for sheet in SHEETS:
        print(_summary(sheet, files.get(sheet.name), chosen.get(sheet.task)))
    print(
        f"{path}: {len(files)} of {len(SHEETS)} files"
        + (" (the server will reject it)" if len(files) < len(SHEETS) else "")
    )
    return path


def _by_task(runs: Sequence[str]) -> dict[str, reader.Record]:
    """The run of each task. Raises UserError for unfinished runs, runs of other tasks, and two runs of one task."""
    tasks = {sheet.task for sheet in SHEETS}
    chosen: dict[str, reader.Record] = {}
    if not runs:
        raise UserError("no run given: protoformer submission glue RUN...")
    for run in runs:
        record = reader.read(Path(run))
        if record.result is None:
            raise RunFolderError(f"{run} is not finished: repeat its command")
        if record.task not in tasks:
            raise UserError(f"{run} is a run of {record.task}, which is not a GLUE task: {', '.join(sorted(tasks))}")
        if record.task in chosen:
            raise UserError(
                f"two runs of {record.task}: {chosen[record.task].folder} and {run}; name only the one to submit"
            )
        chosen[record.task] = record
    return chosen


def _answers(sheet: Sheet, record: reader.Record) -> list[str]:
    """A run's predictions in the format of the server, in row order."""
    file = record.folder / "predictions" / f"{sheet.stage}.jsonl"
    if not file.exists():
        raise RunFolderError(f"{record.folder} has no test predictions: no predictions/{file.name}")
    rows = reader.read_predictions(file)
    if not rows:
        raise RunFolderError(f"{file} is empty")
    wrong = next((index for index, row in enumerate(rows) if row["id"] != index), None)
    if wrong is not None:
        raise RunFolderError(f"{file}, line {wrong + 1}: its id is not {wrong}: a test row has no prediction, or two")
    labels = [str(label) for label in ((record.config.get("task") or {}).get("rows") or {}).get("labels") or ()]
    unknown = sorted(set(labels) - set(sheet.words)) if sheet.form == "word" else []
    if unknown:
        raise UserError(
            f"{record.folder}: {sheet.name} cannot hold {', '.join(unknown)}; the server accepts {', '.join(sheet.words)}"
        )
    return [_answer(sheet, labels, row, file) for row in rows]


def _answer(sheet: Sheet, labels: Sequence[str], row: Mapping[str, Any], file: Path) -> str:
    prediction = row["prediction"]
    if sheet.form == "similarity":
        if not isinstance(prediction, int | float) or prediction != prediction:
            raise RunFolderError(f"{file}, line {row['id'] + 1}: predicts {prediction!r}, which is not a number")
        return f"{min(max(float(prediction), 0.0), MAX_SIMILARITY):.3f}"
    if prediction not in labels:
        raise RunFolderError(
            f"{file}, line {row['id'] + 1}: predicts {prediction!r}; the run's labels are {', '.join(labels)}"
        )
    return str(labels.index(prediction)) if sheet.form == "index" else str(prediction)


def _write(path: Path, files: Mapping[str, Sequence[str]]) -> None:
    """Write the zip atomically; equal predictions give equal bytes."""
    with replace_atomically(path) as tmp, zipfile.ZipFile(tmp, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, answers in files.items():
            lines = ["index\tprediction", *(f"{index}\t{answer}" for index, answer in enumerate(answers))]
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = 0o644 << 16
            archive.writestr(info, "\n".join(lines) + "\n")


def _summary(sheet: Sheet, answers: Sequence[str] | None, record: reader.Record | None) -> str:
    if answers is None:
        return f"{sheet.name:12} missing: no run of {sheet.task}"
    if record is None:
        return f"{sheet.name:12} {len(answers):>7,} rows, all {sheet.fill}: no run of {sheet.task}"
    line = f"{sheet.name:12} {len(answers):>7,} rows from {record.folder}"
    if len(answers) != sheet.rows:
        line += f"\nwarning: {_row_mismatch(sheet, len(answers))}"
    return line


def _row_mismatch(sheet: Sheet, rows: int) -> str:
    return f"{sheet.name} has {rows:,} rows, the official test set {sheet.rows:,}"
