"""Publishing a student: a file that names its own hash, fits its config and says how it is used."""

import hashlib
import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from torch import Tensor

from ..errors import DistillationError, first_line
from .storage import write_whole

# Names that a registry knows. Another dotted one could be any function, and building would call it.
_REGISTERED = re.compile(r'((mmdet|mmseg|mmpretrain|mmengine|mmcv|diffkd_mm)\.)?\w+')
# Per scope: what is imported, how an inferencer is made, how an image is given to it.
_USES = dict(
    mmdet=(
        'from mmdet.apis import DetInferencer',
        'inferencer = DetInferencer(weights={file!r})',
        "inferencer('image.jpg', out_dir='outputs')",
    ),
    mmseg=(
        'from mmseg.apis import MMSegInferencer',
        'inferencer = MMSegInferencer(None, weights={file!r})',
        "inferencer('image.png', out_dir='outputs')",
    ),
    mmpretrain=(
        'import torch, mmengine, mmpretrain',
        "config = mmengine.Config.fromstring(torch.load({file!r})['meta']['cfg'], '.py')",
        "mmpretrain.ImageClassificationInferencer(config, pretrained={file!r})('image.jpg')",
    ),
)


def publish(checkpoint: dict, out: Path, keep_name: bool = False) -> tuple[Path, str]:
    """Writes a checkpoint, whole or not at all, under a name that ends with its hash.

    So do OpenMMLab's published files, ``NAME-1a2b3c4d.pth``, and PyTorch checks it in downloads.

    Args:
        checkpoint (dict): What is written.
        out (Path): The file's name without the hash.
        keep_name (bool): Write to this very name. Defaults to False.

    Returns:
        tuple[Path, str]: The file, and the first eight digits of the SHA-256 of its bytes.

    Raises:
        DistillationError: If it cannot be written.
    """
    buffer = io.BytesIO()
    torch.save(checkpoint, buffer)
    content = buffer.getvalue()
    digest = hashlib.sha256(content).hexdigest()[:8]
    path = out if keep_name else out.with_name(f'{out.stem}-{digest}{out.suffix or ".pth"}')
    write_whole(path, content, 'Make room or choose another place.')
    return path, digest


def check_fits(weights: Mapping[str, Tensor], cfg: Config, trusted: bool = False) -> str:
    """Builds the model of a config and loads weights into it, strictly.

    Args:
        weights (Mapping[str, Tensor]): State dict of the student.
        cfg (Config): The student's config, see :func:`~.student_config.student_config`.
        trusted (bool): Whether the config may name anything that can be imported, as one that is
            run may; one from a checkpoint may not. Defaults to False.

    Returns:
        str: The model's class.

    Raises:
        LookupError: If the model cannot be built to compare; says why.
        DistillationError: If a tensor is missing, too many or of another shape.
    """
    model_cfg: dict[str, Any] = dict(cfg.model)
    if cfg.get('default_scope'):
        model_cfg['_scope_'] = cfg.default_scope
    if not trusted and (strange := _unregistered(model_cfg)):
        raise LookupError(f'its config names {strange!r}, which is not run')
    try:
        model = MODELS.build(model_cfg)
    except Exception as error:  # any program may be behind a name
        raise LookupError(f'its model cannot be built: {first_line(error)}') from error
    try:
        model.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        reason = ' '.join(' '.join(str(error).splitlines()[1:]).split())
        raise DistillationError(
            f'the weights do not fit the student that the config describes, a '
            f'{type(model).__name__}: {reason[:300]}'
        ) from error
    return type(model).__name__


def lines_of_use(scope: str | None, file: Path) -> list[str]:
    """Three lines of Python by which a package's own inferencer runs a published student.

    Args:
        scope (str, optional): The ``default_scope`` of the config that the file carries.
        file (Path): The file.

    Returns:
        list[str]: The lines; none if the package is not known.
    """
    return [line.format(file=str(file)) for line in _USES.get(scope or '', ())]


def _unregistered(cfg: Any) -> str | None:
    """The first ``type`` in a config that is no plain name of a registry."""
    if isinstance(cfg, Mapping):
        kind = cfg.get('type', '')
        if not (isinstance(kind, str) and (kind == '' or _REGISTERED.fullmatch(kind))):
            return str(kind)
    items = cfg.values() if isinstance(cfg, Mapping) else cfg
    if not isinstance(cfg, Mapping | list | tuple):
        return None
    return next((found for item in items if (found := _unregistered(item))), None)
