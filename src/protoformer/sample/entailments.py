"""SNLI and SciTail in miniature: what follows from a premise, with numbers or words for labels."""

from random import Random

import pyarrow as pa

from protoformer.sample.glue import Rows, events
from protoformer.sample.grammar.inference import inference

SNLI = pa.schema([("premise", pa.string()), ("hypothesis", pa.string()), ("label", pa.int64())])
SCITAIL = pa.schema([(name, pa.string()) for name in ("premise", "hypothesis", "label")])
DISAGREED = 0.02  # fraction of SNLI's rows whose annotators found no label (-1)


def snli(random: Random, buckets: range) -> Rows:
    """Three relations, in the order of MNLI's labels."""
    fresh = events(random, buckets, said=0.5, negated=0.0)
    while True:
        label = random.randrange(3)
        premise, hypothesis = inference(random, fresh, label, "town")
        agreed = random.random() >= DISAGREED
        yield {"premise": premise, "hypothesis": hypothesis, "label": label if agreed else -1}


def scitail(random: Random, buckets: range) -> Rows:
    """Entailed, or not said."""
    fresh = events(random, buckets, said=0.4, negated=0.1)
    while True:
        label = random.randrange(2)
        premise, hypothesis = inference(random, fresh, label, "town")
        yield {"premise": premise, "hypothesis": hypothesis, "label": ("entails", "neutral")[label]}
