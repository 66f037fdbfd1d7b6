"""EoMT: a plain vision transformer whose last blocks carry queries too, each of which names a class and draws a mask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import timm
import torch
from timm.layers import LayerNorm2d
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from seglab.errors import ConfigError
from seglab.models import weights as pretrained
from seglab.models.encoders import check_name
from seglab.models.sizes import pad
from seglab.types import MaskQueries, Spec


class EoMT(nn.Module):
    """Encoder-only mask transformer (Kerssies et al. 2025, arXiv:2503.19108): normalised image B C H W -> MaskQueries.

    `queries` learned tokens join those of the image before the last `blocks` of the encoder, a vision transformer of timm.
    While it trains, each of these blocks is preceded by a prediction of its own (`layers`), inside which a query attends if
    `masked_attention`; that falls away block by block as `progress`, set by the task, goes from 0 to 1, and evaluation
    knows no mask. `weights`, `mean` and `std` are as in SMP. ConfigError names the wrong key.
    """

    gives: ClassVar[str] = "masks"
    progress: Tensor  # the part of training that is done, 0..1
    starts: Tensor

    def __init__(
        self,
        spec: Spec,
        encoder: str = "tu-vit_tiny_patch16_224",
        weights: str | None = None,
        queries: int = 50,
        blocks: int = 3,
        masked_attention: bool = True,
    ) -> None:
        super().__init__()
        self.encoder = _transformer(encoder, spec.channels)
        if queries < spec.num_classes:
            raise ConfigError(f"model.queries is {queries}; it must be at least {spec.num_classes}, one for each class.")
        if not 1 <= blocks <= len(self.encoder.blocks):
            raise ConfigError(f"model.blocks is {blocks}; {encoder} has {len(self.encoder.blocks)}, so take 1 or more of them.")
        self.blocks, self.masked_attention = blocks, masked_attention
        self.mean, self.std = pretrained.start(self.encoder, encoder, weights, spec.channels)
        for block in self.encoder.blocks[-blocks:]:
            attention: Any = block.attn
            if hasattr(attention, "num_prefix_tokens"):  # rotary positions: queries have none, like the class token
                attention.num_prefix_tokens += queries
        width = self.encoder.embed_dim
        self.patch: int = self.encoder.patch_embed.feat_ratio()  # type: ignore[assignment]
        doublings = max(1, self.patch.bit_length() - 3)  # to a quarter of the image's resolution
        self.stride = self.patch // 2**doublings
        self.queries = nn.Parameter(torch.randn(1, queries, width))
        self.class_head = nn.Linear(width, spec.num_classes + 1)
        hidden = (layer for _ in range(2) for layer in (nn.Linear(width, width), nn.GELU()))
        self.mask_head = nn.Sequential(*hidden, nn.Linear(width, width))
        self.upscale = nn.Sequential(*(_scale_block(width) for _ in range(doublings)))
        self.register_buffer("progress", torch.zeros(()), persistent=False)
        self.register_buffer("starts", torch.linspace(1, 4, blocks), persistent=False)

    def forward(self, image: Tensor) -> MaskQueries:
        """Class logits B Q K+1 and mask logits B Q h w, which span exactly the image, mostly at a quarter of its size."""
        size = image.shape[-2:]
        image = pad(image, self.patch)
        grid = (image.shape[-2] // self.patch, image.shape[-1] // self.patch)
        vit, first = self.encoder, len(self.encoder.blocks) - self.blocks
        embedded = vit._pos_embed(vit.patch_embed(image))
        tokens, rope = embedded if isinstance(embedded, tuple) else (embedded, None)
        tokens, attention = vit.norm_pre(tokens), None
        layers = []
        for i, block in enumerate(vit.blocks):
            if i == first:
                tokens = torch.cat([self.queries.expand(len(tokens), -1, -1), tokens], 1)
            if i >= first and self.training:
                layers.append(self._predict(tokens, grid))
                attention = self._attention(layers[-1].masks, grid, i - first, tokens.shape[1])
            position = {} if rope is None else {"rope": rope[i] if getattr(vit, "rope_mixed", False) else rope}
            tokens = block(tokens, attn_mask=attention, **position)
        *early, last = (self._within(layer, size) for layer in (*layers, self._predict(tokens, grid)))
        return last._replace(layers=tuple(early))

    def _predict(self, tokens: Tensor, grid: tuple[int, int]) -> MaskQueries:
        # A mask is the product of a query's embedding with every pixel's.
        tokens, patches = self.encoder.norm(tokens), grid[0] * grid[1]
        queries = tokens[:, : self.queries.shape[1]]
        pixels = self.upscale(tokens[:, -patches:].transpose(1, 2).unflatten(2, grid))
        masks = torch.einsum("bqc,bchw->bqhw", self.mask_head(queries), pixels)
        return MaskQueries(self.class_head(queries), masks)

    def _attention(self, masks: Tensor, grid: tuple[int, int], block: int, tokens: int) -> Tensor | None:
        """Where tokens may look, boolean B 1 T T: masked queries at the patches of their mask, all else everywhere."""
        if not self.masked_attention:
            return None
        # The share of masked queries falls from 1 to 0 within a sixth of training, in the first block first; the times and
        # the power are those of the authors' configurations.
        share = (1 - (6 * self.progress - self.starts[block]).clamp(0, 1)) ** 0.9
        batch, queries = masks.shape[:2]
        free = torch.rand(batch, queries, 1, device=masks.device) >= share
        inside = F.interpolate(masks.detach(), size=grid, mode="bilinear", align_corners=False).flatten(2) > 0
        allowed = torch.ones(batch, 1, tokens, tokens, dtype=torch.bool, device=masks.device)
        allowed[:, 0, :queries, -inside.shape[2] :] = inside | free
        return allowed

    def _within(self, output: MaskQueries, size: Sequence[int]) -> MaskQueries:
        """The masks cut to the part of the padded image that is the image."""
        masks, stride = output.masks, self.stride
        if size[0] % stride or size[1] % stride:  # its border lies within a pixel of the masks
            masks = F.interpolate(masks.float(), scale_factor=stride, mode="bilinear", align_corners=False)
            stride = 1
        return output._replace(masks=masks[..., : size[0] // stride, : size[1] // stride])


def _scale_block(width: int) -> nn.Sequential:
    """Doubles height and width: a transposed convolution, then a depthwise one."""
    return nn.Sequential(
        nn.ConvTranspose2d(width, width, 2, stride=2),
        nn.GELU(),
        nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False),
        LayerNorm2d(width),
    )


def _transformer(encoder: str, channels: int) -> VisionTransformer | Eva:
    """timm's network for images of any size, without a classifier; ConfigError unless it is a plain vision transformer."""
    check_name(encoder)
    options: dict[str, Any] = {"num_classes": 0, "global_pool": "", "dynamic_img_size": True}
    try:
        made = timm.create_model(encoder[3:], in_chans=channels, **options) if encoder.startswith("tu-") else None
    except (TypeError, AssertionError):  # another kind of network, which does not take these words
        made = None
    if isinstance(made, VisionTransformer | Eva):
        return made
    raise ConfigError(f"model.encoder={encoder} is no plain vision transformer; take one such as tu-vit_small_patch16_dinov3.")
