"""What the methods compare, with the weights of each, and where these come from."""

from collections.abc import Callable
from typing import NamedTuple

from ..errors import DistillationError
from .matching import Pair
from .survey import Survey


class Terms(NamedTuple):
    """How a pair of taps is compared.

    Args:
        loss (dict): Config of the loss.
        why (str): Where its weight comes from.
        connector (str, optional): Its type. Defaults to None: the outputs as they are.
        max_stride (int, optional): Largest stride of a level that is compared. Defaults to all.
    """

    loss: dict
    why: str
    connector: str | None = None
    max_stride: int | None = None


class Method(NamedTuple):
    """A method, by what it makes of each kind of outputs; None of what it leaves alone.

    Args:
        about (str): A line for the help.
        features (Callable, optional): Of student, teacher and the channels of the teacher's levels
            makes terms, or refuses.
        logits (Callable, optional): Of student and teacher makes terms, or refuses.
        boxes (bool): Whether the predicted boxes of detectors are compared as well.
    """

    about: str
    features: Callable[[Survey, Survey, list[int]], Terms] | None
    logits: Callable[[Survey, Survey], Terms] | None
    boxes: bool = False


# With DiffKD's layers, and so with a latent of their own where the paper has one.
DIFFKDS_LAYERS = ('DiffKDConnector', 'DeepProjectorConnector')
_OF_THE_PAPER = ('FasterRCNN', 'RetinaNet', 'FCOS', 'RepPointsDetector')


def _weight(student: Survey) -> tuple[float, str]:
    if student.task == 'detection':
        reppoints = type(student.model).__name__ == 'RepPointsDetector'
        weight = 15.0 if reppoints else 5.0
        kind = 'RepPoints' if reppoints else 'detectors'
        why = f"weight {weight:g} is the paper's for {kind} on COCO (appendix B.3)"
        if type(student.model).__name__ not in _OF_THE_PAPER:
            why += ', none of this family: watch its size'
        return weight, why
    if student.task == 'segmentation':
        return 1.0, 'weight 1 is ours; the paper compares the class scores of segmentors'
    return 1.0, "weight 1 is the paper's (appendix B.2)"


def _diffkd(student: Survey, teacher: Survey, channels: list[int], **options) -> Terms:
    weight, why = _weight(student)
    loss = dict(type='MSELoss', loss_weight=weight, **options)
    return Terms(loss, why, 'DiffKDConnector')


def _attention(student: Survey, teacher: Survey, channels: list[int]) -> Terms:
    return _diffkd(student, teacher, channels, attention='spatial')


def _diffkd_logits(student: Survey, teacher: Survey) -> Terms:
    if reason := _no_distribution(student):
        return Terms(
            dict(type='MSELoss', loss_weight=1.0), f'{reason}; weight 1 is ours', 'DiffKDConnector'
        )
    if student.task == 'segmentation':
        return Terms(
            dict(type='DISTLoss', loss_weight=1.0),
            "weight 1 is the paper's (appendix B.4)",
            'DiffKDConnector',
        )
    return Terms(
        dict(type='KLDivLoss', tau=1.0, loss_weight=1.0),
        "weight 1 is the paper's (B.2), temperature 1 its authors' code's",
        'DiffKDConnector',
    )


def _deep_projector(student: Survey, teacher: Survey, channels: list[int]) -> Terms:
    return _diffkd(student, teacher, channels)._replace(connector='DeepProjectorConnector')


def _deep_projector_logits(student: Survey, teacher: Survey) -> Terms:
    return _diffkd_logits(student, teacher)._replace(connector='DeepProjectorConnector')


def _fitnet(student: Survey, teacher: Survey, channels: list[int]) -> Terms:
    return Terms(
        dict(type='MSELoss', loss_weight=1.0),
        "weight 1 is that of MasKD's code for detectors and ours elsewhere",
        'ConvConnector',
    )


