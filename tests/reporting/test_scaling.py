"""`protoformer report scaling`: laws of finished runs, predictions and their checks, in-context scores, what is refused."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from protoformer import cli
from protoformer.config.compose import compose
from protoformer.reporting.scaling.points import layer_parameters, read_points
from protoformer.reporting.scaling.prediction import ladder_size
from protoformer.reporting.scaling.scores import report as score_panels
from protoformer.reporting.tables import make_console

WriteRuns = Callable[..., list[str]]
DIGESTS = {"train": "da7a", "validation": "da7a"}


def loss(size: int, tokens: int = 1_024_000) -> float:
    return (8.8e13 / size) ** 0.076 * (tokens / 1_024_000) ** -0.05


@pytest.fixture
def write_runs(write_run: Callable[..., Path]) -> WriteRuns:
    """Runs of the ladder at depths, as a training leaves them; `changes` go over config and result."""

    def write(depths: list[int], steps: int = 1000, tokens_of: str = "", **changes: Any) -> list[str]:
        folders = []
        for depth in depths:
            width, layers = 64 * depth, ladder_size(depth)
            sizes = {"_target_": "protoformer.models.gpt.gpt", "d_model": width, "vocab_size": 2000, "max_seq_len": 128}
            folder = write_run(
                f"depth{depth}-{steps}{tokens_of}",
                model="gpt2_ladder",
                task=changes.get("task", "pretrain/clm"),
                kind="causal_lm",
                sizes=sizes | {"vocab_size": changes.get("vocabulary", 2000)},
                recipe={"batch_size": 8},
                metrics={"val/loss": loss(layers, steps * 1024) * changes.get("times", 1.0), "val/perplexity": 9.0},
            )
            config = (folder / "config.yaml").read_text().replace("kind: classification", "max_len: 128")
            (folder / "config.yaml").write_text(config)
            result = json.loads((folder / "result.json").read_text())
            parameters = layers + (changes.get("vocabulary", 2000) + 128) * width
            result |= {"parameters": parameters, "training": {"steps": steps}}
            result["finished"] = changes.get("finished", "2026-01-02T03:04:05+00:00")
            result["digests"] = {
                "code": "c0de",
                "data": {**DIGESTS, "train": changes.get("data", "da7a")},
                "weights": "0",
            }
            (folder / "result.json").write_text(json.dumps(result))
            folders.append(str(folder))
        return folders

    return write


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert cli.main(["report", "scaling", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def test_a_law_is_fitted_drawn_and_written(write_runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = write_runs([1, 2, 3, 4, 5])
    figure, table = tmp_path / "law.svg", tmp_path / "law.csv"
    assert cli.main(["report", "scaling", *runs, "--figure", str(figure), "--csv", str(table)]) == 0
    out = capsys.readouterr().out
    assert "L = (N_c / N)^alpha: alpha = 0.0760 (95 % interval 0.0760 to 0.0760), N_c = 8.8e+13" in out
    assert "L = E + A / N^alpha" in out
    assert "(used)" in out
    assert "One seed (42)" in out
    rows = list(csv.DictReader(table.open()))
    assert [int(row["layers"]) for row in rows] == [ladder_size(depth) for depth in range(1, 6)]
    assert all(int(row["tokens"]) == 1_024_000 and abs(float(row["residual"])) < 1e-6 for row in rows)
    drawn = figure.read_bytes()
    assert b"band of the law" in drawn or b"<path" in drawn
    assert cli.main(["report", "scaling", *runs, "--figure", str(figure)]) == 0
    assert figure.read_bytes() == drawn


def test_a_prediction_is_recorded_and_checked_by_the_next_run(
    write_runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "prediction.json"
    runs = [*write_runs([1, 3, 4]), *write_runs([2], times=1.01)]
    arguments = [*runs, "--predict", "depth=6", "--record", str(file)]
    assert cli.main(["report", "scaling", *arguments]) == 0
    assert f"Predicted for N = {ladder_size(6):,}" in capsys.readouterr().out
    recorded = json.loads(file.read_text())
    assert recorded["low"] < loss(ladder_size(6)) < recorded["high"]
    assert {run["run_id"] for run in recorded["runs"]} == {f"depth{depth}-1000" for depth in (1, 2, 3, 4)}
    assert "a prediction is not replaced" in refused(arguments, capsys)
    assert "the prediction was made from; give a new run" in refused([*runs, "--check", str(file)], capsys)

    later = write_runs([6], finished="2999-01-01T00:00:00+00:00")
    assert (
        cli.main(["report", "scaling", *runs, *later, "--check", str(file), "--figure", str(tmp_path / "a.png")]) == 0
    )
    out = capsys.readouterr().out
    assert f"\ninside: {later[0]}" in out
    assert "no test" not in out
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"
    worse = write_runs([6], tokens_of="-worse", times=1.2)
    assert cli.main(["report", "scaling", *worse, "--check", str(file)]) == 0
    out = capsys.readouterr().out
    assert f"OUTSIDE: {worse[0]}" in out
    assert "no test: the run finished 2026-01-02" in out
    assert "the prediction is of" in refused([*write_runs([7]), "--check", str(file)], capsys)
    assert "the prediction is of 1,024,000" in refused([*write_runs([6], steps=500), "--check", str(file)], capsys)


def test_losses_over_tokens_of_one_size(write_runs, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [run for steps in (250, 500, 1000) for run in write_runs([3], steps=steps)]
    assert cli.main(["report", "scaling", *runs, "--predict", "2.048e6"]) == 0
    out = capsys.readouterr().out
    assert "loss over tokens read" in out
    assert "L = (D_c / D)^alpha: alpha = 0.0500" in out
    assert f"loss {loss(ladder_size(3), 2_048_000):.4f}" in out
    assert "a depth is a size of model=gpt2_ladder" in refused([*runs, "--predict", "depth=4"], capsys)


def test_runs_that_no_law_goes_through_are_refused_in_one_line(
    write_runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = write_runs([1, 2])
    assert "2 different sizes in parameters; a power law needs at least 3" in refused(runs, capsys)
    assert "1 different size" in refused(runs[:1], capsys)
    others = {"vocabulary": 3000, "data": "beef", "task": "pretrain/ltr"}
    words = {"vocabulary": "vocabulary 3000, but", "data": "digest of the data", "task": "task pretrain/ltr, but"}
    for key, value in others.items():
        other = write_runs([3], tokens_of=f"-{key}", **{key: value})
        assert words[key] in refused([*runs, *other], capsys)
    assert "differ both in parameters and in tokens" in refused([*runs, *write_runs([3], steps=500)], capsys)
    three = [*runs, *write_runs([3])]
    assert "needs at least 5" in refused([*three, "--law", "irreducible"], capsys)
    assert "--predict many: expected a number" in refused([*three, "--predict", "many"], capsys)
    assert "model.depth=0 is out of range" in refused([*three, "--predict", "depth=0"], capsys)
    assert "add --predict" in refused([*three, "--record", str(tmp_path / "a.json")], capsys)
    assert "must end in .svg or .png" in refused([*three, "--figure", "a.gif"], capsys)
    assert "--level 95.0: expected a number between 0 and 1" in refused([*three, "--level", "95"], capsys)
    (tmp_path / "other.json").write_text('{"runs": []}')
    assert "not a prediction of `report scaling`" in refused([*three, "--check", str(tmp_path / "other.json")], capsys)
    assert "no such file" in refused([*three, "--check", str(tmp_path / "none.json")], capsys)


def test_in_context_scores_over_shots_and_size(write_run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scores = {(1, 0): 0.5, (1, 8): 0.55, (3, 0): 0.6, (3, 8): 0.75}
    for (depth, shots), score in scores.items():
        width = 64 * depth
        sizes = {"_target_": "protoformer.models.gpt.gpt", "d_model": width, "vocab_size": 2000, "max_seq_len": 128}
        metrics = {"val/accuracy": score, "val/accuracy_stderr": 0.02, "val/accuracy_spread": 0.01 * shots}
        folder = write_run(
            f"a{depth}-{shots}",
            model="gpt2_ladder",
            task="incontext/copa",
            kind="in_context",
            sizes=sizes,
            metrics=metrics,
        )
        config = (folder / "config.yaml").read_text().replace("kind: classification", f"shots: {shots}")
        (folder / "config.yaml").write_text(config)
        result = json.loads((folder / "result.json").read_text())
        result |= {"parameters": ladder_size(depth) + 2128 * width}
        result["task_type"] = {
            "main_metrics": ["accuracy"],
            "percent_metrics": [],
            "incomplete_data": {},
            "headline": None,
            "free_text": False,
        }
        (folder / "result.json").write_text(json.dumps(result))
    figure = tmp_path / "scores.svg"
    assert cli.main(["report", "scaling", str(tmp_path / "outputs"), "--figure", str(figure)]) == 0
    out = capsys.readouterr().out
    assert "incontext/copa, accuracy" in out
    row = next(line for line in out.splitlines() if f"{ladder_size(3):,}" in line and "0.7500" in line)
    assert [cell.strip() for cell in row.strip("│").split("│")][-3:] == ["0.7500", "0.0800", "0.0200"]
    assert figure.stat().st_size > 10_000
    panels = score_panels(make_console(), read_points([str(tmp_path / "outputs")])[1])
    bars = {half for panel in panels for curve in panel.curves.values() for _, _, half in curve}
    assert bars == {0.02}  # the standard error, for one shot as for many
    assert {panel.metric for panel in panels} == {"accuracy ± standard error over examples"}
    assert "no language model among these runs" in refused([str(tmp_path / "outputs"), "--predict", "1e6"], capsys)


@pytest.mark.parametrize("depth", [1, 12])
def test_parameters_without_embeddings_are_counted_as_the_model_has_them(depth: int) -> None:
    import torch
    from hydra.utils import instantiate

    from protoformer.assembly.model import builder_arguments

    model = compose(["model=gpt2_ladder", f"model.depth={depth}", "task=pretrain/clm"])["model"]
    with torch.device("meta"):
        built = instantiate(builder_arguments(model), _convert_="all")
    layers = sum(p.numel() for name, p in built.named_parameters() if not name.startswith("embeddings"))
    assert layer_parameters(model, sum(p.numel() for p in built.parameters())) == ladder_size(depth) == layers
