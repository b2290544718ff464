"""`protoformer attention RUN_OR_WEIGHTS --text ...`: a page that shows what each head looks at, and which heads follow what.

Heads are named layer-head, both from 1, layer 1 being the one next to the embeddings.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from protoformer import hub
from protoformer.assembly.instantiate import instantiate
from protoformer.atomic import write_text
from protoformer.decoding.seq2seq import Seq2SeqParams, best_tokens, generate_targets
from protoformer.errors import ConfigurationError, WeightsError
from protoformer.inference.load import LoadedRun, load
from protoformer.models import weights
from protoformer.models.encoder_decoder import EncoderDecoder
from protoformer.models.hf import FAMILIES, family_of
from protoformer.text.tokenizer_files import read_tokenizer
from protoformer.views.attention import MARK, page
from protoformer.views.head_statistics import strongest
from protoformer.views.inspected_model import Subject, described, fits, panels_of, plain, sequenced, subject
from protoformer.views.panels import Panel, Sequenced

NAMED = 4  # heads in a line of the table
TRACKED = {"previous": "the previous token", "following": "the next token", "special": "special tokens"}


@dataclass(frozen=True)
class Looking:
    """What is asked for: one text or a pair, in which layers (none named: all), with so much padding behind it.

    Of a translation `text_b` is the target; without one the model writes it.
    """

    text: str
    text_b: str | None = None
    layers: Sequence[int] = ()
    padding: int = 2


def main(source: str, wanted: Looking, out: str) -> None:
    """Write the page and print which heads follow what. Raises a one-line error for whatever cannot be looked at."""
    place = writable(out)
    subject = opened(source)
    layers, texts = asked(subject, wanted)
    panels = panels_of(subject, texts, layers)
    given = [wanted.text] if wanted.text_b is None else [wanted.text, wanted.text_b]
    written_by_it = [plain(subject, text) for text in texts[len(given) :]]
    html = page(panels, subject.name, [*given, *written_by_it], described(subject))
    try:
        write_text(place, html)
    except OSError as error:
        raise ConfigurationError(f"--out {out}: {error.strerror or error}; choose another place") from None
    _print(subject, panels)
    print(f"{place} ({len(html) / 2**20:.1f} MB)")


def writable(out: str) -> Path:
    """Where the page goes; judged before anything is loaded. Raises ConfigurationError where it cannot go there."""
    place = Path(out).expanduser()
    folder = place.parent
    if not folder.is_dir():
        raise ConfigurationError(f"--out {out}: there is no folder {folder}; make it, or choose another place")
    if not os.access(folder, os.W_OK):
        raise ConfigurationError(f"--out {out}: {folder} cannot be written to; choose another place")
    if place.is_dir():
        raise ConfigurationError(f"--out {out}: a folder; name a file in it, such as {place / 'page.html'}")
    if place.exists() and MARK not in place.read_bytes()[:200].decode("utf-8", "replace"):
        raise ConfigurationError(f"--out {out}: a file that is no such page lies there; choose another name")
    return place


def opened(source: str) -> Subject:
    """A run, or weights of BERT, GPT, GPT-2 or Marian from a folder or the hub."""
    folder = Path(source).expanduser()
    if (folder / "config.yaml").is_file():
        return subject_of(load(folder), source)
    name = "/".join(folder.absolute().parts[-2:]) if folder.is_dir() else source
    return _of_weights(hub.folder_of(source), name)


def subject_of(run: LoadedRun, source: str) -> Subject:
    """A run's model, and its texts written as its task writes them."""
    choices = run.config.get("choices", {})
    name = f"{choices['model']}, {choices['task']}" if {"model", "task"} <= choices.keys() else source
    template = instantiate(run.config, "model.template", tokenizer=run.tokenizer)
    return subject(
        name, run.model.backbone, run.tokenizer, template, reads_on=run.config["task"]["kind"] == "causal_lm"
    )


def _of_weights(folder: Path, name: str) -> Subject:
    config = weights.read_config(folder)
    family = family_of(config)
    if family is None:
        raise WeightsError(
            f"{folder}: config.json says model_type {config['model_type']!r}; what can be looked at: {', '.join(FAMILIES)}"
        )
    layout = family.layout()
    model = family.builder(**layout.sizes(config))
    body, _ = layout.from_hf(weights.read_state(folder))
    weights.load_into(model, body, str(folder), layout.optional_prefixes)
    tokenizer = read_tokenizer(folder)
    return subject(name, model, tokenizer, family.template(tokenizer), reads_on=family.architecture == "decoder")


