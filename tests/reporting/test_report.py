"""Runs beside each other and beside the paper."""

import csv
import json
import math
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from protoformer.errors import UserError
from protoformer.reporting import report
from protoformer.reporting.groups.runs import arrange
from protoformer.reporting.groups.table import group_notes, omitted_runs, table_of
from protoformer.reporting.recipes import recipe_names

CONSTANT = [{"prediction": "equivalent", "label": label} for label in ("equivalent", "not_equivalent")] * 3


@pytest.fixture
def grid(write_run) -> dict[str, Path]:
    """Two recipes with three seeds each; one run of the second learnt nothing."""
    runs = {}
    for lr, accuracies in ((2e-5, (0.86, 0.87, 0.85)), (5e-5, (0.84, 0.88, 0.68))):
        for seed, accuracy in enumerate(accuracies, start=1):
            name = f"lr{lr:g}-s{seed}"
            predictions = {"val": CONSTANT} if accuracy < 0.7 else None
            metrics = {"val/accuracy": accuracy, "val/f1": accuracy + 0.04, "val/loss": 0.4}
            runs[name] = write_run(name, seed=seed, metrics=metrics, recipe={"lr": lr}, predictions=predictions)
    return runs


def test_recipes_are_compared_by_mean_and_spread_over_seeds(grid, tmp_path: Path) -> None:
    (group,) = arrange(report.collect([str(tmp_path)]).runs)
    assert list(group.recipes) == ["lr=2e-05 batch_size=32 epochs=3", "lr=5e-05 batch_size=32 epochs=3"]
    head, lines = table_of(group)
    assert head == ["recipe", "n", "score", "val/accuracy", "val/f1", "examples/s", ""]
    assert lines[0] == [
        "lr=2e-05 batch_size=32 epochs=3",
        "3",
        "88.00 ± 1.00 a",
        "86.00 ± 1.00",
        "90.00 ± 1.00",
        "115.6",
        "",
    ]
    assert lines[1][3] == "80.00 ± 10.58"  # statistics.stdev of 84, 88, 68
    assert lines[1][-1] == "best on dev of 6, 1 of 3 degenerate"  # seed 2 of it is the best single run
    assert group.best is not None
    assert group.best.record.folder == grid["lr5e-05-s2"].resolve()


def test_recipes_that_differ_over_seeds_share_no_letter(write_run, tmp_path: Path) -> None:
    """Three recipes, the middle one of which is shown to differ from neither; one run has no letter."""
    for lr, accuracies in (
        (1e-5, (0.90, 0.91, 0.92)),
        (2e-5, (0.84, 0.90, 0.87)),
        (3e-5, (0.80, 0.81, 0.82)),
        (4e-5, (0.7,)),
    ):
        for seed, accuracy in enumerate(accuracies):
            write_run(f"{lr}-{seed}", seed=seed, metrics={"val/accuracy": accuracy}, recipe={"lr": lr})
    (group,) = arrange(report.collect([str(tmp_path)]).runs)
    cells = [line[2] for line in table_of(group)[1][:4]]
    assert cells == ["91.00 ± 1.00 a", "87.00 ± 3.00 ab", "81.00 ± 1.00 b", "70.00"]
    (note,) = [line for line in group_notes(group) if line.startswith("letters")]
    assert note.startswith(
        "letters beside val/accuracy: of recipes that have some, those without a common letter differ over"
    )
    assert "for 3 pairs, p < 0.05" in note


def test_the_papers_numbers_stand_under_ours(grid, tmp_path: Path) -> None:
    (group,) = arrange(report.collect([str(tmp_path)]).runs)
    published = {line[0]: line[3:5] for line in table_of(group)[1][2:]}
    assert published["BERT, Table 5: BERT-base"] == ["86.7", ""]
    assert published["BERT, Table 1: BERT-base"] == ["", "88.9 (test)"]


def test_one_number_for_several_sets_stands_under_their_mean(write_run, tmp_path: Path) -> None:
    """GPT's ablation prints one number for MNLI's two test sets."""
    metrics = {"val/matched/accuracy": 0.8, "val/mismatched/accuracy": 0.7, "val/loss": 0.5}
    write_run("plain", model="gpt", task="glue/mnli", metrics=metrics, init_from="scratch")
    (group,) = arrange(report.collect([str(tmp_path)]).runs)
    head, lines = table_of(group)
    printed = {line[0]: dict(zip(head, line, strict=True)) for line in lines}
    ablation = printed["GPT, Table 5: Transformer w/o pre-training"]
    assert (ablation["score"], ablation["val/matched/accuracy"]) == ("75.7 (test)", "")
    result = printed["GPT, Table 2: Finetuned Transformer LM"]
    assert (result["score"], result["val/mismatched/accuracy"]) == ("", "81.4 (test)")


