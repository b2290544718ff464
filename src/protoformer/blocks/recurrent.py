"""Recurrent layers over the real tokens of a batch."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from protoformer.blocks.packing import Layout


class BiLSTM(nn.Module):
    """Two LSTMs, one from each side, each of half the width (Hochreiter and Schmidhuber 1997; Graves et al. 2005).

    Padding stands at the ends of rows; the one from the right begins at each row's last real token.
    """

    def __init__(self, d_model: int) -> None:
        super().__init__()
        if d_model % 2:
            raise ValueError(f"d_model={d_model}: two directions need an even width")
        self.forwards = nn.LSTM(d_model, d_model // 2, batch_first=True)
        self.backwards = nn.LSTM(d_model, d_model // 2, batch_first=True)

    def forward(self, x: Float[Tensor, "*tokens d_model"], layout: Layout) -> Float[Tensor, "*tokens d_model"]:
        rows = layout.unpack(x)
        place = torch.arange(layout.seq, device=x.device)[None]
        mirrored = place.flip(1).expand(layout.batch, -1)
        if layout.padding_mask is not None:
            lengths = layout.padding_mask.sum(1, keepdim=True)
            mirrored = torch.where(place < lengths, lengths - 1 - place, place)
        index = mirrored[:, :, None]
        before, _ = self.forwards(rows)
        after, _ = self.backwards(rows.gather(1, index.expand_as(rows)))
        after = after.gather(1, index.expand_as(after))
        return layout.pack(torch.cat([before, after], dim=-1))
