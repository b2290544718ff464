"""Pretraining against `transformers` and plain formulas: both heads, the two-term loss, its parts, weights there and back."""

import itertools
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from protoformer.batches import PretrainingBatch
from protoformer.config.compose import compose
from protoformer.data.batching.loader import BatchLoader
from protoformer.data.batching.samplers import BatchConfig, Phase, PhasedSampler, decode_dummies
from protoformer.data.corpus.masking import NextTokens
from protoformer.errors import ConfigurationError
from protoformer.models import weights
from protoformer.models.bert import bert
from protoformer.models.hf.bert import BertWeights
from protoformer.modules.evaluation import gather_examples
from protoformer.modules.kinds.pretraining import PretrainingModule
from protoformer.optim.optimization import Optimization
from protoformer.runs.metrics import read_metrics
from protoformer.training.lightning_internals import is_accumulating
from protoformer.training.run import train

SIZES = {"vocab_size": 50, "d_model": 24, "n_layers": 2, "n_heads": 4, "d_ff": 48, "max_seq_len": 24}
VAL = {"val": [""], "test": []}


class Rows:
    """Rows drawn by their numbers: of unequal length, with unequally many targets, some without a pair."""

    def __call__(self, indices: list[int]) -> PretrainingBatch:
        numbers, real = decode_dummies(indices)
        rows = len(numbers)
        ids, segments, target = (torch.zeros(rows, 16, dtype=torch.long) for _ in range(3))
        mask = torch.zeros(rows, 16, dtype=torch.bool)
        position, following = torch.zeros(rows, 9, dtype=torch.long), torch.full((rows,), -1)
        target = torch.full((rows, 9), -1)
        for row, number in enumerate(numbers):
            draw = np.random.default_rng(number)
            length, n_targets = int(draw.integers(11, 17)), 1 + (5 * number) % 9
            mask[row, :length] = True
            ids[row, :length] = torch.from_numpy(draw.integers(1, 50, size=length))
            segments[row, length // 2 : length] = 1
            target_positions = np.sort(draw.permutation(length)[:n_targets])
            if real[row]:
                position[row, :n_targets] = torch.from_numpy(target_positions)
                target[row, :n_targets] = torch.from_numpy(draw.integers(0, 50, size=n_targets))
                following[row] = number % 3 - 1
        return PretrainingBatch(
            ids=ids,
            padding_mask=mask,
            segment_ids=segments,
            pooler_position=torch.zeros(rows, dtype=torch.long),
            example_ids=torch.tensor([n if is_real else -1 for n, is_real in zip(numbers, real, strict=True)]),
            target_position=position,
            target_ids=target,
            next_sentence=following,
            targets=torch.stack([(target >= 0).sum(), (following >= 0).sum()]),
        )


def labels(batch: PretrainingBatch, ignored: int = -100) -> Tensor:
    """Targets as a rectangle, as a full softmax takes them."""
    token_labels = torch.full_like(batch["ids"], ignored)
    row, number = (batch["target_ids"] >= 0).nonzero(as_tuple=True)
    token_labels[row, batch["target_position"][row, number]] = batch["target_ids"][row, number]
    return token_labels


def module(nsp: bool = True, **settings: Any) -> PretrainingModule:
    torch.manual_seed(0)
    optimization = settings.pop("optimization", None)
    task_module = PretrainingModule(
        backbone=bert(**SIZES, dropout=0.0, **settings), splits=VAL, nsp=nsp, optimization=optimization
    )
    for parameter in task_module.parameters():  # larger than BERT's own, so that a wrong gradient shows
        nn.init.normal_(parameter, std=0.2)
    task_module.connect(total_steps=4)
    return task_module


def from_transformers(folder: Path, **settings: Any) -> tuple[Any, PretrainingModule]:
    """A random model of theirs, and ours with its weights, by way of a folder."""
    config = transformers.BertConfig(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48, vocab_size=50,
        max_position_embeddings=24, **settings.pop("config", {}),
    )  # fmt: skip
    theirs = transformers.BertForPreTraining(config).eval()
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.2)
    assert theirs.cls.predictions.decoder.weight is theirs.bert.embeddings.word_embeddings.weight
    theirs.save_pretrained(folder)
    return theirs, read(folder, **settings)


def read(folder: Path, **settings: Any) -> PretrainingModule:
    layout, described = BertWeights(), weights.read_config(folder)
    body, heads = layout.from_hf(weights.read_state(folder))
    ours = PretrainingModule(backbone=bert(**layout.sizes(described), **settings), splits=VAL)
    weights.load_into(ours.backbone, body, "here")
    weights.load_into(ours.head, layout.head_from_hf("pretraining", heads, described), "here")
    return ours.eval()