def test_an_ablations_row_stands_under_the_run_that_it_is(write_run, tmp_path: Path, capsys) -> None:
    """Table 3 of arXiv 1706.03762; a run that changes two things at once is no row of it."""
    variants: dict[str, dict[str, object]] = {
        "base": {},
        "one": {"n_heads": 1},
        "big": {"d_model": 1024, "d_ff": 4096, "n_heads": 16, "dropout": 0.3},
        "two": {"n_heads": 1, "dropout": 0.0},
    }
    for place, (name, model) in enumerate(variants.items()):
        metrics = {"val/bleu": 0.2 - place / 100, "val/compound_bleu": 0.21, "val/perplexity": 5.5}
        write_run(
            name, model="transformer", task="translate/wmt14_en_de", metrics=metrics, sizes={"d_model": 512, **model}
        )
    (group,) = arrange(report.collect([str(tmp_path)]).runs)
    _, lines = table_of(group)
    names = [line[0].removeprefix("Transformer, ") for line in lines]
    assert len(group.recipes) == 4
    assert [name for name in names if name.startswith("Table")] == [
        "Table 3: (A) h=1, d_k=d_v=512", "Table 3: big", "Table 2: Transformer (base model)", "Table 3: base",
    ]  # fmt: skip
    ours = {name: lines[names.index(name) - 1][0] for name in names[:-2] if name.startswith("Table")}
    assert "n_heads=1" in ours["Table 3: (A) h=1, d_k=d_v=512"]
    assert "d_ff=4096" in ours["Table 3: big"]
    assert lines[names.index("Table 3: big")][4:6] == ["26.4", "4.33"]
    report.main([str(tmp_path)], csv=str(tmp_path / "all.csv"))
    assert "(A) h=1" in capsys.readouterr().out
    states = [row["state"] for row in csv.DictReader((tmp_path / "all.csv").read_text().splitlines())]
    assert states.count("published") == 7


def test_what_is_printed_names_the_best_the_degenerate_and_the_unfinished(
    grid, write_run, tmp_path: Path, capsys
) -> None:
    write_run("half", finished=False, losses=[0.7, 0.6])
    report.main([str(tmp_path)])
    text = capsys.readouterr().out
    assert "bert x glue/mrpc" in text
    assert f"best on dev: 90.00, seed 2, {grid['lr5e-05-s2'].resolve()}" in text
    assert "degenerate: lr5e-05-s3, seed 3: the same label for every row of val: equivalent" in text
    assert "half (at step 10)" in text
    assert "\x1b" not in text


def test_a_broken_result_is_named_and_left_out(grid, write_run, tmp_path: Path, capsys) -> None:
    (grid["lr2e-05-s1"] / "result.json").write_text('{"run_id": "x"')
    report.main([str(tmp_path)])
    text = capsys.readouterr().out
    assert f"warning: left out: {grid['lr2e-05-s1'].resolve()}/result.json cannot be read" in text
    (group,) = arrange(report.collect([str(tmp_path)]).runs)
    assert len(group.runs) == 5


def test_the_last_finished_attempt_counts(write_run, tmp_path: Path) -> None:
    for attempt, accuracy in ((1, 0.5), (2, 0.9)):
        write_run("x", attempt=attempt, metrics={"val/accuracy": accuracy})
    write_run("x", attempt=3, finished=False)
    collected = report.collect([str(tmp_path)])
    assert [run.result["attempt"] for run in collected.runs] == [2]
    assert collected.replaced == 1
    assert len(collected.never_began) == 1
    assert any("1 earlier attempt" in line for line in omitted_runs(collected))


def test_models_and_tasks_have_tables_of_their_own(write_run, tmp_path: Path, capsys) -> None:
    write_run("a")
    write_run("b", task="glue/cola", metrics={"val/matthews_correlation": 0.5})
    write_run("c", model="bert_l2_h128")
    write_run("d", task="glue/ax", metrics={})
    report.main([str(tmp_path)])
    text = capsys.readouterr().out
    for title in ("bert x glue/mrpc", "bert x glue/cola", "bert_l2_h128 x glue/mrpc", "bert x glue/ax"):
        assert title in text
    assert text.count("no published results for this model and task") == 2


