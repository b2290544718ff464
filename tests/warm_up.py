"""What each process works out once and remembers: signatures of what configs build, digests of the code. For `preloaded`."""

import pandas  # noqa: F401  as pyarrow imports it

from protoformer.config.compose import compose
from protoformer.runs.digests import code_digest

for words in (
    "model=bert task=glue/mrpc source=sample init_from=scratch tracking=none",
    "model=transformer_tiny task=translate/multi30k_en_de source=sample tracking=none",
):
    code_digest(compose(words.split()))