def _pkd(student: Survey, teacher: Survey, channels: list[int]) -> Terms:
    return Terms(
        dict(type='PKDLoss', loss_weight=10.0),
        "weight 10 and levels up to stride 64 are those of MMRazor's config for RetinaNet",
        max_stride=64,
    )


def _cwd(student: Survey, teacher: Survey, channels: list[int]) -> Terms:
    return Terms(
        dict(type='CWDLoss', tau=1.0, loss_weight=5.0),
        "weight 5 and levels up to stride 64 are those of its authors' detection code",
        max_stride=64,
    )


# Where the authors' config for a family differs from those for the others without anchors.
_FGD_BY_FAMILY = dict(
    FCOS=dict(tau=0.8),
    YOLOX=dict(
        foreground_weight=2e-3, background_weight=1e-3, attention_weight=1e-3, global_weight=1e-5
    ),
)


def _fgd(student: Survey, teacher: Survey, channels: list[int]) -> Terms:
    if student.task != 'detection':
        raise DistillationError('fgd needs boxes: it is for detectors')
    if len(set(channels)) > 1:
        raise DistillationError(
            f'fgd takes levels of the same number of channels, and the teacher has {channels}'
        )
    loss = dict(type='FGDLoss', channels=channels[0])
    head = student.head
    if hasattr(student.model, 'roi_head'):
        weights = dict(foreground_weight=5e-5, background_weight=2.5e-5)
        weights.update(attention_weight=5e-5, global_weight=5e-7)
        return Terms(loss | weights, "weights of its authors' two-stage detectors", None, 32)
    # Where boxes are predicted from points there are none; GFL and ATSS have one in every cell.
    if hasattr(getattr(head, 'prior_generator', None), 'base_anchors'):
        return Terms(
            loss | dict(attention_weight=5e-4), "weights of its authors' detectors with anchors"
        )
    weights = dict(foreground_weight=1.6e-3, background_weight=8e-4)
    weights.update(attention_weight=8e-4, global_weight=8e-6)
    weights.update(_FGD_BY_FAMILY.get(type(student.model).__name__, {}))
    return Terms(loss | weights, "weights of its authors' detectors without anchors")


def _kd(student: Survey, teacher: Survey) -> Terms:
    _refuse_without_distribution('kd', student)
    if student.task == 'classification':
        return Terms(
            dict(type='KLDivLoss', tau=4.0, loss_weight=1.0),
            "temperature 4 and weight 1 are those of DIST's authors on ImageNet, who give the "
            "student's own loss 0.9",
        )
    return Terms(dict(type='KLDivLoss', tau=1.0, loss_weight=1.0), 'temperature and weight: ours')


def _dist(student: Survey, teacher: Survey) -> Terms:
    _refuse_without_distribution('dist', student)
    if student.task != 'classification':
        return Terms(
            dict(type='DISTLoss', loss_weight=1.0), "weight 1 is that of its authors' segmentation"
        )
    if student.num_classes == 1000:
        return Terms(dict(type='DISTLoss', loss_weight=2.0), "weight 2: its authors' on ImageNet")
    return Terms(
        dict(type='DISTLoss', beta=2.0, gamma=2.0, tau=4.0),
        "weights and temperature: its authors' on CIFAR-100",
    )


def _cwd_logits(student: Survey, teacher: Survey) -> Terms:
    return Terms(
        dict(type='CWDLoss', tau=4.0, loss_weight=3.0),
        "temperature 4 and weight 3 are those of its authors' segmentation code",
    )


def _fitnet_logits(student: Survey, teacher: Survey) -> Terms:
    return Terms(dict(type='MSELoss', loss_weight=1.0), 'weight 1 is ours', 'ConvConnector')


def _no_distribution(student: Survey) -> str | None:
    """Why the class scores of an image or a pixel are no distribution over the classes, if so."""
    head = student.head
    if 1 in (student.num_classes, getattr(head, 'out_channels', None)):
        return 'of a single class there is no distribution'
    # MMPretrain's head of this name learns mixed labels of exclusive classes too, by a softmax.
    multi_label = any(kind.__name__ == 'MultiLabelClsHead' for kind in type(head).__mro__)
    if multi_label and getattr(head.loss_module, 'use_sigmoid', True):
        return 'an image may be of several classes, so that their scores are no distribution'
    return None


