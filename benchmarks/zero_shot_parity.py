"""LAMBADA and WikiText-2 of exported GPT-2 weights by a plain loop of transformers, which shares no code with protoformer.

    protoformer export RUN FOLDER
    python benchmarks/zero_shot_parity.py FOLDER --data DATA [--tasks lambada wikitext2]

Prints the last word's perplexity and accuracy (a word is right where each of its tokens is the most probable one), and the
perplexity per token in windows as long as the model's positions, which advance by as much. `protoformer` has these numbers as
`lm/lambada` and `lm/wikitext2`.
"""

import argparse
import math
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import torch
from tokenizers import Tokenizer
from transformers import GPT2LMHeadModel

END_OF_TEXT = "<|endoftext|>"


def lambada(model: GPT2LMHeadModel, tokenizer: Tokenizer, texts: list[str]) -> str:
    log_prob, right = 0.0, 0
    for text in texts:
        context = text[: text.rstrip().rindex(" ")]
        ids, start = tokenizer.encode(text).ids, len(tokenizer.encode(context).ids)
        excess = max(0, len(ids) - 1 - model.config.n_positions)
        ids, start = ids[excess:], start - excess
        log_probs = model(torch.tensor([ids[:-1]])).logits[0, start - 1 :].log_softmax(-1)
        targets = torch.tensor(ids[start:])
        log_prob += float(log_probs.gather(1, targets[:, None]).double().sum())
        right += bool((log_probs.argmax(-1) == targets).all())
    return f"perplexity {math.exp(-log_prob / len(texts)):.4f}, accuracy {100 * right / len(texts):.2f} of {len(texts)} words"


def wikitext2(model: GPT2LMHeadModel, tokenizer: Tokenizer, rows: list[str]) -> str:
    ids = [tokenizer.token_to_id(END_OF_TEXT), *tokenizer.encode("\n\n".join(rows)).ids]
    size, loss = model.config.n_positions, 0.0
    for done in range(1, len(ids), size):
        stop = min(done + size, len(ids))
        window = torch.tensor(
            ids[max(0, stop - size - 1) : stop]
        )  # the last one reaches back, to be as long as the others
        logits = model(window[None, :-1]).logits[0, done - stop :]
        loss += float(torch.nn.functional.cross_entropy(logits.double(), window[done - stop :], reduction="sum"))
    return f"perplexity per token {math.exp(loss / (len(ids) - 1)):.4f} of {len(ids) - 1:,} tokens"


def texts(data: Path, pattern: str) -> Iterator[str]:
    for path in sorted(data.glob(pattern)):
        yield from pq.read_table(path)["text"].to_pylist()


TASKS = {
    "lambada": (lambada, "EleutherAI/lambada_openai/default/test*.parquet"),
    "wikitext2": (wikitext2, "Salesforce/wikitext/wikitext-2-raw-v1/test*.parquet"),
}


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("model", type=Path, help="a folder in the layout of Hugging Face")
    parser.add_argument("--data", type=Path, required=True, help="data sets in the hub's layout")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = GPT2LMHeadModel.from_pretrained(options.model).eval()
    tokenizer = Tokenizer.from_file(str(options.model / "tokenizer.json"))
    tokenizer.no_truncation()
    for name in options.tasks:
        score, pattern = TASKS[name]
        rows = list(texts(options.data, pattern))
        if not rows:
            raise SystemExit(f"{options.data / pattern}: no such file")
        print(f"{name}: {score(model, tokenizer, rows)}", flush=True)


if __name__ == "__main__":
    main()