def same_as_transformers(theirs: Any, ours: PretrainingModule) -> None:
    batch = Rows()([1, 2, 4, 8])  # all with a pair but one
    batch["next_sentence"][:] = torch.tensor([0, 1, 0, 1])
    batch["targets"][1] = 4
    token_labels = labels(batch)
    with torch.no_grad():
        expected = theirs(
            batch["ids"], batch["padding_mask"].long(), batch["segment_ids"],
            labels=token_labels, next_sentence_label=batch["next_sentence"],
        )  # fmt: skip
        output, loss = ours(batch), ours.loss(batch)
    row, number = (batch["target_ids"] >= 0).nonzero(as_tuple=True)
    position = batch["target_position"][row, number]
    assert torch.equal(output.target_ids, token_labels[row, position])
    torch.testing.assert_close(output.mlm_logits, expected.prediction_logits[row, position], atol=1e-5, rtol=0)
    torch.testing.assert_close(output.nsp_logits, expected.seq_relationship_logits, atol=1e-5, rtol=0)
    torch.testing.assert_close(loss.total / loss.targets, expected.loss, atol=1e-5, rtol=0)


@pytest.mark.parametrize("packing", ["on", "off"])
@pytest.mark.parametrize("activation", ["gelu", "gelu_new"])
def test_both_heads_and_the_loss_equal_transformers(packing: str, activation: str, tmp_path: Path) -> None:
    theirs, ours = from_transformers(tmp_path, packing=packing, config={"hidden_act": activation})
    same_as_transformers(theirs, ours)


@pytest.mark.parametrize("copies", ["decoder", "decoder.bias alone"])
def test_copies_of_tied_tensors_in_a_file_are_left_out(copies: str, tmp_path: Path) -> None:
    theirs, _ = from_transformers(tmp_path)
    state = {name: tensor.clone() for name, tensor in theirs.state_dict().items()}
    assert "cls.predictions.decoder.weight" in state
    if copies != "decoder":
        del state["cls.predictions.decoder.weight"]
    save_file(state, tmp_path / "model.safetensors", {"format": "pt"})
    same_as_transformers(theirs, read(tmp_path))


def test_a_written_folder_opens_in_transformers(tmp_path: Path) -> None:
    ours, layout = module().eval(), BertWeights()
    state = layout.to_hf("pretraining", ours.backbone.state_dict(), ours.head.state_dict())
    save_file(state, tmp_path / "model.safetensors", {"format": "pt"})
    full = {**SIZES, "n_segments": 2, "norm_eps": 1e-12}
    (tmp_path / "config.json").write_text(json.dumps(layout.hf_config("pretraining", full)))
    theirs, info = transformers.BertForPreTraining.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    same_as_transformers(theirs.eval(), ours)
    again = read(tmp_path).state_dict()
    assert again.keys() == ours.state_dict().keys()
    assert all(torch.equal(tensor, again[name]) for name, tensor in ours.state_dict().items())


def full_loss(ours: PretrainingModule, batch: PretrainingBatch) -> Tensor:
    """The formula itself: a softmax at every place, of which the unwanted are ignored, and one for every pair."""
    hidden = ours.backbone(batch["ids"], batch["padding_mask"], batch["segment_ids"])
    logits = ours.head.masked(hidden.to_padded(), ours.backbone.embeddings.token.weight)
    loss = functional.cross_entropy(logits.flatten(0, 1), labels(batch).flatten())
    if ours.head.next is not None and (batch["next_sentence"] >= 0).any():
        pairs = ours.head.next(ours.backbone.pooler(hidden, batch["pooler_position"]))
        loss = loss + functional.cross_entropy(pairs, batch["next_sentence"], ignore_index=-1)
    return loss


def gradients(ours: PretrainingModule) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in ours.named_parameters() if p.grad is not None}


def assert_same(actual: dict[str, Tensor], expected: dict[str, Tensor], rtol: float = 1e-4) -> None:
    assert actual.keys() == expected.keys()
    for name, gradient in actual.items():
        torch.testing.assert_close(gradient, expected[name], atol=1e-6, rtol=rtol, msg=name)


