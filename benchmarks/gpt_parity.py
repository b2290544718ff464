"""GPT and GPT-2 compared with other libraries: logits of models of full size, and ids of the published vocabularies.

    python benchmarks/gpt_parity.py logits [--models gpt gpt2 gpt2_medium]
    python benchmarks/gpt_parity.py ids --gpt <openai-gpt vocabulary> --gpt2 <gpt2 vocabulary> [--texts <parquet> ...]
    python benchmarks/gpt_parity.py normalization --texts <parquet> ...
    python benchmarks/gpt_parity.py sizes

`logits` fills a model of `transformers` at random (biases and norms too), in its published shape, and compares one text as long
as it has positions, there and back. `ids` needs folders with `vocab.json` and `merges.txt`, and `tiktoken` with its
`r50k_base` (offline: TIKTOKEN_CACHE_DIR); its strings are fuzzed, and cells of the given files. `normalization` needs `ftfy`
and `spacy`, which the project does not need, and compares `model.normalization=original` with the paper code's pipeline.
`sizes` counts parameters on the meta device.
"""
# ruff: noqa: RUF001

import argparse
import json
import random
import re
import tempfile
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import save_file
from torch import nn

from protoformer.models import weights
from protoformer.models.decoder import Decoder
from protoformer.models.gpt import gpt
from protoformer.models.hf.gpt import Gpt2Weights, GptWeights
from protoformer.text.normalization import original
from protoformer.text.tokenizer_files import read_tokenizer

SHAPES: dict[str, dict[str, int]] = {
    "gpt": {"n_embd": 768, "n_layer": 12, "n_head": 12, "vocab_size": 40478, "n_positions": 512},
    "gpt2": {"n_embd": 768, "n_layer": 12, "n_head": 12, "vocab_size": 50257, "n_positions": 1024},
    "gpt2_medium": {"n_embd": 1024, "n_layer": 24, "n_head": 16, "vocab_size": 50257, "n_positions": 1024},
    "gpt2_large": {"n_embd": 1280, "n_layer": 36, "n_head": 20, "vocab_size": 50257, "n_positions": 1024},
}
PRINTED = {  # by the papers: Radford et al. 2018 prints none, 2019 in table 2, arXiv 2005.14165 in table 2.1
    "gpt": "-",
    "gpt2": "117M",
    "gpt2_medium": "345M",
    "gpt2_large": "762M",
    "gpt2_xl": "1542M",
    "gpt3_small": "125M",
    "gpt3_medium": "350M",
    "gpt3_large": "760M",
    "gpt3_xl": "1.3B",
    "gpt3_2b7": "2.7B",
    "gpt3_6b7": "6.7B",
    "gpt3_13b": "13.0B",
    "gpt3_175b": "175.0B",
}
ALPHABETS = {
    "latin": "abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ 0123456789 '.,!?-\n\t",
    "accents": "äöüßéèñçøåÆŒıİ\u0308\u0301'a e",
    "scripts": "中文字かなカナ한글ไทยहिन्दी العربية עברית Ελληνικά кириллица",
    "emoji": "🙂👍🏽👨\u200d👩\u200d👧🇩🇪☃\ufe0f♥ \ufe0f",
    "whitespace": " \u00a0\u2003\u3000\u200b\u2028\u0085\ufeff\r\n\t\x0b\x0c ",
    "controls": "".join(map(chr, range(32))) + "\x7f\x80\x9f\ufffd\ue000 a",
    "marks": "“”‘’—–…´`\"'()[]{}<>@#$%^&*_+=|\\/~;:",
    "contractions": "'s't're've'm'll'd'S ' ",
}


