"""What the project computes, pinned: a move or a rename of code changes none of it.

`golden.json`, beside this file, holds three things:

- `runs`: for one short run of every kind of task and every family of models, on the built-in sample, each step's training
  loss, the scores, and a sha256 of each file of predictions;
- `names`: the names of the run folders of some commands, without training. Under `settings` each has a second digest of what
  the name is made of, less the dotted paths of code (`_target_`): a moved class may rename a run, and changes no setting;
- `formats`: ids, segments and positions of texts, as each template writes them.

Names and formats must be equal everywhere. Numbers of runs depend on the processor and on torch's build, so the file says where
it was written (`fingerprint`). Where the fingerprint is the same, losses and scores must be equal to the last bit, and the
predictions' digests too. Elsewhere losses may differ by a part in 10,000, perplexities by ten times that, and other scores by
0.02, since an argmax that tips over in one row of 96 moves an accuracy by 0.01; thresholds, which are chosen among a few
rows' own scores, and the digests are not compared. Under another release of torch runs are skipped: its random numbers differ.

    python tests/golden/test_golden.py --write           # all of it, anew, in about a minute
    python tests/golden/test_golden.py --write names     # that part alone

That is right after a change that is meant to change numbers, names or encodings (a mended error in a loss, another default,
another torch), and then in a commit that says so and why; also to take the file to another reference machine, from a commit
whose tests pass there. It is never right to make a refactoring pass.
"""

import hashlib
import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).with_name("golden.json")
TOLERANCE = 1e-4
TIPPED = 0.02
KERNELS = (  # environment variables by which other kernels are taken
    *("ATEN_CPU_CAPABILITY", "MKL_CBWR", "MKL_DEBUG_CPU_TYPE", "MKL_ENABLE_INSTRUCTIONS"),
    *(f"{prefix}_{name}" for prefix in ("DNNL", "ONEDNN") for name in ("MAX_CPU_ISA", "DEFAULT_FPMATH_MODE")),
)


# Names of the project's own code: this section alone follows a move or a rename.


def train(words: Sequence[str]) -> int:
    """`python train.py WORDS` in this process: its exit code."""
    from protoformer.commands import train

    return train.main(words)


def composed(words: Sequence[str], config_dir: str | None) -> dict[str, Any]:
    """The config of a command."""
    from protoformer.config.compose import compose

    return compose(words, config_dir)


def run_name(config: dict[str, Any]) -> str:
    """The name of a config's run folder."""
    from protoformer.runs.identity import run_id

    return run_id(config)


def settings_of(config: dict[str, Any]) -> dict[str, Any]:
    """What a name is made of."""
    from protoformer.runs.identity import identity_config

    return identity_config(config)


def vocabulary(texts: Sequence[str]) -> Any:
    """A small tokenizer of all the words in `texts`."""
    from protoformer.text.tokenizers import whole_word_tokenizer

    return whole_word_tokenizer(texts, "the golden texts")


def text_formats(tokenizer: Any) -> dict[str, Any]:
    """Formats of texts and of pairs, under the names that golden.json knows them by."""
    from protoformer.text.templates import BertTemplate, GptTemplate, SeparatedTemplate

    return {
        "bert": BertTemplate(tokenizer),
        "bert_last": BertTemplate(tokenizer, pooled_token="last"),
        "gpt": GptTemplate(tokenizer),
        "separated": SeparatedTemplate(tokenizer),
    }


def written_texts(template: Any, a: list[list[int]], b: list[list[int]] | None, max_len: int) -> dict[str, Any]:
    written = template.encode_texts(a, b, max_len)
    return {
        "ids": written.ids.tolist(),
        "segment_ids": written.segment_ids.tolist(),
        "offsets": written.offsets.tolist(),
        "pooler_position": written.pooler_position.tolist(),
        "truncated": int(written.truncated),
    }


def written_windows(template: Any, questions: list[list[int]], contexts: list[list[int]]) -> dict[str, Any]:
    written = template.encode_windows(questions, contexts, max_len=16, stride=4, max_question=5)
    return {
        "ids": written.ids.tolist(),
        "segment_ids": written.segment_ids.tolist(),
        "offsets": written.offsets.tolist(),
        "null_position": written.null_position.tolist(),
        "example": written.example.tolist(),
        "context_start": written.context_start.tolist(),
        "first_token": written.first_token.tolist(),
        "context_tokens": written.context_tokens.tolist(),
        "truncated": int(written.truncated),
    }