@pytest.mark.parametrize("packing", ["on", "off"])
@pytest.mark.parametrize("nsp", [True, False])
def test_gathered_positions_equal_the_full_softmax(nsp: bool, packing: str) -> None:
    batch = Rows()(list(range(8)))
    assert batch["targets"].tolist() == [int((labels(batch) >= 0).sum()), 5]
    plain, ours = module(nsp, packing=packing), module(nsp, packing=packing)
    expected = full_loss(plain, batch)
    expected.backward()
    loss = ours.loss(batch)
    (loss.total / loss.targets).backward()
    torch.testing.assert_close(loss.total / loss.targets, expected, atol=1e-5, rtol=1e-5)
    assert_same(gradients(ours), gradients(plain))


def test_without_next_sentences_there_is_no_head_and_the_pooler_stands_still() -> None:
    ours = module(nsp=False)
    assert ours.head.next is None
    assert not [name for name in ours.state_dict() if "next" in name]
    assert not [p for p in ours.backbone.pooler.parameters() if p.requires_grad]
    batch = Rows()(list(range(4)))
    assert ours(batch).nsp_logits is None
    loss = ours.loss(batch)
    assert set(loss.running_metrics) == {"mlm_loss", "mlm_accuracy"}
    loss.total.backward()
    assert all((p.grad is not None) == p.requires_grad for p in ours.parameters())
    assert all(p.requires_grad for p in module().parameters())


def test_a_score_that_is_never_seen_is_refused() -> None:
    backbone = bert(**SIZES)
    with pytest.raises(ConfigurationError, match="there is no nsp_accuracy"):
        PretrainingModule(backbone=backbone, splits={"val": [""], "test": []}, metrics=["nsp_accuracy"], nsp=False)


def loader(micro: int | None = None, steps: int = 4, size: int = 8) -> BatchLoader:
    return BatchLoader(PhasedSampler([Phase(steps, 21)], BatchConfig(size, micro, seed=1)), Rows())


def fitted(micro: int | None, size: int = 8, nsp: bool = True) -> tuple[list[dict[str, Any]], list[dict[str, Tensor]]]:
    """Numbers and gradients (before the clip, which is off) of every step."""
    ours = module(nsp, optimization=Optimization(1e-2, clip=None))
    numbers: list[dict[str, Any]] = []
    recorded: list[dict[str, Tensor]] = []

    class Look(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
            if not is_accumulating(trainer):
                numbers.append(ours.step_metrics.named())
                recorded.append(gradients(ours))

    trainer = pl.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, use_distributed_sampler=False, max_epochs=1, callbacks=[Look()],
        accumulate_grad_batches=BatchConfig(size, micro).accumulation,
    )  # fmt: skip
    trainer.fit(ours, loader(micro, size=size))
    assert trainer.global_step == 4
    return numbers, recorded


@pytest.mark.parametrize("nsp", [True, False])
@pytest.mark.parametrize("micro", [1, 3])
def test_micro_batches_equal_the_whole_batch(micro: int, nsp: bool) -> None:
    """Each part of the loss is a mean over targets of its own, of which every micro-batch has as many as it likes."""
    counts = [batch["targets"].tolist() for batch in loader(micro)]
    assert len({pair[0] for pair in counts}) > 3
    assert len({pair[1] for pair in counts}) > 1
    whole, whole_gradients = fitted(None, nsp=nsp)
    parts, part_gradients = fitted(micro, nsp=nsp)
    assert len(whole) == len(parts) == 4
    for one, other, expected, actual in zip(whole, parts, whole_gradients, part_gradients, strict=True):
        assert other == pytest.approx(one, rel=1e-4)
        assert_same(actual, expected, rtol=1e-3)
    plain = module(nsp)
    batch = next(iter(loader()))
    loss = full_loss(plain, batch)
    loss.backward()
    assert_same(part_gradients[0], gradients(plain), rtol=1e-3)
    first = parts[0]
    assert first["train/loss"] == pytest.approx(float(loss.detach()), rel=1e-4)
    if nsp:
        assert first["train/mlm_loss"] + first["train/nsp_loss"] == pytest.approx(first["train/loss"], rel=1e-4)


def test_a_batch_without_pairs_or_with_nothing_to_tell() -> None:
    ours = module()
    alone = Rows()([0, 3, 6])  # none of them a pair
    assert alone["targets"][1] == 0
    loss = ours.loss(alone)
    torch.testing.assert_close(loss.total / loss.targets, full_loss(ours, alone), atol=1e-5, rtol=1e-5)
    empty = Rows()([-1 - 1, -1 - 2])
    assert empty["targets"].tolist() == [0, 0]
    loss = ours.loss(empty)
    assert loss.total == loss.targets == 0
    loss.total.backward()
    assert all((p.grad == 0).all() for p in ours.parameters() if p.grad is not None)