def asked(subject: Subject, wanted: Looking) -> tuple[list[int], list[Sequenced]]:
    """Layers and texts. Raises ConfigurationError for those that the model or a page cannot hold."""
    layers = _layers(subject, wanted.layers)
    texts = written(subject, wanted)
    fits(len(layers), subject.n_heads, *(len(text.ids) for text in texts))
    return layers, texts


def look(subject: Subject, wanted: Looking) -> list[Panel]:
    """The panels of what is asked for. Raises ConfigurationError as `asked` and `panels_of` do."""
    layers, texts = asked(subject, wanted)
    return panels_of(subject, texts, layers)


def _layers(subject: Subject, wanted: Sequence[int]) -> list[int]:
    wrong = [number for number in wanted if not 1 <= number <= subject.n_layers]
    if wrong:
        raise ConfigurationError(f"--layers {wrong[0]}: the model has layers 1 to {subject.n_layers}")
    return sorted(set(wanted)) or list(range(1, subject.n_layers + 1))


def written(subject: Subject, wanted: Looking) -> list[Sequenced]:
    """The text as the model reads it, or source and target, each with padding. What is too long is an error, not cut."""
    if wanted.padding < 0:
        raise ConfigurationError(f"--padding {wanted.padding}: at least 0")
    texts = {"--text": wanted.text} | ({} if wanted.text_b is None else {"--text-b": wanted.text_b})
    encoded = subject.tokenizer.encode(list(texts.values()))
    if isinstance(subject.model, EncoderDecoder) and wanted.text_b is not None:
        encoded[1:] = subject.tokenizer.encode_targets([wanted.text_b])
    for (name, text), tokens in zip(texts.items(), encoded, strict=True):
        if not tokens:
            raise ConfigurationError(f"{name} {text!r} is empty: there is no token in it")
    if isinstance(subject.model, EncoderDecoder):
        source = [*encoded[0], subject.template.eos_id]
        _has_room(subject, len(source))  # before it is translated
        target = [subject.template.bos_id, *(encoded[1] if encoded[1:] else _translated(subject, source))]
        return [_padded(subject, ids, [0] * len(ids), wanted.padding) for ids in (source, target)]
    return [_padded(subject, *_sequence(subject, *encoded), wanted.padding)]


def _padded(subject: Subject, ids: list[int], segments: list[int], padding: int) -> Sequenced:
    _has_room(subject, len(ids))
    return sequenced(subject, ids, segments, min(padding, subject.model.max_seq_len - len(ids)))


def _has_room(subject: Subject, tokens: int) -> None:
    room = subject.model.max_seq_len
    if tokens > room:
        raise ConfigurationError(
            f"the text is {tokens} tokens long, the model has {room} positions: give a shorter one"
        )


def _translated(subject: Subject, source: list[int]) -> list[int]:
    """What the model makes of a source, by the paper's beam search."""
    assert isinstance(subject.model, EncoderDecoder)
    template, ids = subject.template, torch.tensor([source])
    hypotheses = generate_targets(
        subject.model,
        ids,
        torch.ones_like(ids, dtype=torch.bool),
        Seq2SeqParams(template.bos_id, template.eos_id, template.suppressed_ids),
    )
    return best_tokens(hypotheses[0], template.eos_id)


def _sequence(subject: Subject, a: list[int], b: list[int] | None = None) -> tuple[list[int], list[int]]:
    if subject.template is not None:
        found = subject.template.encode_texts([a], None if b is None else [b], len(a) + len(b or ()) + 3)
        return found.ids.tolist(), found.segment_ids.tolist()
    if b is not None:
        raise ConfigurationError("--text-b: this model reads one running text; leave it out")
    return a, [0] * len(a)


def _print(subject: Subject, panels: Sequence[Panel]) -> None:
    print(described(subject))
    for panel in panels:
        real = sum(not token.padding for token in panel.keys)
        print(f"{panel.name}, {real} tokens; heads (layer-head) with the most weight, on average, on")
        numbers = panel.numbers()._asdict()
        for name, what in TRACKED.items():
            best = [] if numbers[name] is None else strongest(numbers[name], NAMED)
            if best and best[0][2] > 0:  # nobody follows what the mask hides
                heads = (f"{panel.layers[layer]}-{head + 1} {share:4.0%}" for layer, head, share in best)
                print(f"  {what:<18}  {'   '.join(heads)}")
