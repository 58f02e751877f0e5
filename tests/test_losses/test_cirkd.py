from collections import deque
from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import nn

from diffkd_mm.errors import DistillationError
from diffkd_mm.losses import CIRKDLoss
from diffkd_mm.losses.cirkd import ClassQueue, ranks
from diffkd_mm.registry import build_model

SegDataSample = pytest.importorskip('mmseg.structures').SegDataSample
PixelData = pytest.importorskip('mmengine.structures').PixelData

CLASSES, TAU = 3, 0.5
WEIGHTS = dict(batch_weight=0.0, pixel_weight=0.0, region_weight=0.0)
TERMS = list(WEIGHTS)


def build(**options):
    """Small queues; 5 channels in the student, 4 in the teacher. Draws 3 pixels, 2 regions."""
    sizes = dict(pixel_queue_size=7, region_queue_size=4, num_pixels=8, num_regions=5)
    options = {**sizes, 'pixels_per_class': 2, 'tau': TAU, **options}
    torch.manual_seed(1)
    return CIRKDLoss(5, 4, CLASSES, **options)


def only(term, **options):
    return build(**{**WEIGHTS, term: 1.0, **options})


def samples_of(labels):
    """Data samples of a tensor of labels (B, H, W)."""
    samples = [SegDataSample() for _ in labels]
    for sample, label in zip(samples, labels):
        sample.gt_sem_seg = PixelData(data=label[None])
    return samples


@pytest.fixture
def batch():
    """Three images; labels of twice the feature's size, with ignored pixels; class 2 is rare."""
    torch.manual_seed(0)
    labels = torch.tensor([0, 1, 255])[torch.randint(3, (3, 3, 4))]
    labels[1, 0, 0] = 2
    large = labels.repeat_interleave(2, 1).repeat_interleave(2, 2)
    large[:, 1::2] = 254  # not looked at: the nearest pixel is the upper left one
    large[:, :, 1::2] = 254
    student, teacher = torch.randn(3, 5, 3, 4), torch.randn(3, 4, 3, 4)
    return student, teacher, samples_of(large), labels


def unit(rows):
    rows = np.asarray(rows, dtype=np.float64)
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def pixels_of(feature):
    """Unit vectors of a map (C, H, W), row by row."""
    channels, height, width = feature.shape
    feature = feature.detach().double().numpy()
    return unit([feature[:, y, x] for y in range(height) for x in range(width)])


def divergence_by_loops(student, teacher, student_keys, teacher_keys):
    """KL of the rows' distributions, number by number."""
    total = 0.0
    for s, t in zip(student, teacher):
        p = [np.exp(sum(t * k) / TAU) for k in teacher_keys]
        q = [np.exp(sum(s * k) / TAU) for k in student_keys]
        p, q = [v / sum(p) for v in p], [v / sum(q) for v in q]
        total += sum(a * np.log(a / b) for a, b in zip(p, q))
    return total / len(student)


def test_pairs_of_images(batch):
    student, teacher, samples, _ = batch
    expected = np.mean(
        [
            divergence_by_loops(*map(pixels_of, (student[i], teacher[i], student[j], teacher[j])))
            for i in range(3)
            for j in range(3)
        ]
    )
    value = only('batch_weight')(student, teacher, samples)
    assert value.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize('term', ['pixel_weight', 'region_weight'])
def test_labelled_pixels_with_a_queue(batch, term):
    """Both sides against the same draw; pixels of label 255 are no rows."""
    student, teacher, samples, labels = batch
    loss = only(term)
    loss.projection = nn.Conv2d(5, 4, 1)  # a ReLU of 4 channels is zero here and there
    loss(student, teacher, samples)  # fills the queues
    loss.eval()
    torch.manual_seed(5)
    keys = [loss.pixels.sample(3), loss.regions.sample(2)][term == 'region_weight']
    projected = loss.projection(student)
    rows = np.concatenate([labels[i].flatten().numpy() != 255 for i in range(3)])
    s = np.concatenate([pixels_of(x) for x in projected])[rows]
    t = np.concatenate([pixels_of(x) for x in teacher])[rows]
    keys = keys.double().numpy()
    assert len(keys) == CLASSES * (2 if term == 'region_weight' else 3)
    torch.manual_seed(5)
    value = loss(student, teacher, samples)
    assert value.item() == pytest.approx(divergence_by_loops(s, t, keys, keys), rel=1e-5)