def fuzzed(count: int, seed: int) -> Iterator[tuple[str, str]]:
    """Strings and the alphabets they are of: one, several, or all of Unicode (as far as Python's tables know it)."""
    draw = random.Random(seed)
    assigned = [chr(n) for n in range(0x110000) if unicodedata.category(chr(n)) not in ("Cn", "Cs", "Co")]
    for number in range(count):
        names = draw.sample(sorted(ALPHABETS), draw.choice((1, 1, 2, 3)))
        everything = number % 10 == 0
        characters: Sequence[str] = assigned if everything else "".join(ALPHABETS[name] for name in names)
        size = int(draw.expovariate(1 / 40))
        text = "".join(draw.choice(characters) * draw.choice((1, 1, 1, 1, 2, 5)) for _ in range(size))
        yield "all of Unicode" if everything else "one alphabet" if len(names) == 1 else "several alphabets", text


def lines(paths: Sequence[Path], most: int) -> Iterator[tuple[str, str]]:
    """Cells of text columns, `most` from each column."""
    from pyarrow import parquet

    for path in paths:
        table = parquet.ParquetFile(path).read_row_group(0)
        for column in table.columns:
            if str(column.type) in ("string", "large_string"):
                cells = [cell for cell in column.to_pylist() if cell]
                for cell in random.Random(0).sample(cells, min(most, len(cells))):
                    yield "data sets", cell[:2000]


def filled(model: Any) -> Any:
    """Random everywhere, also where a fresh model starts at 0 or 1."""
    for name, parameter in model.eval().named_parameters():
        nn.init.normal_(parameter, mean=float("ln" in name and name.endswith("weight")), std=0.05)
    return model


@torch.no_grad()
def compare_logits(names: Sequence[str]) -> None:
    print("| model | parameters | tokens | largest logit | import error | export error |\n|---|---|---|---|---|---|")
    for name in names:
        torch.manual_seed(0)
        shape = SHAPES[name]
        layout, theirs = (
            (GptWeights(), filled(transformers.OpenAIGPTLMHeadModel(transformers.OpenAIGPTConfig(**shape))))
            if name == "gpt"
            else (Gpt2Weights(), filled(transformers.GPT2LMHeadModel(transformers.GPT2Config(**shape))))
        )
        ids = torch.randint(shape["vocab_size"], (1, shape["n_positions"]))
        expected = theirs(ids).logits
        with tempfile.TemporaryDirectory() as tmp:
            folder = Path(tmp)
            theirs.save_pretrained(folder)
            model = read(folder, layout)
            ours = last_logits(model, ids)
            exported = {k: v.contiguous() for k, v in layout.to_hf("causal_lm", model.state_dict(), {}).items()}
            sizes = layout.sizes(weights.read_config(folder))
            save_file(exported, folder / "model.safetensors", metadata={"format": "pt"})
            (folder / "config.json").write_text(json.dumps(layout.hf_config("causal_lm", sizes)))
            again = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()(ids).logits
        count = sum(parameter.numel() for parameter in model.parameters())
        import_error, export_error = ((one - expected).abs().max().item() for one in (ours, again))
        largest = expected.abs().max().item()
        print(
            f"| {name} | {count:,} | {ids.numel():,} | {largest:.2f} | {import_error:.1e} | {export_error:.1e} |",
            flush=True,
        )


def read(folder: Path, layout: GptWeights) -> Decoder:
    model = gpt(**layout.sizes(weights.read_config(folder)))
    weights.load_into(model, layout.from_hf(weights.read_state(folder))[0], str(folder))
    return model.eval()


def last_logits(model: Decoder, ids: torch.Tensor) -> torch.Tensor:
    return model.logits(model(ids, torch.ones_like(ids, dtype=torch.bool)).to_padded())


