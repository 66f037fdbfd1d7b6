"""seglab trains, compares and ships image-segmentation models; its numbers can be trusted."""

import os

__version__ = "0.1.0"

# albumentations asks a package index for its newest version when it is imported; a training run must not phone home.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