def written_translation(tokenizer: Any, sources: list[list[int]], targets: list[list[int]]) -> dict[str, Any]:
    from protoformer.text.encoder_decoder.translation_template import TranslationTemplate

    template = TranslationTemplate(tokenizer)
    written = template.encode_pairs(sources, targets, 8)
    return {
        "start": template.bos_id,
        "ids": written.ids.tolist(),
        "offsets": written.offsets.tolist(),
        "target_ids": written.target_ids.tolist(),
        "target_offsets": written.target_offsets.tolist(),
    }


# Runs.

ALWAYS = (
    *("source=sample", "init_from=scratch", "tracking=none", "hardware=cpu", "hardware.threads=1"),
    *("recipe.max_steps=12", "trainer.log_every=1"),
)
TEXTS = ("source.rows=96", "task.max_len=64", "recipe.batch_size=8", "recipe.lr=1e-3")
CORPUS = ("source.rows=200", "task.max_len=48", "recipe.batch_size=8", "recipe.warmup=3", "recipe.lr=1e-3")
PAIRS = (  # a slow warm-up: a few fast steps would teach the models to write nothing at all
    *("task=translate/multi30k_en_de", "source.rows=96", "recipe.batch_size=160", "recipe.warmup=400"),
    *("recipe.average=2", "recipe.average_every=4"),
)
BERT = ("model=bert_l2_h128", "model.d_model=32", "model.d_ff=64")
ENCODER = ("model=transformer_encoder_tiny", "model.d_model=32", "model.d_ff=64")
TRANSFORMER = ("model=transformer_tiny", "model.d_model=32", "model.d_ff=64")
GPT, GPT2, GPT3 = ((f"model={name}_tiny", "model.d_model=32", "model.d_ff=64") for name in ("gpt", "gpt2", "gpt3"))
RNN, CNN = ((f"model={name}_tiny", "model.d_model=32") for name in ("rnn", "cnn"))
RUNS: dict[str, tuple[str, ...]] = {
    "bert-classification": (*BERT, "task=glue/mnli", *TEXTS, "hardware.micro_batch=3"),
    "gpt-classification": (*GPT, "task=glue/rte", *TEXTS),
    "rnn-classification": (*RNN, "task=glue/sst2", *TEXTS),
    "cnn-classification": (*CNN, "task=glue/cola", *TEXTS),
    "encoder-classification": (*ENCODER, "task=glue/mrpc", *TEXTS),
    "bert-regression": (*BERT, "task=glue/stsb", *TEXTS),
    "gpt2-regression": (*GPT2, "task=glue/stsb", *TEXTS),
    "bert-choice": (*BERT, "task=swag", *TEXTS),
    "bert-span": (*BERT, "task=squad/v2", *TEXTS, "task.data.stride=16"),
    "gpt-span": (*GPT, "task=squad/v2", *TEXTS, "task.data.stride=16"),
    "bert-masked": (*BERT, "task=pretrain/mlm_nsp", *CORPUS),
    "bert-left-to-right": (
        *BERT,
        "task=pretrain/ltr",
        "model.attention=causal",
        "model.template.pooled_token=last",
        *CORPUS,
    ),
    "gpt2-language": (*GPT2, "task=pretrain/clm", *CORPUS),
    "gpt3-language": (*GPT3, "task=pretrain/clm", *CORPUS),
    "rnn-language": (*RNN, "task=pretrain/clm", *CORPUS),
    "cnn-language": (*CNN, "task=pretrain/clm", *CORPUS),
    "transformer-translation": (*TRANSFORMER, *PAIRS),
    "rnn-translation": (*RNN, *PAIRS),
    "cnn-translation": (*CNN, *PAIRS),
}


def measured(name: str, folder: Path) -> dict[str, Any]:
    """Train one of `RUNS` in an empty folder, and read what it left there."""
    outputs = folder / "outputs"
    assert train([*ALWAYS, *RUNS[name], f"paths.outputs={outputs}", f"paths.cache={folder / 'cache'}"]) == 0
    (file,) = outputs.rglob("result.json")
    run, result = file.parent, json.loads(file.read_text(encoding="utf-8"))
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    predictions = sorted(path for path in (run / "predictions").rglob("*") if path.is_file())
    results = {
        "losses": [line["train/loss"] for line in lines if "train/loss" in line],
        "scores": result["metrics"],
        "predictions": {
            path.relative_to(run / "predictions").as_posix(): hashlib.sha256(without_texts(path)).hexdigest()
            for path in predictions
        },
    }
    if result.get("averaged"):  # the steps of the checkpoints whose mean was scored
        results["averaged"] = result["averaged"]
    return results