def compare_ids(gpt_folder: Path, gpt2_folder: Path, texts: Sequence[tuple[str, str]]) -> None:
    import tiktoken

    plain = [text for _, text in texts]
    bytewise, pairs = read_tokenizer(gpt2_folder), read_tokenizer(gpt_folder)
    encoding = tiktoken.get_encoding("r50k_base")
    slow = transformers.OpenAIGPTTokenizer.from_pretrained(gpt_folder)
    ids = bytewise.encode(plain)
    table = {
        "GPT-2 and tiktoken's r50k_base": (ids, encoding.encode_ordinary_batch(plain)),
        "GPT (bert) and transformers' OpenAIGPTTokenizer": (
            pairs.encode(plain),
            slow(plain, add_special_tokens=False)["input_ids"],
        ),
    }
    kinds = dict.fromkeys(kind for kind, _ in texts)
    print("| compared | strings | of | tokens | differ |\n|---|---|---|---|---|")
    for title, (ours, theirs) in table.items():
        for kind in kinds:
            rows = [(a, b, text) for a, b, (of, text) in zip(ours, theirs, texts, strict=True) if of == kind]
            wrong = [text for a, b, text in rows if list(a) != list(b)]
            print(f"| {title} | {len(rows):,} | {kind} | {sum(len(a) for a, _, _ in rows):,} | {len(wrong)} |")
            for text in wrong[:3]:
                print(f"<!-- {text!r} -->")
    back = sum(bytewise.decode(row) != text for row, text in zip(ids, plain, strict=True))
    print(f"| GPT-2's ids decoded and the text | {len(plain):,} | all of these | {sum(map(len, ids)):,} | {back} |")


def compare_normalization(texts: Sequence[str]) -> None:
    import ftfy
    import spacy

    english, normalizer = spacy.blank("en"), original()
    equal = 0
    for text in texts:
        parsed = english(standardized(ftfy.fix_text(text)))
        theirs = ["\n" if token.text == "\n " else token.text.lower() for token in parsed]
        equal += [token for token in normalizer.normalize_str(text).split(" ") if token] == theirs
    print(
        f"| ftfy {ftfy.__version__}, spaCy {spacy.__version__} | {len(texts):,} texts | {equal:,} equal token by token |"
    )


def standardized(text: str) -> str:
    """The paper code's replacements between the two libraries (Radford et al. 2018, section 4.1)."""
    for mark, by in (("—", "-"), ("–", "-"), ("―", "-"), ("…", "..."), ("´", "'")):
        text = text.replace(mark, by)
    runs = "|".join(rf"\{mark}+" for mark in '-~!";?+,)(\\/*[]}{|_')
    text = re.sub(rf"({runs})", r" \1 ", text)
    return re.sub(r"[^\S\n]+", " ", re.sub(r"\s*\n\s*", " \n ", text)).strip()


def sizes() -> None:
    from hydra.utils import instantiate

    from protoformer.assembly.model import builder_arguments
    from protoformer.config.compose import compose

    print("| model | parameters | printed |\n|---|---|---|")
    for name, printed in PRINTED.items():
        arguments = builder_arguments(compose([f"model={name}", "task=pretrain/clm"])["model"])
        with torch.device("meta"):
            built = instantiate(arguments, _convert_="all")
        print(f"| {name} | {sum(parameter.numel() for parameter in built.parameters()):,} | {printed} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("comparison", choices=("logits", "ids", "normalization", "sizes"))
    parser.add_argument("--models", nargs="+", default=["gpt", "gpt2"], choices=sorted(SHAPES))
    parser.add_argument("--gpt", type=Path)
    parser.add_argument("--gpt2", type=Path)
    parser.add_argument("--texts", type=Path, nargs="*", default=[])
    parser.add_argument("--most", type=int, default=150, help="cells of each text column")
    parser.add_argument("--fuzzed", type=int, default=100_000)
    options = parser.parse_args()
    if options.comparison == "logits":
        compare_logits(options.models)
    elif options.comparison == "ids":
        compare_ids(options.gpt, options.gpt2, [*fuzzed(options.fuzzed, seed=0), *lines(options.texts, options.most)])
    elif options.comparison == "sizes":
        sizes()
    else:
        compare_normalization(list(dict.fromkeys(text for _, text in lines(options.texts, options.most))))


if __name__ == "__main__":
    main()
