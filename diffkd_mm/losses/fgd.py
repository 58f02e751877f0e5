"""FGD: foreground and background apart, attention, and relations between positions."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..errors import DistillationError
from ..options import NonNegativeFloat, PositiveFloat, PositiveInt
from ..registry import MODELS
from .mse import channel_attention, spatial_attention


def foreground_scale(boxes: Tensor, height: int, width: int) -> Tensor:
    """1 / (number of a box's cells) inside of boxes, 0 outside: the smallest box wins.

    A box has the cells that it overlaps, at least one; parts outside of the grid do not count.

    Args:
        boxes (Tensor): Boxes (x1, y1, x2, y2) in units of cells, shape (N, 4).
        height (int): Rows of the grid.
        width (int): Columns of the grid.

    Returns:
        Tensor: Scales of shape (H, W).
    """
    if len(boxes) == 0:
        return boxes.new_zeros(height, width)
    start = boxes[:, :2].floor()
    end = torch.maximum(boxes[:, 2:].ceil(), start + 1)
    columns, rows = (
        (cells >= start[:, i, None]) & (cells < end[:, i, None])
        for i, cells in enumerate(torch.arange(n, device=boxes.device) for n in (width, height))
    )
    num_cells = (rows.sum(1) * columns.sum(1)).clamp(min=1)
    inside = rows[:, :, None] & columns[:, None, :]
    return (inside / num_cells[:, None, None]).amax(dim=0)


def scale_masks(data_samples: Sequence, feature: Tensor) -> tuple[Tensor, Tensor]:
    """M·S and (1 − M)·S of FGD, Sec. 3.1: the weights of foreground and background cells.

    Args:
        data_samples (Sequence[DetDataSample]): Data samples of the batch, with
            ``gt_instances.bboxes`` (N, 4) in pixels of the padded input and its (height, width),
            ``batch_input_shape``.
        feature (Tensor): Feature of shape (B, C, H, W); gives the grid.

    Returns:
        tuple[Tensor, Tensor]: Foreground and background of shape (B, H, W). The background adds
        up to 1 in every image, the foreground to 1 in every box that no other overlaps.

    Raises:
        DistillationError: If there are no data samples with boxes, one for each image.
    """
    height, width = feature.shape[2:]
    foregrounds = []
    for sample in data_samples or ():
        boxes = getattr(sample.get('gt_instances'), 'bboxes', None)
        boxes = getattr(boxes, 'tensor', boxes)  # a Tensor or BaseBoxes
        if boxes is None or boxes.size(-1) != 4 or 'batch_input_shape' not in sample:
            break
        image_height, image_width = sample.batch_input_shape
        # Multiplied first: 180 px of 480 px are exactly 3 of 8 cells, and not one cell more.
        cells = boxes.to(feature) * feature.new_tensor([width, height] * 2)
        cells = cells / feature.new_tensor([image_width, image_height] * 2)
        foregrounds.append(foreground_scale(cells, height, width))
    if len(foregrounds) != len(feature):
        raise DistillationError(
            f'FGDLoss needs the ground truth of each of the {len(feature)} maps of a batch: data '
            'samples with gt_instances.bboxes (N, 4) and batch_input_shape, which the detectors '
            'of MMDetection have. For other tasks, and for taps behind the RoI extractor, choose '
            'another loss.'
        )
    foreground = torch.stack(foregrounds)
    background = (foreground == 0).to(foreground)
    return foreground, background / background.sum(dim=(1, 2), keepdim=True).clamp(min=1)


class GcBlock(nn.Module):
    """R(F) = F + W_v2 ReLU(LN(W_v1 Σ_j softmax_j(W_k F) F_j)) (FGD, Sec. 3.2, after GCNet).

    Starts as the identity, since W_v2 starts at zero.

    Args:
        channels (int): Channels C; C / 2 in between.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        # No bias: the softmax would not see it.
        self.key = nn.Conv2d(channels, 1, 1, bias=False)
        self.value = nn.Sequential(
            nn.Linear(channels, channels // 2),
            nn.LayerNorm(channels // 2),
            nn.ReLU(),
            nn.Linear(channels // 2, channels),
        )
        nn.init.kaiming_normal_(self.key.weight)
        nn.init.zeros_(self.value[-1].weight)
        nn.init.zeros_(self.value[-1].bias)

    def forward(self, feature: Tensor) -> Tensor:
        """Adds to every position of (B, C, H, W) what the whole map says."""
        weights = self.key(feature).flatten(1).softmax(dim=1)
        context = torch.einsum('bcn,bn->bc', feature.flatten(2), weights)
        return feature + self.value(context)[:, :, None, None]


@MODELS.register_module()
class FGDLoss(nn.Module):
    """Focal and global distillation (FGD, Yang et al. 2022, Sec. 3).

    The sum of four terms, each summed over channels and positions and divided by the batch size,
    as in the authors' code; the weights below have no other meaning than with these sums.

    - α·Σ M·S·A^S·A^C·(refined − target)²: foreground, where M·S is 1 / (cells of the box),
    - β·Σ (1 − M)·S·A^S·A^C·(refined − target)²: background, where S is 1 / (cells without box),
    - ``γ·(Σ |A^S − A^S_student| + Σ |A^C − A^C_student|)``: attention,
    - λ·Σ (R_teacher(target) − R_student(refined))²: relations between positions.

    A^S and A^C are the spatial and channel attention of the target, without gradient. Every R is
    a :class:`GcBlock` that learns; each level has a pair of its own. Published weights:

    ========================  ======  ======  ======  ======
    student                   α       β       γ       λ
    ========================  ======  ======  ======  ======
    two-stage                 5e-5    2.5e-5  5e-5    5e-7
    one-stage with anchors    1e-3    5e-4    1e-3    5e-6
    one-stage without         1.6e-3  8e-4    8e-4    8e-6
    ========================  ======  ======  ======  ======

    The authors' configs have γ = 5e-4 for RetinaNet and GFL, τ = 0.8 for FCOS, and for YOLOX 2e-3,
    1e-3, 1e-3 and 1e-5. In their code a box has one row and one column of cells more, and is scaled
    by the size of the image before padding, which misplaces it in padded images.

    .. code-block:: python

        fpn=dict(student='neck', teacher='neck', loss=dict(type='FGDLoss', channels=256))

    Args:
        channels (int): Channels C of target and refined student.
        num_levels (int, optional): Number of levels. None: found by the distiller.
        tau (float): Temperature τ of the attention. Defaults to 0.5.
        foreground_weight (float): α. Defaults to 1e-3.
        background_weight (float): β. Defaults to 5e-4.
        attention_weight (float): γ. Defaults to 1e-3.
        global_weight (float): λ. Defaults to 5e-6.
    """

    dims = (4,)  # maps alone

    def __init__(
        self,
        channels: PositiveInt,
        num_levels: PositiveInt | None = None,
        tau: PositiveFloat = 0.5,
        foreground_weight: NonNegativeFloat = 1e-3,
        background_weight: NonNegativeFloat = 5e-4,
        attention_weight: NonNegativeFloat = 1e-3,
        global_weight: NonNegativeFloat = 5e-6,
    ) -> None:
        super().__init__()
        self.channels = channels
        self.tau = tau
        self.foreground_weight = foreground_weight
        self.background_weight = background_weight
        self.attention_weight = attention_weight
        self.global_weight = global_weight
        levels = range(num_levels or 1)
        self.student_relations = nn.ModuleList(GcBlock(channels) for _ in levels)
        self.teacher_relations = nn.ModuleList(GcBlock(channels) for _ in levels)

    def forward(
        self, refined: Tensor, target: Tensor, data_samples: Sequence, level: int = 0
    ) -> Tensor:
        """Compares the features of one level.

        Args:
            refined (Tensor): Refined student, shape (B, C, H, W).
            target (Tensor): Target of the same shape.
            data_samples (Sequence[DetDataSample]): Data samples of the batch, with boxes.
            level (int): Index of the level. Defaults to 0.

        Returns:
            Tensor: The weighted sum of the four terms.

        Raises:
            DistillationError: If channels, levels or data samples do not fit.
        """
        if level >= len(self.student_relations) or refined.size(1) != self.channels:
            raise DistillationError(
                f'FGDLoss has num_levels={len(self.student_relations)} and '
                f'channels={self.channels}, but is given level {level} with '
                f'{refined.size(1)} channels.'
            )
        refined, target = refined.float(), target.detach().float()
        foreground, background = scale_masks(data_samples, target)
        mask = self.foreground_weight * foreground + self.background_weight * background
        spatial, channel = spatial_attention(target, self.tau), channel_attention(target, self.tau)
        error = (channel * (refined - target).square()).sum(dim=1)
        focal = (mask * spatial[:, 0] * error).sum()
        attention = (spatial - spatial_attention(refined, self.tau)).abs().sum()
        attention = attention + (channel - channel_attention(refined, self.tau)).abs().sum()
        with torch.autocast(refined.device.type, enabled=False):
            relation = self.teacher_relations[level](target)
            relation = (relation - self.student_relations[level](refined)).square().sum()
        total = focal + self.attention_weight * attention + self.global_weight * relation
        return total / len(refined)