def test_neutral_keys_and_the_seed_make_no_recipe(write_run, tmp_path: Path) -> None:
    write_run("a", seed=1, hardware={"precision": "fp32", "devices": 1})
    write_run("b", seed=2, hardware={"precision": "fp32", "devices": 4}, paths={"outputs": "elsewhere"})
    (group,) = arrange(report.collect([str(tmp_path)]).runs)
    assert [len(runs) for runs in group.recipes.values()] == [2]
    write_run("c", seed=3, hardware={"precision": "bf16", "devices": 1})
    (group,) = arrange(report.collect([str(tmp_path)]).runs)
    assert {name.split()[-1]: len(runs) for name, runs in group.recipes.items()} == {
        "precision=fp32": 2,
        "precision=bf16": 1,
    }


def test_recipes_that_differ_beyond_their_name_stay_apart() -> None:
    names = recipe_names([{f"k{i}": value for i in range(9)} for value in (1, 2, 1)])
    assert names[0] == names[2] != names[1]
    names = recipe_names([{**{f"k{i}": 1 for i in range(8)}, "k8": value} | {"z": value} for value in (1, 2)])
    assert names == ["k8=1 z=1", "k8=2 z=2"]


def test_epochs_are_not_told_twice() -> None:
    variants = [{"recipe.epochs": n, "trainer.max_epochs": n} for n in (2, 3)]
    assert recipe_names(variants) == ["epochs=2", "epochs=3"]


def test_other_weights_are_told(write_run, tmp_path: Path, capsys) -> None:
    write_run("a", init_from="scratch")
    write_run("b", seed=2)
    report.main([str(tmp_path)])
    assert "not the paper's experiment (1 of 2 runs): it was trained from scratch" in capsys.readouterr().out


def test_scores_that_are_not_a_number_are_shown(write_run, tmp_path: Path) -> None:
    write_run("a", task="glue/stsb", metrics={"val/pearson": math.nan, "val/spearman": math.nan})
    write_run("b", task="glue/stsb", seed=2, metrics={"val/pearson": 0.8, "val/spearman": 0.9})
    (group,) = arrange(report.collect([str(tmp_path)]).runs)
    assert table_of(group)[1][0][3] == "nan"
    assert group.best is not None
    assert group.best.result["run_id"] == "b"


def test_csv_and_markdown_hold_the_same_runs(grid, write_run, tmp_path: Path, capsys) -> None:
    write_run("half", finished=False)
    sheet, page = tmp_path / "new" / "runs.csv", tmp_path / "new" / "runs.md"
    report.main([str(tmp_path / "outputs")], csv=str(sheet), markdown=str(page))
    rows = list(csv.DictReader(sheet.open()))
    states = [row["state"] for row in rows]
    assert (states.count("finished"), states.count("best on dev"), states.count("degenerate")) == (4, 1, 1)
    assert states.count("unfinished") == 1
    best = rows[states.index("best on dev")]
    assert (best["seed"], best["val/accuracy"], best["val/f1"], best["score"]) == ("2", "88.0", "92.0", "90.0")
    assert best["val/loss"] == "0.4"
    paper = next(row for row in rows if row["recipe"] == "BERT, Table 1: BERT-base")
    assert (paper["test/f1"], paper["seed"]) == ("88.9", "")
    text = page.read_text()
    assert "| lr=2e-05 batch\\_size=32 epochs=3 | 3 | 88.00 ± 1.00 a |" in text
    assert "best on dev: 90.00" in text
    assert "half" in text
    assert not list(sheet.parent.glob(".*part"))


def test_the_csv_holds_every_key_in_which_the_runs_differ(write_run, tmp_path: Path) -> None:
    write_run("a", recipe={"lr": 2e-5, "betas": [0.9, 0.98]}, init_from="scratch")
    write_run("b", seed=2, recipe={"betas": [0.9, 0.999], **{f"k{n}": True for n in range(9)}})
    write_run("c", task="glue/cola", recipe={"betas": [0.9, 0.999]}, paths={"outputs": "elsewhere"}, hardware={})
    sheet = tmp_path / "runs.csv"
    report.main([str(tmp_path / "outputs")], csv=str(sheet))
    actual = list(csv.DictReader(sheet.open()))
    rows = {row["run_id"]: row for row in actual if row["state"] != "published"}
    assert [rows[name]["recipe.lr"] for name in "abc"] == ["2e-05", "5e-05", "5e-05"]
    assert [rows[name]["recipe.betas"] for name in "abc"] == ["[0.9, 0.98]", "[0.9, 0.999]", "[0.9, 0.999]"]
    assert [rows[name]["init_from"] for name in "abc"] == ["scratch", "auto", "auto"]
    assert [rows[name]["recipe.k8"] for name in "abc"] == ["", "true", ""]
    assert [rows[name]["hardware.precision"] for name in "abc"] == ["fp32", "fp32", ""]
    assert not {"recipe.batch_size", "recipe.epochs", "paths.outputs", "hardware.devices"} & set(actual[0])


