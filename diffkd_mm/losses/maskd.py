"""MasKD: the squared error inside masks that learned tokens draw on the teacher's map."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import DistillationError
from ..options import NonNegativeFloat, PositiveInt
from ..registry import MODELS


def dice_coefficient(masks: Tensor) -> Tensor:
    """Mean Dice coefficient 2·Σab / (Σa² + Σb²) of all pairs of different masks (MasKD).

    Args:
        masks (Tensor): Masks of shape (B, T, H, W), of at least two tokens.

    Returns:
        Tensor: A scalar, 1 if all masks are the same and 0 if they do not overlap.
    """
    masks = masks.flatten(2)
    products = masks @ masks.transpose(1, 2)
    squares = products.diagonal(dim1=1, dim2=2)
    dice = 2 * products / (squares[:, :, None] + squares[:, None, :] + 1e-12)
    others = 1 - torch.eye(masks.size(1), device=masks.device)  # choosing by a mask would wait
    return (dice * others).sum() / (others.sum() * len(dice))


@MODELS.register_module()
class MasKDLoss(nn.Module):
    """Masked distillation with receptive tokens (MasKD, Huang et al. 2023) of a segmentor's logits.

    Each token, a vector of as many channels as the map has, draws a mask m = sigmoid(token · F) on
    the teacher's map F. The loss is ½ of the mean over samples, masks and channels of
    Σ (m·(refined − F))² / Σ m, as in the authors' code for segmentation.

    The tokens learn on the teacher alone: by the cross entropy of its logits Σ m·F, enlarged to the
    labels' size, and the Dice coefficient between the masks, which keeps them apart. The authors
    train them in 10,000 iterations before; here they learn beside the student, from which, and for
    which, no gradient comes. The value of the loss is the student's part alone.

    .. code-block:: python

        logits=dict(
            student='decode_head.conv_seg',
            teacher='decode_head.conv_seg',
            loss=dict(type='MasKDLoss', channels=19),
        )

    Args:
        channels (int): Channels of the logits, the number of classes.
        num_tokens (int): Number of tokens T, at least two. Defaults to 8, as for Cityscapes.
        ignore_index (int): Label that does not count. Defaults to 255.
        align_corners (bool): How the logits are enlarged, as in the segmentor's head. Defaults to
            True.
        loss_weight (float): Weight of the student's loss. Defaults to 1.0.
    """

    dims = (4,)  # maps alone

    def __init__(
        self,
        channels: PositiveInt,
        num_tokens: PositiveInt = 8,
        ignore_index: int = 255,
        align_corners: bool = True,
        loss_weight: NonNegativeFloat = 1.0,
    ) -> None:
        super().__init__()
        if num_tokens < 2:
            raise ValueError(f'num_tokens={num_tokens} must be at least 2, to be kept apart.')
        self.ignore_index = ignore_index
        self.align_corners = align_corners
        self.loss_weight = loss_weight
        self.tokens = nn.Parameter(torch.randn(num_tokens, channels) * 0.01)

    def forward(self, refined: Tensor, target: Tensor, data_samples: Sequence) -> Tensor:
        """Compares logits and lets the tokens learn.

        Args:
            refined (Tensor): Refined student, shape (B, C, H, W).
            target (Tensor): Target of the same shape.
            data_samples (Sequence[SegDataSample]): Data samples of the batch, with labels.

        Returns:
            Tensor: The student's loss.

        Raises:
            DistillationError: If there are no labels, one map for each image.
        """
        refined, target = refined.float(), target.detach().float()
        with torch.autocast(refined.device.type, enabled=False):
            masks = torch.einsum('tc,bchw->bthw', self.tokens.float(), target).sigmoid()
            lesson = self._task_loss(masks, target, data_samples) + dice_coefficient(masks)
        masks = masks.detach()
        # Σ_t m_t² / Σ_hw m_t: the same for all channels.
        weight = masks.square() / (masks.sum(dim=(2, 3), keepdim=True) + 1e-5)
        error = (refined - target).square().mean(dim=1)
        loss = (weight.mean(dim=1) * error).sum(dim=(1, 2)).mean() / 2
        return self.loss_weight * loss + (lesson - lesson.detach())

    def _task_loss(self, masks: Tensor, target: Tensor, data_samples: Sequence) -> Tensor:
        """Cross entropy of the teacher's logits as they are seen through all masks."""
        labels = [sample.gt_sem_seg.data for sample in data_samples or () if 'gt_sem_seg' in sample]
        if len(labels) != len(target):
            raise DistillationError(
                f'MasKDLoss needs the labels of each of the {len(target)} images of a batch: data '
                'samples with gt_sem_seg, which the segmentors of MMSegmentation have. For other '
                'tasks choose another loss.'
            )
        labels = torch.cat(labels).to(target.device)
        seen = F.interpolate(
            masks.sum(dim=1, keepdim=True) * target,
            size=labels.shape[1:],
            mode='bilinear',
            align_corners=self.align_corners,
        )
        loss = F.cross_entropy(seen, labels, ignore_index=self.ignore_index, reduction='sum')
        return loss / (labels != self.ignore_index).sum().clamp(min=1)
