"""The Oxford-IIIT Pet data set, pet against background: `data=pet data.root=DIR data.download=true`."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from seglab.data.layout import Pair, hashed_split
from seglab.data.paired import IGNORE, Paired, existing, stated, within
from seglab.errors import ConfigError, DataError

log = logging.getLogger("seglab")

CLASSES = ("background", "pet")
IDS = {1: 1, 2: 0, 3: IGNORE}  # 3: the border between the two, not classified
_REMEDY = "a trimap holds 1 (pet), 2 (background) and 3 (border); take the original file"
_BELOW = "oxford-iiit-pet"  # where torchvision puts it
_FETCH = ", or set data.download=true to fetch the data set (800 MB)"


class Pet(Paired):
    """images/*.jpg with annotations/trimaps/*.png: 1 is the pet, 2 the background, 3 the border, which counts nowhere.

    annotations/test.txt names the test images; of those of trainval.txt, `val` is the share that a hash of the name makes
    validation images. With `download` torchvision fetches the data set into a folder below `root`, unless it is there.
    """

    def __init__(
        self,
        root: str | Path | None,
        val: float = 0.15,
        download: bool = False,
        group: str | None = None,
        channels: int | None = 3,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        if not 0 <= val < 1:
            raise ConfigError(f"data.val={val} must be a share of trainval.txt: 0 or more, and below 1.")
        if download and root and not any((Path(root).expanduser() / name / "annotations").is_dir() for name in (".", _BELOW)):
            _download(Path(root).expanduser())
        folder = existing(root, "pet", "the Oxford-IIIT Pet data set", _FETCH)
        folder = within(folder, ("images", "annotations/trimaps"), (_BELOW,), _FETCH)
        pairs = hashed_split(_listed(folder, "trainval"), (1 - val, val, 0), group)
        pairs["test"] = _listed(folder, "test")
        super().__init__("pet", pairs, stated(CLASSES, IDS, _REMEDY, "binary"), (), group, channels, mean, std)


def _download(root: Path) -> None:
    from torchvision.datasets import OxfordIIITPet

    try:
        OxfordIIITPet(str(root), download=True)  # checks what it fetches by MD5; fetches nothing that is there
    except Exception as error:  # of the network, the archive or the disk
        why = " ".join(str(error).split()).rstrip(".")
        raise DataError(f"The Oxford-IIIT Pet data set could not be fetched into {root} ({why}); try again later.") from error


def _listed(folder: Path, name: str) -> list[Pair]:
    file = folder / "annotations" / f"{name}.txt"
    if not file.is_file():
        raise DataError(f"{file} does not exist; unpack annotations.tar.gz whole.")
    lines = file.read_text(encoding="utf-8").splitlines()
    names = sorted({line.split()[0] for line in lines if line.strip() and not line.startswith("#")})
    pairs = [Pair(n, str(folder / f"images/{n}.jpg"), str(folder / f"annotations/trimaps/{n}.png")) for n in names]
    for one in pairs:
        for path in (one.image, one.mask):
            if not Path(path).is_file():
                raise DataError(f"{file} lists '{one.id}', but {path} does not exist; unpack both archives whole.")
    sound = [one for one in pairs if not _is_gif(one.image)]
    if len(sound) < len(pairs):
        log.info("Left out of %s.txt: GIFs named .jpg (%d).", name, len(pairs) - len(sound))
    return sound


def _is_gif(path: str) -> bool:
    with open(path, "rb") as file:
        return file.read(4) == b"GIF8"
