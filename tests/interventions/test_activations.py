"""Activations that are kept and replaced: their shapes, that they are what the model computes, and what replacing them does."""

import pytest
import torch

import protoformer
from protoformer.errors import ConfigurationError
from protoformer.inference.load import LoadedRun
from protoformer.interventions.activations import hook_points, replaced
from protoformer.interventions.heads import Head, ablated
from protoformer.models.transformer import transformer

from ..inference.test_predict import write_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> LoadedRun:
    """A tiny BERT over a classifier, with random weights that matter."""
    opened = protoformer.load(write_run(tmp_path_factory.mktemp("run"), "glue/mrpc"))
    torch.manual_seed(0)
    for parameter in opened.model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return opened


def test_shapes_and_values(run: LoadedRun) -> None:
    cache = run.cache("x y", "z")
    encoded = run.encode("x y", "z")
    tokens, width = len(encoded.tokens), encoded.hidden_states.shape[-1]
    assert cache.tokens == encoded.tokens
    for layer in (1, 2):
        torch.testing.assert_close(cache[f"layers.{layer}"], encoded.hidden_states[layer])
        assert (
            cache[f"layers.{layer}.attention"].shape == cache[f"layers.{layer}.feed_forward"].shape == (tokens, width)
        )
        assert cache[f"layers.{layer}.heads"].shape == (tokens, 2, width // 2)
        output = run.model.backbone.stack.layers[layer - 1].attention.output  # type: ignore[union-attr, index]
        heads = cache[f"layers.{layer}.heads"].flatten(1)
        torch.testing.assert_close(output(heads), cache[f"layers.{layer}.attention"])
    torch.testing.assert_close(cache["embeddings"], encoded.hidden_states[0])
    assert len(cache) == 9
    assert f"layers.2.heads: ({tokens}, 2, {width // 2})" in repr(cache)
    with pytest.raises(KeyError, match=r"no activation 'layers\.1\.head'; did you mean layers\.1\.heads"):
        cache["layers.1.head"]


def test_a_models_own_activations_change_nothing(run: LoadedRun) -> None:
    own, other, predicted = run.cache("x y", "z"), run.cache("z x", "y"), run.predict("x y", "z")
    with run.patch(own):
        assert run.predict("x y", "z") == predicted
    with run.patch({"layers.1.heads": own["layers.1.heads"], "layers.2": lambda tensor: tensor}):
        assert run.predict("x y", "z") == predicted
    assert run.predict("x y", "z") == predicted
    assert not torch.equal(own["layers.1"], other["layers.1"])


def test_what_follows_a_replaced_layer_is_of_the_other_text(run: LoadedRun) -> None:
    own, other = run.cache("x y", "z"), run.cache("z x", "y")
    assert run.predict("x y", "z") != run.predict("z x", "y")
    with run.patch({"layers.1": other["layers.1"]}):
        assert run.predict("x y", "z") == run.predict("z x", "y")
        patched = run.cache("x y", "z")
    torch.testing.assert_close(patched["layers.2"], other["layers.2"])
    torch.testing.assert_close(patched["layers.1.attention"], own["layers.1.attention"])  # before what is replaced


def test_a_head_of_zeros_is_a_head_that_is_left_out(run: LoadedRun) -> None:
    heads = run.cache("x y", "z")["layers.2.heads"].clone()
    heads[:, 1] = 0
    with run.patch({"layers.2.heads": heads}):
        patched = run.cache("x y", "z")["layers.2"]
    with run.patch({"layers.2.heads": lambda divided: divided * torch.tensor([[1.0], [0.0]])}):
        torch.testing.assert_close(run.cache("x y", "z")["layers.2"], patched)
    with ablated(run.model.backbone, [Head("", 2, 2)]):
        torch.testing.assert_close(run.cache("x y", "z")["layers.2"], patched)


def test_what_cannot_be_patched_is_refused(run: LoadedRun) -> None:
    own = run.cache("x y", "z")
    with (
        pytest.raises(ConfigurationError, match=r"no activation 'layer\.1'; did you mean layers\.1"),
        run.patch({"layer.1": own["layers.1"]}),
    ):
        pass
    transposed = own["layers.2.heads"].transpose(0, 1)  # as many numbers
    for replacement, said in (
        (transposed, r"layers\.2\.heads: a value of shape \(2, \d, 8\) for an activation of shape \(\d, 2, 8\): patch"),
        (lambda heads: heads[..., :1], r"layers\.2\.heads: a value of shape .*, 1\) for an activation of shape"),
        (lambda heads: None, r"layers\.2\.heads: the function gave a NoneType"),
        (own["layers.2.heads"].numpy(), r"layers\.2\.heads: a ndarray, where a tensor or a function was expected"),
    ):  # fmt: skip
        with pytest.raises(ConfigurationError, match=said), run.patch({"layers.2.heads": replacement}):
            run.predict("x y", "z")
    message = (
        r"layers\.1: a value of shape \(\d, \d+\) for an activation of shape .*: patch a single text of as many tokens"
    )
    with run.patch(own), pytest.raises(ConfigurationError, match=message.replace(r"layers\.1", ".*")):
        run.predict("x", "y")


def test_names_of_an_encoder_decoder() -> None:
    model = transformer(vocab_size=50, d_model=16, n_layers=1, n_heads=2, d_ff=32, max_seq_len=16, dropout=0.0)
    own = ["layers.1.heads", "layers.1.attention"]
    assert list(hook_points(model)) == [
        "encoder.embeddings",
        *(f"encoder.{name}" for name in (*own, "layers.1.feed_forward", "layers.1")),
        *(f"decoder.{name}" for name in own),
        *(f"decoder.layers.1.{name}" for name in ("cross_heads", "cross_attention", "feed_forward")),
        "decoder.layers.1",
    ]
    ids, mask = torch.tensor([[1, 2, 3]]), torch.ones(1, 3, dtype=torch.bool)
    model.eval()
    with torch.no_grad():
        whole = model(ids, mask, ids, mask).to_padded()
        with replaced(model, {"decoder.layers.1.cross_attention": torch.zeros_like}):
            without = model(ids, mask, ids, mask).to_padded()
    assert (whole - without).abs().max() > 1e-3