def _refuse_without_distribution(method: str, student: Survey) -> None:
    if reason := _no_distribution(student):
        raise DistillationError(
            f'{method} compares distributions over classes: {reason}; fitnet and diffkd do not '
            'need one'
        )


METHODS = dict(
    diffkd=Method(
        "a diffusion model denoises the student's features, or class scores, before they are "
        'compared; and the boxes of detectors whose heads agree',
        _diffkd,
        _diffkd_logits,
        boxes=True,
    ),
    diffkd_attn=Method(
        "diffkd whose feature error is weighted by the teacher's attention (the paper's †)",
        _attention,
        _diffkd_logits,
        boxes=True,
    ),
    deep_projector=Method(
        "diffkd's layers without the diffusion: what tells how much of a gain is the projector's",
        _deep_projector,
        _deep_projector_logits,
        boxes=True,
    ),
    fitnet=Method('features after a 1×1 conv, MSE', _fitnet, _fitnet_logits),
    pkd=Method('standardised features, MSE', _pkd, None),
    cwd=Method('where each channel (segmentors: each class) is active', _cwd, _cwd_logits),
    fgd=Method('features of detectors by foreground, background and attention', _fgd, None),
    kd=Method('class scores, KL divergence', None, _kd),
    dist=Method('class scores, correlations within and between classes', None, _dist),
)


def compares_logits(method: str, student: Survey) -> bool:
    """Whether a method compares class scores of this kind of student.

    Methods of features compare a segmentor's scores, which are a map as features are.
    """
    chosen = METHODS[method]
    if chosen.logits is None or student.task == 'detection':
        return chosen.features is None
    diffkd = chosen.logits in (_diffkd_logits, _deep_projector_logits)
    return chosen.features is None or student.task == 'segmentation' or diffkd


def box_terms(name: str) -> Terms:
    """How predicted boxes are compared; ``name`` is that of the point."""
    if name == 'reg':
        return Terms(
            dict(type='mmdet.SmoothL1Loss', loss_weight=1.0),
            "weight 1 is the paper's (Sec. 4.2), the loss that of MasKD's code",
        )
    return Terms(
        dict(type='mmdet.SmoothL1Loss', beta=0.11, loss_weight=dict(refine=0.2, init=0.1)[name]),
        "those of MasKD's code",
    )


def connector_of(terms: Terms, pair: Pair, student: Survey, teacher: Survey) -> dict | None:
    """The connector of a pair of features or scores; a 1×1 conv where channels would not fit."""
    differ = pair.student_channels != pair.teacher_channels
    if terms.connector is None:
        return dict(type='ConvConnector') if differ else None
    connector = dict(type=terms.connector)
    latent = _latent_channels(pair, student, teacher)
    if terms.connector in DIFFKDS_LAYERS and latent is not None:
        connector['latent_channels'] = latent
    return connector


def _latent_channels(pair: Pair, student: Survey, teacher: Survey) -> int | None:
    """Width of the latent that teacher features are compressed into; scores are not."""
    if not pair.strides:  # vectors are small
        return None
    if pair.teacher not in ('backbone', 'neck') and not pair.teacher.startswith('backbone.'):
        return None
    if student.task == 'classification':
        if student.num_classes == 1000:  # the paper's ImageNet
            backbone = type(teacher.model.backbone).__name__
            return 768 if backbone.startswith('Swin') else 1024
        return 1024 if max(pair.teacher_channels) > 1024 else None
    return 256 if max(pair.teacher_channels) > 512 else None


def latent_reason(latent: int, student: Survey) -> str:
    """Why there is a latent."""
    if student.task == 'classification' and student.num_classes == 1000:
        return f"the autoencoder's {latent} channels are the paper's on ImageNet (B.2)"
    return f'an autoencoder of {latent} channels (ours), since time and memory grow with them'