def without_texts(path: Path) -> bytes:
    """A file of predictions without the texts of its examples, which the model does not compute."""
    if path.suffix != ".jsonl":
        return path.read_bytes()
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
    kept = [{name: value for name, value in row.items() if name != "texts"} for row in rows]
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept).encode()


def fingerprint() -> dict[str, Any]:
    """What the last bits of a sum depend on."""
    import numpy
    import torch

    info = Path("/proc/cpuinfo")
    first = (info.read_text() if info.exists() else "").partition("\n\n")[0]
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in first.splitlines())}
    wide = sorted(flag for flag in facts.get("flags", "").split() if flag.startswith(("avx", "fma", "amx", "f16c")))
    return {
        "machine": platform.machine(),
        "processor": " ".join(
            facts.get(key, "") for key in ("vendor_id", "model name", "cpu family", "model", "stepping")
        ).strip(),
        "vectors": " ".join(wide),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "mkl": torch.backends.mkl.is_available(),
        "onednn": torch.backends.mkldnn.is_available(),
        "numpy": numpy.__version__,
        "variables": {name: os.environ[name] for name in KERNELS if name in os.environ},
    }


# Names of run folders.


def local_files(folder: Path) -> dict[str, Path]:
    """Data and weights in local folders; names count their content, not where they lie."""
    table = folder / "table" / "nyu-mll" / "glue" / "rte"
    texts, weights = folder / "parallel", folder / "weights"
    for place in (table, texts, weights):
        place.mkdir(parents=True, exist_ok=True)
    (table / "train.tsv").write_bytes(b"sentence1\tsentence2\tlabel\na\tb\t1\n")
    for split in ("train", "validation", "test"):
        (texts / f"{split}.en").write_bytes(b"a cat\n")
        (texts / f"{split}.de").write_bytes(b"eine Katze\n")
    (folder / "corpus.txt").write_bytes(b"one sentence .\nanother one .\n\na document .\n")
    (weights / "config.json").write_bytes(b"{}")
    return {"table": folder / "table", "parallel": texts, "corpus": folder / "corpus.txt", "weights": weights}


SWEEPS = ("--config-dir", "sweeps")
COMMANDS: dict[str, tuple[str, ...]] = {  # words in braces are places of `local_files`
    "defaults": ("model=bert", "task=glue/rte"),
    "overrides": (
        "model=gpt2",
        "task=squad/v2",
        "seed=7",
        "recipe.lr=1e-4",
        "recipe.batch_size=16",
        "model.dropout=0.2",
    ),
    "sample": (*ALWAYS, *RUNS["rnn-classification"]),
    "experiment": ("experiment=demo_translation",),
    "masked": ("model=bert_large", "task=pretrain/mlm_nsp"),
    "language": ("model=gpt3_small", "task=pretrain/clm"),
    "translation": ("model=transformer_big", "task=translate/wmt14_en_de"),
    "choice": ("model=cnn", "task=race/high"),
    "local": ("model=bert", "task=glue/rte", "source=local", "source.root={table}"),
    "parallel": ("model=rnn_tiny", "task=translate/multi30k_en_de", "source=parallel", "source.root={parallel}"),
    "files": ("model=gpt_tiny", "task=pretrain/clm", "source=files", "source.files={corpus}"),
    "weights": ("model=bert", "task=swag", "init_from={weights}"),
    "sweep-grid": (*SWEEPS, "experiment=bert_glue_grid", "task=glue/rte", "recipe.epochs=2", "seed=1"),
    "sweep-masking": (*SWEEPS, "experiment=bert_masking", "task.data.masking={{mask:0.8,random:0.2}}"),
    "sweep-table3": (*SWEEPS, "experiment=transformer_table3", "variant={{n_heads:4,d_key:128}}"),
    "sweep-ablation": (*SWEEPS, "experiment=gpt_ablation/no_aux_lm", "task=glue/cola"),
}


def named(name: str, folder: Path) -> dict[str, str]:
    """The name of a command's run folder, and a digest of its settings without the places of code."""
    places = local_files(folder)
    words = [word.format(**places) for word in COMMANDS[name]]
    config_dir = None
    if words[0] == "--config-dir":
        config_dir, words = str(ROOT / words[1]), words[2:]
    config = composed(words, config_dir)
    settings = json.dumps(without_targets(settings_of(config)), sort_keys=True)
    return {"name": run_name(config), "settings": hashlib.sha256(settings.encode()).hexdigest()[:16]}


def without_targets(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_targets(inner) for key, inner in value.items() if key != "_target_"}
    return [without_targets(inner) for inner in value] if isinstance(value, list | tuple) else value


# Formats.

