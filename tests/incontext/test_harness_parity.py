"""The same log-likelihoods as the Hugging Face backend of lm-evaluation-harness, on the same weights and texts."""

from pathlib import Path

import pytest
import torch
import transformers
from tokenizers import Tokenizer as HFTokenizer
from tokenizers import decoders, models, pre_tokenizers
from torch import nn

from protoformer.assembly.build import build_datamodule
from protoformer.assembly.instantiate import instantiate
from protoformer.config.compose import compose
from protoformer.data.prompts.datamodule import InContextDataModule
from protoformer.incontext.prefix_scoring import PrefixScorer, Request
from protoformer.models import weights
from protoformer.models.gpt import gpt
from protoformer.models.hf.gpt import Gpt2Weights
from protoformer.text.tokenizers import END_OF_TEXT, Tokenizer

harness = pytest.importorskip("lm_eval.models.huggingface", reason="pip install -e .[harness]")

SIZES = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 512}


def tokenizer() -> HFTokenizer:
    """A token a byte."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    built = HFTokenizer(models.BPE(vocab={symbol: number for number, symbol in enumerate(alphabet)}, merges=[]))
    built.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    built.decoder = decoders.ByteLevel()
    built.add_special_tokens([END_OF_TEXT])
    return built


@pytest.mark.slow  # the harness takes ten seconds to import
@pytest.mark.parametrize(
    "words",
    [
        ["task=incontext/copa"],
        ["task=incontext/copa", "task.shots=3"],
        ["task=incontext/swag", "task.shots=1"],
        ["task=incontext/glue/rte", "task.shots=1"],
    ],
)
def test_log_likelihoods_are_those_of_the_harness(words: list[str], tmp_path: Path) -> None:
    from lm_eval.api.instance import Instance

    vocabulary = tokenizer()
    torch.manual_seed(0)
    config = transformers.GPT2Config(vocab_size=vocabulary.get_vocab_size(), **SIZES)
    theirs = transformers.GPT2LMHeadModel(config).eval()
    for name, parameter in theirs.named_parameters():
        nn.init.normal_(parameter, mean=float("ln" in name and name.endswith("weight")), std=0.2)
    ours = gpt(
        vocab_size=config.vocab_size, d_model=32, n_layers=2, n_heads=4, d_ff=128, max_seq_len=512, norm="pre"
    ).eval()
    weights.load_into(ours, Gpt2Weights().from_hf(theirs.state_dict())[0], "theirs")

    run = ["model=gpt2", *words, "source=sample", "source.rows=12", "model.max_seq_len=512", f"paths.cache={tmp_path}"]
    composed = compose(run)
    own = Tokenizer(vocabulary, "bytes")
    data = build_datamodule(composed, instantiate(composed, "source"), own)
    assert isinstance(data, InContextDataModule)
    data.setup()
    ((table,),) = [list(tables.values()) for tables in data.tables.values() if tables]
    sequences = [each for example in range(len(table)) for each in table.sequences(example)]
    likelihoods = PrefixScorer(ours).score([Request(each.ids, each.start) for each in sequences])

    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=vocabulary, eos_token=END_OF_TEXT)
    backend = harness.HFLM(pretrained=theirs, tokenizer=fast, batch_size=4, device="cpu")
    pairs = [(own.decode(each.ids[: each.start]), own.decode(each.ids[each.start :])) for each in sequences]
    expected = backend.loglikelihood(
        [Instance("loglikelihood", doc={}, arguments=pair, idx=index) for index, pair in enumerate(pairs)],
        disable_tqdm=True,
    )
    assert len(likelihoods) == len(expected) > 20
    for one, (log_prob, is_greedy) in zip(likelihoods, expected, strict=True):
        assert one.total / len(one.log_probs) == pytest.approx(log_prob / len(one.log_probs), abs=1e-3)
        assert one.is_greedy == is_greedy
