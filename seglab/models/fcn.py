"""FCN on a dilated encoder: torchvision's form of Long et al. 2015 (arXiv:1411.4038), for any image size and channels."""

from __future__ import annotations

from torch import Tensor, nn

from seglab.models import weights as pretrained
from seglab.models.auxiliary import enlarge, head
from seglab.models.backbone import backbone
from seglab.models.batchnorm import allow_one_value
from seglab.models.sizes import pad
from seglab.types import Output, Spec


class FCN(nn.Module):
    """Normalised float image B C H W -> logits B spec.out_channels H W; with `aux` Output in training.

    The auxiliary head reads the encoder's stage before the last (a ResNet's layer3). Weights go to and from torchvision's
    fcn_resnet50 and fcn_resnet101 (output_stride=8) by name, and its logits are ours wherever H and W are multiples of the
    output stride; elsewhere the image is padded first and the logits cropped.
    """

    def __init__(
        self, spec: Spec, encoder: str = "resnet50", weights: str | None = None, output_stride: int = 8, aux: bool = True
    ) -> None:
        super().__init__()
        self.backbone, (*_, middle, deep) = backbone(encoder, spec.channels, output_stride, used=1 + aux)
        self.classifier = head(deep, spec.out_channels)
        self.aux_classifier = head(middle, spec.out_channels) if aux else None
        self.aux = ("middle",) if aux else ()
        self.output_stride = output_stride
        allow_one_value(self)
        self.mean, self.std = pretrained.start(self.backbone, encoder, weights, spec.channels)

    @property
    def encoder(self) -> nn.Module:
        """The part that pretrained weights fill; it may have a learning rate of its own."""
        return self.backbone

    def forward(self, image: Tensor) -> Tensor | Output:
        """Logits of exactly the image's height and width."""
        size, padded = image.shape[-2:], pad(image, self.output_stride)
        *_, middle, deep = self.backbone(padded)
        logits = enlarge(self.classifier(deep), padded.shape[-2:], size)
        if not self.training or self.aux_classifier is None:
            return logits
        return Output(logits, {"middle": enlarge(self.aux_classifier(middle), padded.shape[-2:], size)})
