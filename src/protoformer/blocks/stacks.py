"""Stacks of layers (arXiv 1706.03762, section 3.1). A pre-norm stack ends in one more normalisation.

Layers of any kind may stand in them that are called as `EncoderLayer` and `DecoderLayer` are (`recurrent`, `convolution`).
"""

from collections.abc import Collection, Sequence

from jaxtyping import Float
from torch import Tensor, nn

from protoformer.blocks.kernels.cache import Cache, KeyValueCache
from protoformer.blocks.kernels.packing import Layout


class EncoderStack(nn.Module):
    """Encoder layers one after another."""

    def __init__(self, layers: Sequence[nn.Module], final_norm: nn.Module | None = None) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.final_norm = final_norm

    def forward(
        self, x: Float[Tensor, "*tokens d_model"], layout: Layout, weights: dict[int, Tensor] | None = None,
        weights_of: Collection[int] = (),
    ) -> Float[Tensor, "*tokens d_model"]:  # fmt: skip
        """`weights_of` names layers whose attention weights (`batch heads seq seq`) are put into `weights`.

        Only the named layers leave the fast kernel.
        """
        for number, layer in enumerate(self.layers):
            asked: list[Tensor] | None = [] if weights is not None and number in weights_of else None
            x = layer(x, layout, weights=asked)
            if asked and weights is not None:
                weights[number] = asked[0]
        return x if self.final_norm is None else self.final_norm(x)


class DecoderStack(nn.Module):
    """Decoder layers one after another, with one cache a layer where tokens come step by step."""

    def __init__(self, layers: Sequence[nn.Module], final_norm: nn.Module | None = None) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.final_norm = final_norm

    def caches(self, batch: int, max_len: int, like: Tensor) -> list[Cache]:
        """Room for what each layer keeps of `max_len` positions, of the type of `like` and where it lies."""
        return [layer.cache(batch, max_len, like) for layer in self.layers]  # type: ignore[operator]

    def cross_caches(self, batch: int, sources: int, like: Tensor) -> list[KeyValueCache]:
        """Room for what each layer keeps of a memory of `sources` positions; none for layers that look at none."""
        made = [layer.cross_cache(batch, sources, like) for layer in self.layers]  # type: ignore[operator]
        return [cache for cache in made if cache is not None]

    def forward(
        self,
        x: Float[Tensor, "*tokens d_model"],
        layout: Layout,
        memory: Float[Tensor, "*sources d_model"] | None = None,
        memory_layout: Layout | None = None,
        caches: Sequence[Cache] | None = None,
        cross_caches: Sequence[KeyValueCache] | None = None,
        weights: dict[int, Tensor] | None = None,
        cross_weights: dict[int, Tensor] | None = None,
        weights_of: Collection[int] = (),
    ) -> Float[Tensor, "*tokens d_model"]:
        """`weights_of` names layers whose attention weights are put into `weights` (over the sequence itself) and
        `cross_weights` (over the memory), `batch heads queries keys` each, of whichever is given.

        Only the named layers leave the fast kernel.
        """
        held = iter(cross_caches or ())
        for number, layer in enumerate(self.layers):
            own: list[Tensor] | None = [] if weights is not None and number in weights_of else None
            cross: list[Tensor] | None = [] if cross_weights is not None and number in weights_of else None
            x = layer(
                x,
                layout,
                memory,
                memory_layout,
                cache=None if caches is None else caches[number],
                cross_cache=None if layer.cross_attention is None else next(held, None),
                weights=own,
                cross_weights=cross,
            )
            if own and weights is not None:
                weights[number] = own[0]
            if cross and cross_weights is not None:
                cross_weights[number] = cross[0]
        return x if self.final_norm is None else self.final_norm(x)
