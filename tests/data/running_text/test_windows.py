"""Windows of running text: every token is a target once, with the context that a stride promises."""

import numpy as np
import pytest

from protoformer.data.running_text.table import WindowCollate, window_table
from protoformer.data.running_text.windows import check_stride, windows
from protoformer.errors import ConfigurationError


@pytest.mark.parametrize(("window", "stride"), [(4, 1), (4, 3), (4, 4), (9, 2), (50, 7), (1, 1)])
@pytest.mark.parametrize("tokens", [1, 2, 5, 30])
def test_every_token_is_a_target_once(window: int, stride: int, tokens: int) -> None:
    targets: list[int] = []
    for each in windows(tokens, window, stride):
        own = range(each.stop - each.targets, each.stop)
        assert each.stop - each.start <= window + 1
        for target in own if each.start else ():
            assert target - each.start >= window - stride + 1  # tokens before it
        targets += own
    assert targets == list(range(1, tokens))


def test_batches_hold_every_target_of_every_text_once_for_each_stride() -> None:
    texts = [list(range(100, 117)), [], [200], list(range(300, 309))]
    table = window_table(texts, 7, 6, [6, 2])
    batch = WindowCollate(table, 0)([*range(len(table)), -1])  # the last one is a dummy
    assert batch["example_ids"].tolist() == [*range(len(table)), -1]
    stride = np.asarray(table.stride)
    for each in (6, 2):
        rows = batch["target_ids"][:-1][stride == each]
        assert sorted(rows[rows >= 0].tolist()) == sorted(token for text in texts for token in text)
    assert (batch["target_ids"][-1] == -1).all()
    for number, length in enumerate(table.lengths.tolist()):  # a target is the token behind the one that is read there
        read, targets = batch["ids"][number, :length], batch["target_ids"][number, :length]
        scored = (targets >= 0).nonzero().squeeze(1).tolist()
        assert scored == list(range(length - int(table.targets[number]), length))
        assert all(read[place + 1] == targets[place] for place in scored[:-1])
        assert batch["padding_mask"][number].sum() == length


@pytest.mark.parametrize("stride", [0, 7])
def test_a_stride_that_leaves_tokens_out_is_refused(stride: int) -> None:
    with pytest.raises(ConfigurationError, match=f"task.stride={stride}: a stride is from 1 to the window of 6 tokens"):
        check_stride(stride, 6, "task.stride")
