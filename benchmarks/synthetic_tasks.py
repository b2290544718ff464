"""Instances of GPT-3's arithmetic and word-scrambling tasks, drawn by the paper's rule where its own files are missing.

    python benchmarks/synthetic_tasks.py --data DATA --out FOLDER
    python train.py ... task=incontext/arithmetic/3da source=local source.root=FOLDER

DATA is a folder in the hub's layout with `EleutherAI/unscramble/{cycle_letters_in_word,reversed_words}`, whose answers are the
words to scramble. Of each task FOLDER gets `EleutherAI/<set>/<subset>/validation.jsonl` in the columns and the wording of
GPT-3's files, `context` and `completion`.

Operands are drawn uniformly from all numbers of at most so many digits (arXiv 2005.14165, section 3.9.1), 2,000 different
problems of each kind, as in the paper's files of two digits. Scrambled words (section 3.9.2) keep their first and last letter,
or the first and last two, or get a sign or a space between any two letters.

Differs: the words are those of the two files, not the 10,000 of the paper. An anagram is drawn anew where it is the word itself
and another order exists. The paper does not list the signs that it inserts: these are `SIGNS`, with those of its example.
"""

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random
from typing import NamedTuple

import pyarrow.parquet as pq

PROBLEMS = 2000
SIGNS = " .,!?/-"
WORD_FILES = ("cycle_letters_in_word", "reversed_words")


class Operation(NamedTuple):
    """How a problem is worded and solved."""

    word: str
    solve: Callable[[int, int], int]


PLUS = Operation("plus", lambda left, right: left + right)
MINUS = Operation("minus", lambda left, right: left - right)
TIMES = Operation("times", lambda left, right: left * right)
ARITHMETIC = {
    "2dm": (2, TIMES),
    "3da": (3, PLUS),
    "3ds": (3, MINUS),
    "4da": (4, PLUS),
    "4ds": (4, MINUS),
    "5da": (5, PLUS),
    "5ds": (5, MINUS),
}


class Row(NamedTuple):
    """A row of GPT-3's files."""

    context: str
    completion: str


def arithmetic(digits: int, operation: Operation, count: int, random: Random) -> Iterator[Row]:
    """Different problems with two operands of at most `digits` digits."""
    seen: set[tuple[int, int]] = set()
    while len(seen) < count:
        operands = random.randrange(10**digits), random.randrange(10**digits)
        if operands not in seen:
            seen.add(operands)
            left, right = operands
            answer = operation.solve(left, right)
            yield Row(f"\n\nQ: What is {left} {operation.word} {right}?\n\nA:", f" {answer}")


def anagram(word: str, kept: int, random: Random) -> str:
    """The word with its letters mixed, but for `kept` at either end."""
    inner = list(word[kept:-kept])
    mixed = list(inner)
    while len(set(inner)) > 1 and mixed == inner:
        random.shuffle(mixed)
    return word[:kept] + "".join(mixed) + word[-kept:]


def insertion(word: str, random: Random) -> str:
    """The word with a random sign or space between any two letters."""
    return word[0] + "".join(random.choice(SIGNS) + character for character in word[1:])


SCRAMBLES: dict[str, Callable[[str, Random], str]] = {
    "mid_word_1_anagrams": lambda word, random: anagram(word, 1, random),
    "mid_word_2_anagrams": lambda word, random: anagram(word, 2, random),
    "random_insertion_in_word": insertion,
}


def scrambled(words: Sequence[str], scramble: Callable[[str, Random], str], random: Random) -> Iterator[Row]:
    """Each word once."""
    for word in words:
        yield Row(f"\n{scramble(word, random)} =", f" {word}")


def read_words(data: Path) -> list[str]:
    """The answers of both files of words, each once, in order."""
    words: dict[str, None] = {}
    for name in WORD_FILES:
        for path in sorted((data / "EleutherAI/unscramble" / name).glob("validation*.parquet")):
            words.update(dict.fromkeys(text.strip() for text in pq.read_table(path)["completion"].to_pylist()))
    if not words:
        raise SystemExit(f"{data}/EleutherAI/unscramble: no validation*.parquet of {' or '.join(WORD_FILES)}")
    return list(words)


def write(out: Path, name: str, subset: str, rows: Iterator[Row]) -> None:
    """A split of a data set in the hub's layout."""
    path = out / "EleutherAI" / name / subset / "validation.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row._asdict()) + "\n" for row in rows), encoding="utf-8")
    print(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="data sets in the hub's layout")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    words = read_words(options.data)
    for task, (digits, operation) in ARITHMETIC.items():
        rows = arithmetic(digits, operation, PROBLEMS, Random(f"{task}/{options.seed}"))
        write(options.out, "arithmetic", f"arithmetic_{task}", rows)
    for subset, scramble in SCRAMBLES.items():
        rows = scrambled(words, scramble, Random(f"{subset}/{options.seed}"))
        write(options.out, "unscramble", subset, rows)


if __name__ == "__main__":
    main()
