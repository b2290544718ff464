"""What users type, on a GPU."""

from pathlib import Path

import pytest

import protoformer
from protoformer.config.compose import compose
from protoformer.inference.predict import predict
from protoformer.modules.queries import Query
from protoformer.training.run import train_run

from ..inference.test_predict import PREDICTED, write_run

pytestmark = pytest.mark.gpu
QUERIES = {
    "glue/sst2": Query("x y"),
    "glue/mrpc": Query("x y", pair="z"),
    "glue/stsb": Query("x y", pair="z"),
    "swag": Query("x y", choices=("z", "x z")),
    "squad/v2": Query("x", pair="y x z"),
    "pretrain/mlm_nsp": Query("x [MASK] [MASK]"),
}


@pytest.mark.parametrize("task", QUERIES)
def test_predictions_are_those_of_the_cpu(task: str, tmp_path: Path) -> None:
    loaded = protoformer.load(write_run(tmp_path, task, answers=PREDICTED))
    expected = predict(loaded, QUERIES[task])
    loaded.model.to("cuda")
    actual = predict(loaded, QUERIES[task])
    assert [ranking.title for ranking in actual] == [ranking.title for ranking in expected]
    for ranking, of_cpu in zip(actual, expected, strict=True):
        assert ranking.predictions[0].text == of_cpu.predictions[0].text  # those after it may be of one probability
        probabilities = [each.probability for each in of_cpu.predictions]
        assert [each.probability for each in ranking.predictions] == pytest.approx(probabilities, abs=1e-4)


def test_a_run_whose_labels_are_found_in_its_data(tmp_path: Path) -> None:
    """The memory of a micro-batch is estimated with these labels."""
    (tmp_path / "reviews.csv").write_text(
        "review,sentiment\n" + "a cat sat,good\na dog ran,bad\na cow ate,neither\n" * 8
    )
    (tmp_path / "vocab.txt").write_text(
        "\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "cat", "dog", "cow"])
    )
    words = [
        "model=bert_l2_h128", "model.d_model=16", "model.d_ff=32", "init_from=scratch", "task=classify", "source=local",
        "task.rows.text=review", "task.rows.label=sentiment", "tracking=none", "recipe.max_steps=3", "hardware=gpu",
        f"source.root={tmp_path}/reviews.csv", f"model.tokenizer={tmp_path}/vocab.txt", f"paths.outputs={tmp_path}/outputs",
        f"paths.cache={tmp_path}/cache",
    ]  # fmt: skip
    assert train_run(compose(words), "")["training"]["steps"] == 3