def test_a_folder_without_runs_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no runs in"):
        report.main([str(tmp_path)])


def test_a_result_of_the_needed_keys_alone_is_reported(write_run, tmp_path: Path, capsys) -> None:
    folder = write_run("x")
    result = {"run_id": "x", "model": "bert", "task": "glue/mrpc", "metrics": {"val/accuracy": 0.5}}
    (folder / "result.json").write_text(json.dumps(result))
    report.main([str(tmp_path)])
    assert "50.00" in capsys.readouterr().out


def test_an_undefined_correlation_is_a_sign_of_failure_and_stays_in_the_table(
    write_run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run("x", task="glue/stsb", metrics={"val/pearson": None, "val/spearman": 0.5})
    report.main([str(tmp_path)], csv=str(tmp_path / "runs.csv"))
    assert "val/pearson is undefined" in capsys.readouterr().out
    assert ",nan," in (tmp_path / "runs.csv").read_text()


def test_a_run_of_a_number_of_steps_is_named_by_them(write_run, tmp_path: Path) -> None:
    write_run("a", recipe={"max_steps": 60})
    (group,) = arrange(report.collect([str(tmp_path)]).runs)
    assert list(group.recipes) == ["lr=5e-05 batch_size=32 max_steps=60"]


def typed(*keys: str) -> dict[str, object]:
    return {"model": "bert", "task": "glue/mrpc", "family": "bert", "source": "hub", "set": list(keys)}


def test_what_was_typed_is_shown(write_run, tmp_path: Path, capsys) -> None:
    """What differs stands first in the recipe's name, lists as yaml; what all runs share in a line of its own."""
    keys = ("model.dropout", "recipe.betas", "trainer.limit_train_batches", "seed", "recipe.lr")
    for seed, (dropout, betas) in enumerate(((0.2, [0.9, 0.98]), (0.3, [0.9, 0.999]))):
        rows = {f"k{n}": [n, seed] for n in range(9)}
        recipe = {"betas": betas, "lr": 3e-5}
        parts = {"sizes": {"dropout": dropout}, "trainer": {"limit_train_batches": 60}, "choices": typed(*keys)}
        write_run(f"r{seed}", seed=seed, recipe=recipe, rows=rows, **parts)
    report.main([str(tmp_path)])
    text = " ".join(capsys.readouterr().out.split())
    (group,) = arrange(report.collect([str(tmp_path)]).runs)
    for name in group.recipes:
        assert name.startswith("lr=3e-05 batch_size=32 epochs=3 ")
    assert any("betas=[0.9, 0.98]" in name and " dropout=0.2 " in name for name in group.recipes)
    assert "all runs: trainer.limit_train_batches=60" in text
    assert "it used a part of the data (trainer.limit_train_batches=60); it was run with model.dropout=" in text
    assert "recipe.lr=3e-05," not in text  # one of the rates that the paper chose from


def test_test_scores_have_columns(write_run, tmp_path: Path, capsys) -> None:
    metrics = {"val/accuracy": 0.84, "val/f1": 0.88, "test/accuracy": 0.81, "test/f1": 0.86, "test/score": 0.835}
    write_run("a", metrics=metrics)
    (group,) = arrange(report.collect([str(tmp_path)]).runs)
    head, lines = table_of(group)
    assert head[2:-2] == ["score", "val/accuracy", "val/f1", "test/accuracy", "test/f1"]
    assert lines[0][2:-2] == ["86.00", "84.00", "88.00", "81.00", "86.00"]
    assert {line[0]: line[6] for line in lines}["BERT, Table 1: BERT-base"] == "88.9"


def test_a_run_that_only_tests_shows_its_test_scores(write_run, tmp_path: Path) -> None:
    write_run("a", metrics={"test/accuracy": 0.81, "test/f1": 0.86, "test/score": 0.835})
    (group,) = arrange(report.collect([str(tmp_path)]).runs)
    assert table_of(group)[1][0][2:5] == ["83.50", "81.00", "86.00"]
    assert group.best is None


@pytest.mark.parametrize(
    "content",
    ["{", "[]", "\x00\x01", '{"run_id": "x", "model": "bert", "task": "glue/mrpc", "metrics": {"val/accuracy": "good"}}',
     '{"run_id": "x", "model": "bert", "task": "glue/mrpc", "metrics": {"val/accuracy": 1}, "training": [1], "task_type": 3}'],
)  # fmt: skip
def test_a_run_that_cannot_be_read_hides_no_other(grid, content: str, tmp_path: Path, capsys) -> None:
    broken = grid["lr2e-05-s1"].resolve()
    (broken / "result.json").write_text(content)
    sheet = tmp_path / "runs.csv"
    report.main([str(tmp_path)], csv=str(sheet))
    text = capsys.readouterr().out
    assert f"warning: left out: {broken}" in text
    assert "best on dev: 90.00" in text
    states = [row["state"] for row in csv.DictReader(sheet.open())]
    assert states.count("unreadable") == 1


def test_where_no_run_can_be_read_that_is_the_error(write_run, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (write_run(name) / "result.json").write_text("{")
    with pytest.raises(UserError, match=r"no run can be read: .*/result\.json cannot be read: .*\(and 1 more\)"):
        report.main([str(tmp_path)])


def test_runs_that_never_began_are_one_line(write_run, tmp_path: Path) -> None:
    for name in "abc":
        write_run(name, finished=False)
    collected = report.collect([str(tmp_path)])
    (line,) = omitted_runs(collected)
    assert line.startswith("never reached a first step: ")
    assert line.endswith("/a and 2 more")


def test_folds_of_one_cross_validation_are_one_recipe(write_run, tmp_path: Path) -> None:
    for fold, accuracy in enumerate((0.8, 0.85, 0.9)):
        task = {"kind": "classification", "rows": {"labels": ["a", "b"]}, "folds": 3, "fold": fold}
        task["splits"] = {"train": f"train[all but fold {fold}/3]", "validation": f"train[fold {fold}/3]"}
        folder = write_run(f"fold{fold}", metrics={"val/accuracy": accuracy})
        config = OmegaConf.load(folder / "config.yaml")
        config["task"] = task
        OmegaConf.save(config, folder / "config.yaml")
    report.main([str(tmp_path)], csv=str(tmp_path / "runs.csv"))
    (group,) = arrange(report.collect([str(tmp_path)]).runs)
    assert table_of(group)[1][0][:3] == ["lr=5e-05 batch_size=32 epochs=3", "3", "85.00 ± 5.00"]
    rows = csv.DictReader((tmp_path / "runs.csv").open())
    assert sorted(row["task.fold"] for row in rows if row["task.fold"]) == ["0", "1", "2"]


def test_squads_analyses_stand_in_the_csv_alone(write_run, tmp_path: Path, capsys) -> None:
    scores = {"exact_match": 0.7, "f1": 0.72, "best_f1": 0.73, "best_f1_threshold": -1.5, "null_threshold": -1.5}
    scores |= {"HasAns/exact_match": 0.6, "HasAns/f1": 0.62, "NoAns/f1": 0.8}
    write_run("a", model="bert_large", task="squad/v2", metrics={f"val/{key}": value for key, value in scores.items()})
    report.main([str(tmp_path)], csv=str(tmp_path / "runs.csv"))
    (group,) = arrange(report.collect([str(tmp_path)]).runs)
    head, lines = table_of(group)
    assert head[2:-2] == ["score", "val/exact_match", "val/f1"]
    assert lines[1][3:5] == ["78.7", "81.9"]
    assert "further metrics, in the file of --csv alone: val/best_f1, " in capsys.readouterr().out
    (row, *_) = csv.DictReader((tmp_path / "runs.csv").open())
    assert (row["val/HasAns/f1"], row["val/null_threshold"]) == ("62.0", "-1.5")


def test_epochs_that_steps_cut_short_do_not_tell_recipes_apart(write_run, tmp_path: Path) -> None:
    write_run("a", recipe={"max_steps": 60})
    write_run("b", recipe={"max_steps": 60, "epochs": 1}, trainer={"max_epochs": 1})
    (group,) = arrange(report.collect([str(tmp_path)]).runs)
    assert not any("max_epochs" in name for name in group.recipes)


def test_runs_that_are_tracked_offline_are_named_with_the_command_that_uploads_them(
    write_run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [write_run(f"seed{seed}", seed=seed).resolve() for seed in (1, 2, 3)]
    for run in runs[:2]:
        part = run / "wandb" / "offline-run-20260101_120000-x"
        part.mkdir(parents=True)
        (part / "run-x.wandb").touch()
    (runs[1] / "wandb/offline-run-20260101_120000-x/run-x.wandb.synced").touch()  # W&B's mark of an uploaded one
    report.main([str(tmp_path)])
    lines = capsys.readouterr().out.splitlines()
    assert f"Tracked offline: 1 run. Upload: WANDB_RESUME=allow wandb sync {runs[0]}/wandb" in lines