def test_next_tokens_are_a_shifted_cross_entropy() -> None:
    ours = module(nsp=False, attention="causal")
    draw = np.random.default_rng(0)
    texts = [draw.integers(1, 50, size=n) for n in (9, 16, 5)]
    batch = ours.dummy_batch(3, 16)
    ids, mask = torch.zeros(3, 16, dtype=torch.long), torch.zeros(3, 16, dtype=torch.bool)
    position, target = torch.zeros(3, 15, dtype=torch.long), torch.full((3, 15), -1)
    for row, text in enumerate(texts):
        special = np.isin(np.arange(len(text)), [0, len(text) - 1])
        example = NextTokens()(text, special, None, 50, -1, 20, draw)
        assert example.ids is text
        ids[row, : len(text)], mask[row, : len(text)] = torch.from_numpy(text), True
        position[row, : len(text) - 1] = torch.from_numpy(example.positions)
        target[row, : len(text) - 1] = torch.from_numpy(example.target_ids)
    shaped: Any = {"ids": ids, "padding_mask": mask, "target_position": position, "target_ids": target}
    batch = PretrainingBatch(**{**batch, **shaped, "example_ids": torch.arange(3)})
    hidden = ours.backbone(ids, mask, batch["segment_ids"]).to_padded()
    logits = ours.head.masked(hidden, ours.backbone.embeddings.token.weight)
    shifted = ids[:, 1:].masked_fill(~mask[:, 1:], -100)
    expected = functional.cross_entropy(logits[:, :-1].flatten(0, 1), shifted.flatten())
    loss = ours.loss(batch)
    assert loss.targets == 8 + 15 + 4
    torch.testing.assert_close(loss.total / loss.targets, expected, atol=1e-5, rtol=1e-5)
    changed: Any = {**batch, "ids": torch.where(torch.arange(16) > 3, (ids + 1) % 50, ids)}
    first = batch["target_position"][0] <= 3
    first &= batch["target_ids"][0] >= 0
    n_first = int(first.sum())  # what stands before a token decides, and nothing after it
    torch.testing.assert_close(
        ours(changed).mlm_logits[:n_first], ours(batch).mlm_logits[:n_first], atol=1e-5, rtol=1e-5
    )


def batches(rows: list[list[int]]) -> Iterator[PretrainingBatch]:
    return map(Rows(), rows)


def test_the_numbers_of_a_split_are_those_of_all_its_examples_once() -> None:
    ours = module().eval()
    with torch.no_grad():
        parts = [ours.eval_step(b) for b in batches([[3, 1], [0, 2, 4, -1 - 7], [5, 6, 1], [-1 - 0]])]
        columns = gather_examples(parts, 1)
        everything = Rows()(list(range(7)))
        output = ours(everything)
    assert columns[0].tolist() == list(range(7))
    evaluation = ours.evaluate("val", "", columns)
    mlm_loss = float(functional.cross_entropy(output.mlm_logits, output.target_ids))
    labelled = everything["next_sentence"] >= 0
    assert 0 < int(labelled.sum()) < 7
    nsp_loss = float(functional.cross_entropy(output.nsp_logits[labelled], everything["next_sentence"][labelled]))
    mlm_accuracy = float((output.mlm_logits.argmax(-1) == output.target_ids).float().mean())
    nsp_accuracy = float((output.nsp_logits.argmax(-1) == everything["next_sentence"])[labelled].float().mean())
    assert evaluation.scores == {"mlm_accuracy": pytest.approx(mlm_accuracy)}
    assert dict(evaluation.other_metrics) == pytest.approx(
        {
            "mlm_loss": mlm_loss, "mlm_perplexity": np.exp(mlm_loss), "nsp_loss": nsp_loss, "nsp_accuracy": nsp_accuracy,
            "loss": mlm_loss + nsp_loss,
        },
        rel=1e-5,
    )  # fmt: skip
    both = PretrainingModule(backbone=ours.backbone, splits=VAL, metrics=["mlm_accuracy", "nsp_accuracy"])
    assert set(both.evaluate("val", "", columns).scores) == {"mlm_accuracy", "nsp_accuracy"}
    alone = module(nsp=False).eval()
    with torch.no_grad():
        evaluation = alone.evaluate("val", "", gather_examples([alone.eval_step(everything)], 1))
    assert set(evaluation.other_metrics) == {"mlm_loss", "mlm_perplexity", "loss"}
    assert list(evaluation.rows()) == []


