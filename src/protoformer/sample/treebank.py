"""A treebank in miniature, in CoNLL-U: sentences of the sample with the trees that they were made from."""

from random import Random

from protoformer.sample.grammar.meaning import bucket, draw
from protoformer.sample.grammar.trees import conllu, tree


def treebank(random: Random, buckets: range, sentences: int) -> str:
    """CoNLL-U of so many sentences, half of them in town; a split tells of no event that another one tells of."""
    lines: list[str] = []
    while len(lines) < sentences:
        event = draw(random, random.choice(("town", "country")), said=0.5, negated=0.2)
        passive, synonym = random.random() < 0.3, random.random() < 0.3
        if bucket(event.core) in buckets:
            lines.append(conllu(tree(event, passive=passive, synonym=synonym), f"sample-{len(lines) + 1}"))
    return "".join(lines)
