"""CIRKD: relations of pixels across the images of a batch and of the batches before it."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..errors import DistillationError
from ..options import NonNegativeFloat, PositiveFloat, PositiveInt
from ..registry import MODELS


def relation_divergence(
    student: Tensor, teacher: Tensor, student_keys: Tensor, teacher_keys: Tensor, tau: float
) -> Tensor:
    """KL(softmax(T·K_Tᵀ/τ) ‖ softmax(S·K_Sᵀ/τ)), mean over the N rows; 0 without rows or keys.

    S, T are unit vectors of shape (N, C_s), (N, C_t); the keys K_S, K_T (M, C_s), (M, C_t).
    """
    student = F.log_softmax(student @ student_keys.t() / tau, dim=1)
    teacher = F.log_softmax(teacher @ teacher_keys.t() / tau, dim=1)
    divergence = F.kl_div(student, teacher, reduction='sum', log_target=True)
    return divergence / max(len(student), 1)


def ranks(groups: Tensor, num_groups: int) -> Tensor:
    """Counts the elements of each group: 0, 1, … in their order, shape (N,) as ``groups``."""
    sizes = groups.bincount(minlength=num_groups)
    starts = sizes.cumsum(0) - sizes
    order = groups.argsort(stable=True)  # its inverse is each element's place if sorted
    return order.argsort() - starts[groups]


class ClassQueue(nn.Module):
    """The latest embeddings of each class, in a ring that checkpoints leave out.

    Args:
        num_classes (int): Number of classes.
        size (int): Embeddings of a class.
        channels (int): Channels C of an embedding.
    """

    def __init__(self, num_classes: int, size: int, channels: int) -> None:
        super().__init__()
        # Half precision, which unit vectors bear well: CIRKD's sizes are 0.4 GB in single.
        embeddings = torch.zeros(num_classes, size, channels, dtype=torch.float16)
        self.register_buffer('embeddings', embeddings, persistent=False)
        num_pushed = torch.zeros(num_classes, dtype=torch.long)
        self.register_buffer('num_pushed', num_pushed, persistent=False)

    def push(self, embeddings: Tensor, classes: Tensor) -> None:
        """Takes in embeddings (N, C) of the given classes (N,) in place of the oldest."""
        size = self.embeddings.size(1)
        rank = ranks(classes, len(self.num_pushed))
        number = classes.bincount(minlength=len(self.num_pushed))
        fits = rank >= (number - size)[classes]  # else overwritten by one of this very call
        slots = (self.num_pushed[classes] + rank) % size
        self.embeddings[classes[fits], slots[fits]] = embeddings[fits].to(self.embeddings)
        self.num_pushed += number

    def sample(self, number: int) -> Tensor:
        """Draws embeddings, with replacement: ``number`` of each class that has any."""
        filled = self.num_pushed.clamp(max=self.embeddings.size(1))
        classes = filled.nonzero()
        slots = torch.randint(1 << 62, (len(classes), number), device=filled.device)
        return self.embeddings[classes, slots % filled[classes]].flatten(0, 1).float()


@MODELS.register_module()
class CIRKDLoss(nn.Module):
    """Cross-image relations of pixel embeddings (CIRKD, Yang et al. 2022), for segmentation.

    Embeddings are the features before the classifier, behind its dropout as in the authors' code,
    scaled to unit length. Each of the three terms is a :func:`relation_divergence`:

    - pixels of an image with the pixels of an image of the batch, mean over all ordered pairs,
    - labelled pixels with embeddings of single pixels from a queue,
    - labelled pixels with embeddings of regions from a queue, each the mean over a class's pixels
      in an image.

    The queues hold the teacher's embeddings, class by class; they are compared with the student's
    after a projection (1×1 conv, SyncBN, ReLU, 1×1 conv). Each training step first adds one region
    and up to 16 random pixels of each class of each image, labels being resized to the feature.

    The authors add KD on the logits with τ 1 and weight 1, a point with :class:`KLDivLoss`. All
    defaults are those of their code (github.com/winycg/CIRKD). What is different here:

    - Pixels of a class are drawn from its own. Their code draws from the first pixels of the image,
      as many as the class has.
    - Queues start empty, not with random vectors; what is compared is drawn with replacement from
      the classes that have entries; the queue is a true ring.
    - Every process has queues of what it saw itself; theirs gather from all. They take longer to
      fill but do not age, since the teacher is frozen.
    - Checkpoints do without the 0.2 GB of queues: they start empty in a resumed training as well.
    - Pairs of images are compared one at a time, and anew in the backward pass, so that the memory
      for them does not grow with the batch.

    .. code-block:: python

        embedding=dict(
            student='decode_head.dropout',  # the classifier's input
            teacher='decode_head.dropout',
            loss=dict(type='CIRKDLoss', student_channels=128, teacher_channels=256, num_classes=19),
        )

    Args:
        student_channels (int): Channels C_s of the student's feature.
        teacher_channels (int): Channels C_t of the teacher's.
        num_classes (int): Number of classes. Pixels of higher labels (255) are left out of the
            queues and their terms.
        tau (float): Temperature τ. Defaults to 0.1.
        batch_weight (float): Weight of the pairs of images. Defaults to 1.0.
        pixel_weight (float): Weight of the queue of pixels. Defaults to 0.1.
        region_weight (float): Weight of the queue of regions. Defaults to 0.1.
        pixel_queue_size (int): Pixels of each class in the queue. Defaults to 20000.
        region_queue_size (int): Regions of each class in the queue. Defaults to 2000.
        num_pixels (int): Pixels to compare with, about; each class has ``num_pixels //
            num_classes + 1``. Defaults to 4096.
        num_regions (int): Regions to compare with, likewise. Defaults to 1024.
        pixels_per_class (int): Most pixels that a class of an image adds. Defaults to 16.
    """

    dims = (4,)  # maps alone

    def __init__(
        self,
        student_channels: PositiveInt,
        teacher_channels: PositiveInt,
        num_classes: PositiveInt,
        tau: PositiveFloat = 0.1,
        batch_weight: NonNegativeFloat = 1.0,
        pixel_weight: NonNegativeFloat = 0.1,
        region_weight: NonNegativeFloat = 0.1,
        pixel_queue_size: PositiveInt = 20_000,
        region_queue_size: PositiveInt = 2000,
        num_pixels: PositiveInt = 4096,
        num_regions: PositiveInt = 1024,
        pixels_per_class: PositiveInt = 16,
    ) -> None:
        super().__init__()
        self.student_channels = student_channels
        self.teacher_channels = teacher_channels
        self.num_classes = num_classes
        self.tau = tau
        self.batch_weight = batch_weight
        self.pixel_weight = pixel_weight
        self.region_weight = region_weight
        self.pixels_drawn = num_pixels // num_classes + 1
        self.regions_drawn = num_regions // num_classes + 1
        self.pixels_per_class = pixels_per_class
        self.pixels = ClassQueue(num_classes, pixel_queue_size, teacher_channels)
        self.regions = ClassQueue(num_classes, region_queue_size, teacher_channels)
        self.projection = nn.Sequential(
            nn.Conv2d(student_channels, teacher_channels, 1, bias=False),
            nn.SyncBatchNorm(teacher_channels),
            nn.ReLU(),
            nn.Conv2d(teacher_channels, teacher_channels, 1, bias=False),
        )

    def forward(self, refined: Tensor, target: Tensor, data_samples: Sequence) -> Tensor:
        """Compares the features; in training mode, the target enters the queues first.

        Args:
            refined (Tensor): Student's feature, shape (B, C_s, H, W).
            target (Tensor): Teacher's feature, shape (B, C_t, H, W).
            data_samples (Sequence[SegDataSample]): Data samples of the batch, with labels.

        Returns:
            Tensor: The weighted sum of the three terms.

        Raises:
            DistillationError: If there are no labels.
        """
        labels = self._resize_labels(data_samples, refined)
        with torch.autocast(refined.device.type, enabled=False):
            features = refined.float(), self.projection(refined.float()), target.detach().float()
            student, projected, teacher = (
                F.normalize(x.flatten(2).transpose(1, 2), dim=2) for x in features
            )
            pairs = [
                self._compare(student[i], teacher[i], student[j], teacher[j])
                for i in range(len(student))
                for j in range(len(student))
            ]
            # From here on pixels of all images, each with a number of its class in its image.
            labelled = labels < self.num_classes
            images = torch.arange(len(labels), device=labels.device)[:, None]
            regions = (images * self.num_classes + labels)[labelled]
            projected, teacher = projected[labelled], teacher[labelled]
            if self.training:
                self.enqueue(teacher, regions)
            keys = self.pixels.sample(self.pixels_drawn)
            pixel = self._compare(projected, teacher, keys, keys)
            keys = self.regions.sample(self.regions_drawn)
            region = self._compare(projected, teacher, keys, keys)
        batch = torch.stack(pairs).mean()
        return self.batch_weight * batch + self.pixel_weight * pixel + self.region_weight * region

    @torch.no_grad()
    def enqueue(self, embeddings: Tensor, regions: Tensor) -> None:
        """Adds the regions and some of their pixels to the queues.

        Args:
            embeddings (Tensor): The teacher's unit vectors of labelled pixels, shape (N, C_t).
            regions (Tensor): Region of each pixel, image · num_classes + class, shape (N,).
        """
        sizes = regions.bincount()
        shuffled = torch.randperm(len(regions), device=regions.device)
        chosen = shuffled[ranks(regions[shuffled], len(sizes)) < self.pixels_per_class]
        self.pixels.push(embeddings[chosen], regions[chosen] % self.num_classes)
        sums = embeddings.new_zeros(len(sizes), embeddings.size(1))
        sums.index_add_(0, regions, embeddings)  # a mean, up to its length
        present = sizes.nonzero().flatten()
        self.regions.push(F.normalize(sums[present], dim=1), present % self.num_classes)

    def _compare(self, *embeddings: Tensor) -> Tensor:
        """The divergence, whose matrices are computed anew for the backward pass."""
        return checkpoint(
            relation_divergence,
            *embeddings,
            self.tau,
            use_reentrant=False,
            preserve_rng_state=False,
        )

    def _resize_labels(self, data_samples: Sequence, feature: Tensor) -> Tensor:
        """Labels of the feature's pixels, shape (B, H·W)."""
        labels = [sample.get('gt_sem_seg') for sample in data_samples or ()]
        if len(labels) != len(feature) or any(label is None for label in labels):
            raise DistillationError(
                f'CIRKDLoss needs the labels of each of the {len(feature)} maps of a batch: data '
                'samples with gt_sem_seg, which the models of MMSegmentation have.'
            )
        maps = torch.stack([label.data for label in labels])
        return F.interpolate(maps.float(), feature.shape[2:], mode='nearest').flatten(1).long()