def test_fillers_count_nowhere() -> None:
    ours = module()
    plain, filled = (ours.loss(b) for b in batches([[1, 2, 3], [1, 2, 3, -1 - 4, -1 - 5]]))
    torch.testing.assert_close(plain.total, filled.total)
    assert plain.targets == filled.targets
    for name, (total, count) in plain.running_metrics.items():
        torch.testing.assert_close(filled.running_metrics[name][0], total)
        assert filled.running_metrics[name][1] == count


def test_the_loader_foretells_the_targets_of_a_global_batch() -> None:
    batches = list(loader(3))
    for start in range(0, len(batches), 3):
        group = batches[start : start + 3]
        together = torch.stack([batch["targets"] for batch in group]).sum(0)
        assert all(torch.equal(batch["step_targets"], together) for batch in group)
    assert [len(batch["ids"]) for batch in itertools.islice(batches, 3)] == [3, 3, 2]


# --- a whole run

RUN = [
    "model=bert_l2_h128",
    "task=pretrain/mlm_nsp",
    "source=sample",
    "source.rows=80",
    "trainer.keep_optimizer=true",
    "tracking=none",
    "model.d_model=16",
    "model.d_ff=32",
    "recipe.batch_size=8",
    "recipe.max_steps=8",
    "recipe.warmup=2",
    "recipe.lr=3e-3",
    "trainer.val_check_interval=3",
    "trainer.limit_val_batches=2",
    "trainer.log_every=1",
    "trainer.checkpoint_every=1",
    "task.max_len=32",
    "task.data.phases=[{share:0.5,max_len:16,max_predictions:2},{share:0.5,max_len:32,max_predictions:5}]",
    "hardware.threads=1",
    "hardware.micro_batch=3",
]
SPEEDS = ("time", "train/examples_per_s", "train/tokens_per_s", "train/flops_per_s", "train/mfu")


def config(outputs: Path) -> dict[str, Any]:
    return compose([*RUN, f"paths.outputs={outputs}", f"paths.cache={outputs.parent / 'cache'}"])


def only_run(outputs: Path) -> Path:
    return next(outputs.glob("*/pretrain/mlm_nsp/*/config.yaml")).parent


def what_counts(run: Path) -> dict[str, Any]:
    lines = [{k: v for k, v in line.items() if k not in SPEEDS} for line in read_metrics(run / "metrics.jsonl")]
    result = json.loads((run / "result.json").read_text(encoding="utf-8"))
    state = weights.read_pickle(run / "checkpoints" / "last.ckpt")["state_dict"]
    return {
        "lines": lines,
        "result": {key: result[key] for key in ("score", "metrics", "best", "run_id")},
        "steps": result["training"]["steps"],
        "weights": {name: tensor.tolist() for name, tensor in state.items()},
    }


def test_a_run_goes_on_exactly_before_and_after_the_border_of_its_phases(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders: dict[int, Path] = {}
    save = pl.Trainer.save_checkpoint

    def save_and_keep(self: pl.Trainer, path: Any, *args: Any, **kwargs: Any) -> None:
        save(self, path, *args, **kwargs)
        step = self.global_step
        if Path(path).name == "last.ckpt" and step not in folders:
            folders[step] = tmp_path / f"folder-{step}"
            shutil.copytree(Path(path).parents[1], folders[step], ignore=shutil.ignore_patterns("lock"))

    with monkeypatch.context() as patched:
        patched.setattr(pl.Trainer, "save_checkpoint", save_and_keep)
        train(config(tmp_path / "whole"), "")
    whole = only_run(tmp_path / "whole")
    expected = what_counts(whole)
    assert expected["steps"] == 8
    assert sorted(folders) == list(range(1, 9))
    trained = [line for line in expected["lines"] if "train/mlm_loss" in line]
    assert [line["step"] for line in trained] == list(range(1, 9))
    assert all("train/nsp_accuracy" in line for line in trained)
    validated = [line for line in expected["lines"] if "val/score" in line]
    assert [line["step"] for line in validated][:2] == [3, 6]
    assert {"val/mlm_accuracy", "val/mlm_perplexity", "val/nsp_accuracy", "val/loss"} <= set(validated[0])
    for step in (2, 4, 5):  # within the first phase, at the border, within the second
        outputs = tmp_path / f"again-{step}"
        shutil.copytree(folders[step], outputs / whole.relative_to(tmp_path / "whole"))
        train(config(outputs), "")
        assert what_counts(only_run(outputs)) == expected, f"continued from step {step}"
