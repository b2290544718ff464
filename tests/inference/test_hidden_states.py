"""`encode` of opened models against `transformers`: hidden states of every layer, and attention weights."""

from pathlib import Path

import pytest
import torch
import transformers

import protoformer
from protoformer.errors import ConfigurationError

from .test_load_published import WORDS, bert, inputs
from .test_predict import write_run


def test_hidden_states_and_attention_of_bert(tmp_path: Path) -> None:
    bert(tmp_path / "m", "BertModel")
    theirs = transformers.BertModel.from_pretrained(tmp_path / "m", attn_implementation="eager").eval()
    opened = protoformer.load(tmp_path / "m")
    for texts in (("x y z",), ("x y", "z ?")):
        with torch.no_grad():
            expected = theirs(**inputs(*texts), output_hidden_states=True, output_attentions=True)
        encoded = opened.encode(*texts)
        seq = len(encoded.tokens)
        assert encoded.hidden_states.shape == (3, seq, 16)
        assert encoded.attention is not None
        assert encoded.attention.shape == (2, 2, seq, seq)
        torch.testing.assert_close(encoded.hidden_states, torch.cat(expected.hidden_states), atol=2e-5, rtol=1e-4)
        torch.testing.assert_close(encoded.attention, torch.cat(expected.attentions), atol=1e-5, rtol=1e-4)
        assert torch.equal(encoded.last_hidden_state, encoded.hidden_states[-1])
    assert encoded.tokens == ["[CLS]", "x", "y", "[SEP]", "z", "?", "[SEP]"]
    assert encoded.segment_ids.tolist() == [0, 0, 0, 0, 1, 1, 1]
    several = opened.encode(["x y z", "x"])
    assert [len(each.tokens) for each in several] == [5, 3]
    torch.testing.assert_close(several[0].hidden_states, opened.encode("x y z").hidden_states)
    assert "hidden_states=(3, 5, 16)" in repr(several[0])


def test_hidden_states_of_gpt2(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = transformers.GPT2Config(vocab_size=WORDS.vocab_size, n_embd=16, n_layer=2, n_head=2, n_positions=20)
    model = transformers.GPT2LMHeadModel(config).eval()
    model.save_pretrained(tmp_path)
    WORDS.save(tmp_path)
    ids = torch.tensor(WORDS.encode(["x y z"]))
    with torch.no_grad():
        expected = model(ids, output_hidden_states=True).hidden_states
    encoded = protoformer.load(tmp_path).encode("x y z")
    torch.testing.assert_close(encoded.hidden_states, torch.cat(expected), atol=1e-5, rtol=1e-4)
    assert encoded.attention is not None
    assert encoded.attention.triu(1).abs().max() == 0
    for texts, message in ((("x", "y"), "reads a single text"), (("",), "no token in it")):
        with pytest.raises(ConfigurationError, match=message):
            protoformer.load(tmp_path).encode(*texts)


def test_a_str_is_one_text(tmp_path: Path) -> None:
    run = protoformer.load(write_run(tmp_path, "glue/sst2"))
    for texts, empty in ((("",), "''"), ((" ",), "' '"), (("x", ""), "''")):
        for read in (run.encode, run.cache):
            with pytest.raises(ConfigurationError, match=f"{empty}: there is no token in it"):
                read(*texts)
    with pytest.raises(TypeError, match="a list, where one text was expected"):
        run.cache(["x"])  # type: ignore[arg-type]
    assert run.tokenizer.encode("x y") == run.tokenizer.encode(["x y"])[0]
    assert run.predict("x y") == run.predict(["x y"])[0]
    assert run.predict([]) == []
    with pytest.raises(ConfigurationError, match="2 texts and 1 pairs"):
        run.predict(["x", "y"], ["z"])
