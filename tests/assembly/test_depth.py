"""A depth that is typed and the layers of initial weights."""

from pathlib import Path

import pytest
from tokenizers import Tokenizer as HFTokenizer
from tokenizers.models import WordLevel

from protoformer.assembly import model
from protoformer.assembly.initial_weights import InitialWeights
from protoformer.config.compose import compose
from protoformer.errors import ConfigurationError
from protoformer.text.tokenizers import Tokenizer


def test_a_depth_that_the_initial_weights_contradict_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tokenizer = Tokenizer(HFTokenizer(WordLevel({"a": 0}, unk_token="a")), "a test")
    monkeypatch.setattr(model, "initial_sizes", lambda *_: {"n_layers": 2})
    initial = InitialWeights(str(tmp_path), tmp_path, True)
    typed = compose(["model=gpt2_ladder", "model.depth=3", "task=pretrain/clm"])
    with pytest.raises(
        ConfigurationError, match=r"^model\.depth=3 is set, but .* has n_layers=2; leave one of them out$"
    ):
        model.resolve_model(typed, initial, tokenizer)