def test_sum_of_the_terms(batch):
    values = []
    for weights in [{t: 1.0} for t in TERMS] + [dict(zip(TERMS, (2.0, 3.0, 5.0)))]:
        loss = build(**{**WEIGHTS, **weights})
        torch.manual_seed(5)
        values.append(loss(*batch[:3]).item())
    assert values[3] == pytest.approx(2 * values[0] + 3 * values[1] + 5 * values[2])


def test_what_enters_the_queues(batch):
    """Of each class of an image: the mean of its pixels, and two of them."""
    student, teacher, samples, labels = batch
    loss = build()
    loss(student, teacher, samples)
    regions, pixels = [[] for _ in range(CLASSES)], [[] for _ in range(CLASSES)]
    for feature, label in zip(teacher, labels):
        embeddings = pixels_of(feature)
        for c in range(CLASSES):
            own = embeddings[label.flatten().numpy() == c]
            if len(own):
                regions[c].append(unit(own.mean(axis=0)))
                pixels[c].append(own)
    assert len(regions[2]) == 1 and len(pixels[2][0]) == 1
    for c in range(CLASSES):
        assert loss.regions.num_pushed[c] == len(regions[c])
        found = loss.regions.embeddings[c].double().numpy()
        np.testing.assert_allclose(found[: len(regions[c])], regions[c], atol=1e-3)
        numbers = [min(2, len(own)) for own in pixels[c]]
        assert loss.pixels.num_pushed[c] == sum(numbers)
        left = np.concatenate(pixels[c])
        for entry in loss.pixels.embeddings[c, : sum(numbers)].double().numpy():
            distances = np.abs(left - entry).max(axis=1)
            assert distances.min() < 1e-3
            left = np.delete(left, distances.argmin(), axis=0)  # none is there twice


def test_pixels_are_drawn_at_random(batch):
    draws = set()
    loss = build()
    for _ in range(20):
        fresh = deepcopy(loss)
        fresh(*batch[:3])
        draws.add(fresh.pixels.embeddings[0, 0, 0].item())
    assert len(draws) > 3


def test_only_training_fills_the_queues(batch):
    loss = build().eval()
    value = loss(*batch[:3])
    assert loss.pixels.num_pushed.sum() == 0 and loss.regions.num_pushed.sum() == 0
    pairs = only('batch_weight').eval()(*batch[:3])
    torch.testing.assert_close(value, pairs)  # nothing to compare with


def test_queue_is_a_ring():
    queue, expected = ClassQueue(3, 5, 1), [deque(maxlen=5) for _ in range(3)]
    generator = np.random.default_rng(0)
    value = 0
    for number in (0, 1, 4, 9, 30, 2, 7):  # some are more than a class can hold
        classes = generator.integers(2, size=number)  # never the third
        values = np.arange(value, value + number)
        value += number
        queue.push(torch.tensor(values).float()[:, None], torch.tensor(classes).long())
        for c, v in zip(classes, values):
            expected[c].append(v)
        for c in range(3):
            found = sorted(queue.embeddings[c, : len(expected[c]), 0].tolist())
            assert found == sorted(expected[c])
    assert queue.num_pushed.sum() == value
    assert queue.embeddings[2].count_nonzero() == 0


def test_draws_are_balanced_and_never_empty_places():
    queue = ClassQueue(4, 10, 1)
    assert queue.sample(6).shape == (0, 1)
    queue.push(torch.tensor([[1.0], [2.0], [3.0]]), torch.tensor([0, 0, 2]))
    drawn = queue.sample(100)[:, 0]
    assert set(drawn[:100].tolist()) == {1.0, 2.0} and set(drawn[100:].tolist()) == {3.0}
    assert len(drawn) == 200


def test_ranks():
    groups = torch.tensor([2, 0, 2, 2, 0, 3])
    assert ranks(groups, 5).tolist() == [0, 0, 1, 2, 1, 0]
    assert ranks(groups[:0], 0).tolist() == []


def test_equal_features_are_no_loss(batch):
    _, teacher, samples, _ = batch
    loss = build()
    loss.projection = nn.Identity()
    student = teacher.clone().requires_grad_()
    for _ in range(2):
        value = loss(student, teacher, samples)
        assert value.item() == pytest.approx(0, abs=1e-6)
    value.backward()
    assert student.grad.abs().max() < 1e-6


