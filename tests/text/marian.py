"""Folders of words as Marian's are: two SentencePiece models under one numbering."""

import io
import json
import random
from pathlib import Path

import sentencepiece
import transformers

WORDS = (
    *("the", "a", "cat", "dog", "house", "green", "walks", "sleeps", "under", "over", "bridge", "river", "slowly"),
    *("two", "three", "na\u00efve", "caf\u00e9", "tell", "10", "1999", "\u00bd", "\ufb01ne"),
)


def sentences(seed: int, count: int = 400) -> list[str]:
    draw = random.Random(seed)
    return [
        " ".join(draw.choices(WORDS, k=draw.randint(1, 9))) + draw.choice([".", "!", "?", ""]) for _ in range(count)
    ]


def learnt(texts: list[str], size: int, **more: object) -> bytes:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_writer=model,
        vocab_size=size,
        hard_vocab_limit=False,
        minloglevel=2,
        **more,
    )
    return model.getvalue()


def write(folder: Path, **more: object) -> Path:
    """A folder as Marian's are: numbers of both sides' pieces, the end first, padding last."""
    texts = sentences(1)
    sides = {"source.spm": learnt(texts, 120, **more), "target.spm": learnt(other(texts), 120, **more)}
    pieces = ["</s>", "<unk>", ">>de<<"]
    for name, content in sides.items():
        (folder / name).write_bytes(content)
        model = sentencepiece.SentencePieceProcessor(model_proto=content)
        pieces += [model.id_to_piece(number) for number in range(3, model.get_piece_size())]
    numbers = {piece: number for number, piece in enumerate([*dict.fromkeys(pieces), "<pad>"])}
    (folder / "vocab.json").write_text(json.dumps(numbers))
    (folder / "tokenizer_config.json").write_text(json.dumps({"source_lang": "en", "target_lang": "de"}))
    return folder


def other(texts: list[str]) -> list[str]:
    """Another language: words turned round, with letters that the first one has not."""
    return [" ".join(word[::-1].replace("e", "ß").replace("o", "öa") for word in text.split()) for text in texts]


def write_model(folder: Path) -> transformers.MarianMTModel:
    """The whole folder, with a tiny model of random weights, as `Helsinki-NLP/opus-mt-*` lay it out."""
    folder.mkdir()
    numbers = json.loads((write(folder) / "vocab.json").read_text())
    config = transformers.MarianConfig(
        vocab_size=len(numbers), d_model=16, encoder_layers=2, decoder_layers=2, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=24, decoder_ffn_dim=24, max_position_embeddings=64, init_std=0.4,
        activation_function="swish", scale_embedding=True, eos_token_id=numbers["</s>"], forced_eos_token_id=None,
        pad_token_id=numbers["<pad>"], decoder_start_token_id=numbers["<pad>"],
    )  # fmt: skip
    model = transformers.MarianMTModel(config).eval()
    model.save_pretrained(folder)
    return model
