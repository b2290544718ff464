"""BERT's pretraining heads compared with `transformers` on published weights: logits, and predictions of masked tokens.

    python benchmarks/pretraining_parity.py --weights <folder with BertForPreTraining>
    python benchmarks/pretraining_parity.py --weights <folder> --texts <file, a text a line>

Texts are cut into the longest pieces that the vocabulary holds (SMILES have no words); each token in turn is masked, and
counts as correct when it is the most probable one.
"""

import argparse
import re
import time
from pathlib import Path
from typing import Any

import torch
import transformers

from protoformer.batches import PretrainingBatch
from protoformer.models import weights
from protoformer.models.bert import bert
from protoformer.models.hf.bert import BertWeights
from protoformer.modules.kinds.pretraining import PretrainingModule

# esterification, amide coupling, Boc protection, Suzuki coupling, reduction, SN2: reactants >> product
REACTIONS = (
    "CC(=O)O.OCC>>CC(=O)OCC",
    "OC(=O)c1ccccc1.NCc1ccccc1>>O=C(NCc1ccccc1)c1ccccc1",
    "CC(C)(C)OC(=O)OC(=O)OC(C)(C)C.NCCc1ccccc1>>CC(C)(C)OC(=O)NCCc1ccccc1",
    "OB(O)c1ccccc1.Brc1ccncc1>>c1ccc(-c2ccncc2)cc1",
    "O=Cc1ccc(Cl)cc1.[BH4-].[Na+]>>OCc1ccc(Cl)cc1",
    "Oc1ccccc1.CCBr.[K+].[K+].[O-]C([O-])=O>>CCOc1ccccc1",
)


def ours(folder: Path) -> PretrainingModule:
    layout = BertWeights()
    described = weights.read_config(folder)
    module = PretrainingModule(backbone=bert(**layout.sizes(described)), splits={"val": [], "test": []})
    body, heads = layout.from_hf(weights.read_state(folder))
    weights.load_into(module.backbone, body, str(folder))
    weights.load_into(module.head, layout.head_from_hf("pretraining", heads, described), str(folder))
    return module.eval()


def all_targets(ids: torch.Tensor, padding_mask: torch.Tensor, segment_ids: torch.Tensor) -> PretrainingBatch:
    """A batch in which every token is a target, so that all logits can be compared."""
    rows, seq = ids.shape
    positions = torch.arange(seq).expand(rows, -1)
    return PretrainingBatch(
        ids=ids,
        padding_mask=padding_mask,
        segment_ids=segment_ids,
        pooler_position=torch.zeros(rows, dtype=torch.long),
        example_ids=torch.arange(rows),
        target_position=positions,
        target_ids=torch.where(padding_mask, 0, -1),
        next_sentence=torch.zeros(rows, dtype=torch.long),
        targets=torch.tensor([int(padding_mask.sum()), rows]),
    )


def difference(module: PretrainingModule, theirs: Any) -> tuple[float, float]:
    """The largest difference of masked-LM and of next-sentence logits, on random ids with padding and two segments."""
    torch.manual_seed(0)
    vocab = module.backbone.embeddings.token.num_embeddings
    ids = torch.randint(5, vocab, (4, 96))
    padding_mask = torch.arange(96)[None] < torch.tensor([96, 60, 33, 5])[:, None]
    segment_ids = (torch.arange(96)[None] >= torch.tensor([40, 30, 10, 2])[:, None]).long() * padding_mask
    outputs = module(all_targets(ids, padding_mask, segment_ids))
    expected = theirs(ids, padding_mask.long(), segment_ids)
    mlm_difference = (outputs.mlm_logits - expected.prediction_logits[padding_mask]).abs().max()
    return float(mlm_difference), float((outputs.nsp_logits - expected.seq_relationship_logits).abs().max())


def recovered(module: PretrainingModule, vocabulary: list[str], text: str) -> tuple[int, int]:
    """How many of a text's tokens are predicted when masked, one at a time, and how many there are."""
    token_id = {token: index for index, token in enumerate(vocabulary)}
    pieces = re.findall("|".join(re.escape(word) for word in sorted(vocabulary, key=len, reverse=True)), text)
    if "".join(pieces) != text:
        raise SystemExit(f"the vocabulary cannot write {text!r}")
    ids = torch.tensor([token_id["[CLS]"], *(token_id[piece] for piece in pieces), token_id["[SEP]"]])
    rows = ids.repeat(len(pieces), 1)
    positions = torch.arange(1, len(pieces) + 1)
    rows[torch.arange(len(pieces)), positions] = token_id["[MASK]"]
    batch = all_targets(rows, torch.ones_like(rows, dtype=torch.bool), torch.zeros_like(rows))
    batch["target_position"], batch["target_ids"] = positions[:, None], ids[1:-1, None]
    outputs = module(batch)
    return int((outputs.mlm_logits.argmax(-1) == outputs.target_ids).sum()), len(pieces)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--texts", type=Path)
    options = parser.parse_args()
    start = time.perf_counter()
    module = ours(options.weights)
    theirs = transformers.BertForPreTraining.from_pretrained(options.weights).eval()
    with torch.no_grad():
        mlm, nsp = difference(module, theirs)
        print(f"largest difference of logits: masked LM {mlm:.2e}, next sentence {nsp:.2e}")
        vocabulary = (options.weights / "vocab.txt").read_text(encoding="utf-8").splitlines()
        texts = options.texts.read_text(encoding="utf-8").splitlines() if options.texts else REACTIONS
        counts = [recovered(module, vocabulary, text) for text in texts]
        for text, (correct, count) in zip(texts, counts, strict=True):
            print(f"{correct:3d} of {count:3d} tokens predicted  {text}")
    correct, count = (sum(column) for column in zip(*counts, strict=True))
    print(f"{correct} of {count} ({correct / count:.1%}) in {time.perf_counter() - start:.1f} s")
    if max(mlm, nsp) > 1e-5:
        raise SystemExit("differs by more than 1e-5")


if __name__ == "__main__":
    main()