def test_scale_of_the_features_does_not_matter(batch):
    student, teacher, samples, _ = batch
    loss = only('batch_weight')
    torch.testing.assert_close(
        loss(3 * student, 0.5 * teacher, samples), loss(student, teacher, samples)
    )


def test_gradients_reach_student_and_projection_alone(batch):
    student, teacher, samples, _ = batch
    loss = build()
    student.requires_grad_(), teacher.requires_grad_()
    loss(student, teacher, samples).backward()
    assert teacher.grad is None and student.grad.abs().sum() > 0
    assert all(p.grad.abs().sum() > 0 for p in loss.parameters())
    assert not any(buffer.requires_grad for buffer in loss.buffers())


@pytest.mark.parametrize('term', TERMS)
def test_student_has_a_gradient_of_each_term(batch, term):
    """Against differences of the loss: the matrices are made anew for the backward pass."""
    student, teacher, samples, _ = batch
    loss = only(term)
    loss.projection = nn.Conv2d(5, 4, 1)  # no kinks
    loss(student, teacher, samples)
    loss.eval()

    def value(x):
        torch.manual_seed(5)
        return loss(x, teacher, samples)

    student.requires_grad_()
    (gradient,) = torch.autograd.grad(value(student), student)
    direction = torch.randn_like(student)
    step = 1e-2 * direction
    slope = (value(student + step) - value(student - step)) / 2e-2
    torch.testing.assert_close((gradient * direction).sum(), slope, rtol=1e-2, atol=1e-4)


def test_checkpoints_do_without_the_queues(batch):
    loss = build()
    loss(*batch[:3])
    resumed = build()
    resumed.load_state_dict(loss.state_dict())
    assert all(name.startswith('projection.') for name in loss.state_dict())
    assert loss.pixels.num_pushed.sum() > resumed.pixels.num_pushed.sum() == 0
    resumed(*batch[:3])
    torch.testing.assert_close(resumed.regions.num_pushed, loss.regions.num_pushed)


def test_one_image(batch):
    student, teacher, samples, _ = batch
    value = build()(student[:1], teacher[:1], samples[:1])
    assert value > 0 and value.isfinite()
    pairs = only('batch_weight')(student[:1], teacher[:1], samples[:1])
    expected = divergence_by_loops(*map(pixels_of, (student[0], teacher[0]) * 2))
    assert pairs.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize('filled', [False, True])
def test_everything_ignored(batch, filled):
    """No rows in the memory's terms, and still a gradient for every parameter, as DDP wants."""
    student, teacher, samples, labels = batch
    loss = build(batch_weight=0.0)
    if filled:
        loss(student, teacher, samples)
    before = loss.pixels.num_pushed.clone(), loss.regions.num_pushed.clone()
    value = loss(student, teacher, samples_of(torch.full_like(labels, 255)))
    assert value == 0
    value.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in loss.parameters())
    torch.testing.assert_close((loss.pixels.num_pushed, loss.regions.num_pushed), before)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_float32_under_autocast(batch, dtype):
    student, teacher, samples, _ = batch
    student, teacher = student.to(dtype), teacher.to(dtype)
    values = []
    for enabled in (False, True):
        loss = build()
        torch.manual_seed(5)
        x = (student if enabled else student.float()).clone().requires_grad_()
        with torch.autocast('cpu', torch.bfloat16, enabled=enabled):
            value = loss(x, teacher if enabled else teacher.float(), samples)
        value.backward()
        assert value.dtype == torch.float32 and x.grad.abs().sum() > 0
        values.append(value)
    torch.testing.assert_close(*values)


def test_builds_from_config_with_the_authors_values():
    cfg = dict(type='CIRKDLoss', student_channels=8, teacher_channels=16, num_classes=19)
    loss = build_model(cfg)
    assert [getattr(loss, t) for t in ('tau', *TERMS)] == [0.1, 1.0, 0.1, 0.1]
    assert loss.pixels.embeddings.shape == (19, 20_000, 16)
    assert loss.regions.embeddings.shape == (19, 2000, 16)
    drawn = (loss.pixels_drawn, loss.regions_drawn, loss.pixels_per_class)
    assert drawn == (216, 54, 16)


def without_labels():
    return [SegDataSample() for _ in range(3)]


@pytest.mark.parametrize('samples', [None, without_labels(), without_labels()[:1]])
def test_without_labels(batch, samples):
    with pytest.raises(DistillationError, match='gt_sem_seg'):
        build()(*batch[:2], samples)
