"""Words of a command line with values that Hydra does not read bare."""

import pytest

from protoformer.config.compose import compose
from protoformer.config.groups import search_path
from protoformer.config.overrides import parsed
from protoformer.errors import ConfigurationError

PATHS = [
    "/tmp/é", "/data/日本", "/tmp/a=b", "/tmp/a[b]", "/tmp/a{b}", "/tmp/a(b)", "/tmp/a#b", "/tmp/a'b", '/tmp/a"b', "/tmp/a&b",
    "/tmp/~a", "/tmp/it's [1] #2", "/tmp/é\\'x", "/tmp/é\\", "~/é", "/tmp/a b", "/tmp/a:b%c*d",
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("prefix", ["", "+", "++"])
def test_a_path_with_any_mark_is_read_as_it_is(path: str, prefix: str) -> None:
    ((_, override),) = parsed([f"{prefix}source.root={path}"], search_path())
    assert override.value() == path


def test_a_path_goes_into_the_config_as_it_is() -> None:
    words = ["model=bert_l2_h128", "task=glue/cola", "source=local"]
    assert compose([*words, "source.root=/tmp/it's é [1]"])["source"]["root"] == "/tmp/it's é [1]"


@pytest.mark.parametrize("word", ["source.root=[/tmp/é]", "source.root=/tmp/é,/tmp/b", "recipe.lr=[1"])
def test_what_cannot_be_read_says_how_it_is_quoted(word: str) -> None:
    with pytest.raises(
        ConfigurationError, match=r"cannot be read as key=value \(.*quote a value with marks: '.*=\"\.\.\.\"'$"
    ):
        parsed([word], search_path())


def test_a_pattern_of_options_is_a_sweep_over_those_that_fit() -> None:
    ((word, override),) = parsed(["task=glob(glue/r*)"], search_path())
    assert (word, override.is_sweep_override()) == ("task=glue/rte", False)
    ((word, _),) = parsed(["task=glob([glue/q*,glue/mrpc], exclude=glue/qnli)"], search_path())
    assert word == "task=glue/mrpc,glue/qqp"
    with pytest.raises(ConfigurationError, match=r"task=glob\(nix\*\): fits none of "):
        parsed(["task=glob(nix*)"], search_path())
