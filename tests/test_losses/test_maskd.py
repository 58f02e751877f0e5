"""MasKD: its loss term by term, and what the tokens learn from."""

import pytest
import torch
import torch.nn.functional as F
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from diffkd_mm.errors import DistillationError
from diffkd_mm.losses import MasKDLoss, dice_coefficient

CHANNELS, TOKENS = 5, 3


def samples(batch=2, size=(16, 24), ignored=False):
    labels = torch.randint(CHANNELS, (batch, 1, *size))
    labels[..., :4] = 255
    if ignored:
        labels[:] = 255
    return [SegDataSample(gt_sem_seg=PixelData(data=x)) for x in labels]


@pytest.fixture
def maps():
    torch.manual_seed(0)
    return torch.randn(2, CHANNELS, 8, 12, requires_grad=True), torch.randn(2, CHANNELS, 8, 12)


@pytest.fixture
def loss():
    torch.manual_seed(1)
    loss = MasKDLoss(CHANNELS, num_tokens=TOKENS, loss_weight=2.0)
    torch.nn.init.normal_(loss.tokens)
    return loss


def test_value(loss, maps):
    """Of every sample, mask and channel by itself."""
    student, teacher = maps
    expected = []
    for s, t in zip(student, teacher, strict=True):
        for token in loss.tokens:
            mask = sum(w * x for w, x in zip(token, t, strict=True)).sigmoid()
            for a, b in zip(s, t, strict=True):
                expected.append(((mask * a - mask * b) ** 2).sum() / mask.sum())
    expected = 2.0 * 0.5 * sum(expected) / len(expected)
    torch.testing.assert_close(loss(student, teacher, samples()), expected, rtol=1e-4, atol=1e-6)


def test_dice():
    masks = torch.zeros(1, 3, 2, 2)
    masks[0, :, 0, 0] = 1
    torch.testing.assert_close(dice_coefficient(masks), torch.tensor(1.0))
    masks = torch.eye(3).view(1, 3, 1, 3)
    assert dice_coefficient(masks) == 0
    masks = torch.tensor([[[[1.0, 0.5]], [[0.5, 0.0]]]])
    # 2 · 0.5 / (1.25 + 0.25), twice.
    torch.testing.assert_close(dice_coefficient(masks), torch.tensor(2 / 3))


def test_tokens_learn_from_the_teacher_alone(loss, maps):
    student, teacher = maps
    data = samples()
    loss(student, teacher, data).backward()
    of_tokens, of_student = loss.tokens.grad.clone(), student.grad.clone()

    # Another student: the same lesson.
    loss.tokens.grad = None
    loss(student.detach() + 1, teacher, data).backward()
    torch.testing.assert_close(loss.tokens.grad, of_tokens)

    # The lesson, written down again.
    loss.tokens.grad = None
    masks = torch.einsum('tc,bchw->bthw', loss.tokens, teacher).sigmoid()
    seen = F.interpolate(
        sum(masks[:, [i]] * teacher for i in range(TOKENS)),
        size=(16, 24),
        mode='bilinear',
        align_corners=True,
    )
    labels = torch.cat([sample.gt_sem_seg.data for sample in data])
    (F.cross_entropy(seen, labels, ignore_index=255) + dice_coefficient(masks)).backward()
    torch.testing.assert_close(loss.tokens.grad, of_tokens, rtol=1e-4, atol=1e-6)

    # Other labels: the same gradient of the student.
    student.grad = None
    loss(student, teacher, samples(ignored=True)).backward()
    torch.testing.assert_close(student.grad, of_student)


def test_masks_come_apart(maps):
    """From the start, where all are one half, by the Dice coefficient."""
    _, teacher = maps
    loss, data = MasKDLoss(CHANNELS, num_tokens=TOKENS), samples()
    optimizer = torch.optim.SGD(loss.parameters(), lr=1.0)

    def overlap():
        masks = torch.einsum('tc,bchw->bthw', loss.tokens, teacher).sigmoid()
        return dice_coefficient(masks).item()

    before = overlap()
    for _ in range(200):
        optimizer.zero_grad()
        loss(teacher, teacher, data).backward()
        optimizer.step()
    assert before > 0.99 and overlap() < 0.9


def test_a_crop_without_labels(loss, maps):
    value = loss(*maps, samples(ignored=True))
    value.backward()
    assert torch.isfinite(value) and torch.isfinite(loss.tokens.grad).all()


def test_bad_input(loss, maps):
    for data in (None, [], samples(1), [SegDataSample(), SegDataSample()]):
        with pytest.raises(DistillationError, match='MasKDLoss needs the labels of each of the 2'):
            loss(*maps, data)
    with pytest.raises(ValueError, match='num_tokens=1'):
        MasKDLoss(CHANNELS, num_tokens=1)