FIRST = ("The doctor bought the lamp .", "a cat", "")
SECOND = ("The lamp was sold by the doctor who had bought it , unseen .", "A dog", "it sat .")


def encoded() -> dict[str, Any]:
    """Texts and pairs as each template writes them; the first pair is too long, the last one's first text is empty."""
    tokenizer = vocabulary([*FIRST, *SECOND[:2]])
    a, b = tokenizer.encode(FIRST), tokenizer.encode(SECOND)
    results: dict[str, Any] = {"tokens": {"a": a, "b": b}}
    for name, template in text_formats(tokenizer).items():
        results[name] = {
            "one": written_texts(template, a, None, 16),
            "pair": written_texts(template, a, b, 16),
            "other_order": written_texts(template, b, a, 16),
            "windows": written_windows(template, a, b),
        }
    results["translation"] = written_translation(tokenizer, a, b)
    return results


# The tests.


@pytest.fixture(scope="module")
def golden() -> dict[str, Any]:
    return json.loads(GOLDEN.read_text(encoding="utf-8"))


def test_the_file_holds_what_is_tested(golden: dict[str, Any]) -> None:
    assert golden["runs"].keys() == RUNS.keys()
    assert golden["names"].keys() == COMMANDS.keys()
    assert all(len(run["losses"]) == 12 for run in golden["runs"].values())


@pytest.mark.parametrize("name", RUNS)
def test_a_run_gives_the_same_numbers(name: str, golden: dict[str, Any], tmp_path: Path) -> None:
    ours, written = fingerprint()["torch"], golden["fingerprint"]["torch"]
    if ours.split(".")[:2] != written.split(".")[:2]:
        pytest.skip(f"torch {ours} draws other random numbers than torch {written}, with which the file was written")
    results, expected = measured(name, tmp_path), golden["runs"][name]
    if fingerprint() == golden["fingerprint"]:
        assert results == expected
        return
    assert results["losses"] == pytest.approx(expected["losses"], rel=TOLERANCE)
    assert results["scores"].keys() == expected["scores"].keys()
    for score, value in results["scores"].items():
        if not score.endswith("_threshold"):
            share = TOLERANCE if score.endswith("loss") else 10 * TOLERANCE
            slack = 0 if score.endswith(("loss", "perplexity")) else TIPPED
            assert value == pytest.approx(expected["scores"][score], rel=share, abs=slack), score


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    return {name: named(name, tmp_path_factory.mktemp(name)) for name in COMMANDS}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_run_folder_has_the_same_name(name: str, golden: dict[str, Any], names: dict[str, dict[str, str]]) -> None:
    assert names[name]["name"] == golden["names"][name]["name"]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_has_the_same_settings(name: str, golden: dict[str, Any], names: dict[str, dict[str, str]]) -> None:
    assert names[name]["settings"] == golden["names"][name]["settings"]


def test_a_text_is_written_in_the_same_way(golden: dict[str, Any]) -> None:
    assert encoded() == golden["formats"]


# Writing the file.


def apart(work: Callable[[str, Path], Any], names: Sequence[str]) -> dict[str, Any]:
    """What `work` gives for each name, in an empty folder each."""
    results = {}
    for name in names:
        print(name, file=sys.stderr)
        with tempfile.TemporaryDirectory() as folder:
            results[name] = work(name, Path(folder))
    return results


def write(parts: Sequence[str]) -> None:
    """Measure these parts (all of them, where none is named) and put them into golden.json."""
    import torch

    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    torch.set_num_threads(1)
    results: dict[str, Any] = json.loads(GOLDEN.read_text(encoding="utf-8")) if parts else {}
    for part in parts or ("runs", "names", "formats"):
        if part == "runs":
            results |= {"fingerprint": fingerprint(), "runs": apart(measured, list(RUNS))}
        elif part == "names":
            results["names"] = apart(named, list(COMMANDS))
        elif part == "formats":
            results["formats"] = encoded()
        else:
            raise SystemExit(f"{part}: no such part; runs, names or formats")
    GOLDEN.write_text(lines(results) + "\n", encoding="utf-8")


def lines(value: Any, indent: str = "") -> str:
    """JSON with a line for each entry of an object, so that a difference is seen, and lists on one line."""
    if not isinstance(value, dict) or not value:
        return json.dumps(value, ensure_ascii=False)
    inner = f"{indent}  "
    entries = [f"{inner}{json.dumps(key)}: {lines(item, inner)}" for key, item in value.items()]
    return "{\n" + ",\n".join(entries) + f"\n{indent}}}"


if __name__ == "__main__":
    if sys.argv[1:2] != ["--write"]:
        raise SystemExit(__doc__)
    write(sys.argv[2:])
