import math

import pytest
import torch
from torch import nn

from diffkd_mm.errors import DistillationError
from diffkd_mm.losses import FGDLoss
from diffkd_mm.losses.fgd import GcBlock, foreground_scale, scale_masks
from diffkd_mm.registry import build_model

structures = pytest.importorskip('mmdet.structures')
HorizontalBoxes = pytest.importorskip('mmdet.structures.bbox').HorizontalBoxes
InstanceData = pytest.importorskip('mmengine.structures').InstanceData

WEIGHTS = dict(foreground_weight=0, background_weight=0, attention_weight=0, global_weight=0)


def sample_of(boxes, shape=(32, 48)):
    boxes = torch.tensor(boxes, dtype=torch.float32).view(-1, 4)
    sample = structures.DetDataSample(metainfo=dict(batch_input_shape=shape))
    sample.gt_instances = InstanceData(bboxes=boxes, labels=torch.zeros(len(boxes)))
    return sample


@pytest.fixture
def batch():
    """Two images of 32×48 pixels, maps of 4×6 cells: cells of 8 pixels. One image is empty."""
    torch.manual_seed(0)
    refined, target = torch.randn(2, 2, 4, 4, 6).unbind(0)
    return refined, target, [sample_of([[4, 8, 20, 24], [16, 8, 24, 16]]), sample_of([])]


def softmax(values):
    exponentials = [math.exp(v) for v in values]
    return [e / sum(exponentials) for e in exponentials]


def attention_by_loops(feature, tau):
    """A^S as a list of rows and A^C as a list, of one feature (C, H, W)."""
    channels, height, width = feature.shape
    f = feature.tolist()
    by_cell = [
        sum(abs(f[c][i][j]) for c in range(channels)) / channels / tau
        for i in range(height)
        for j in range(width)
    ]
    by_channel = [
        sum(abs(f[c][i][j]) for i in range(height) for j in range(width)) / height / width / tau
        for c in range(channels)
    ]
    spatial = [height * width * p for p in softmax(by_cell)]
    rows = [spatial[i * width : (i + 1) * width] for i in range(height)]
    return rows, [channels * p for p in softmax(by_channel)]


def test_masks_by_hand(batch):
    """The second box has one cell, which the first, of 3×2 cells, has too."""
    foreground, background = scale_masks(batch[2], batch[1])
    a = 1 / 6
    expected = torch.tensor(
        [[0, 0, 0, 0, 0, 0], [a, a, 1, 0, 0, 0], [a, a, a, 0, 0, 0], [0, 0, 0, 0, 0, 0]]
    )
    torch.testing.assert_close(foreground[0], expected)
    torch.testing.assert_close(background[0], (expected == 0) / 18)
    torch.testing.assert_close(foreground[1], torch.zeros(4, 6))
    torch.testing.assert_close(background[1], torch.full((4, 6), 1 / 24))


def test_order_of_boxes_does_not_matter(batch):
    boxes = batch[2][0].gt_instances.bboxes / 8
    torch.testing.assert_close(foreground_scale(boxes.flip(0), 4, 6), foreground_scale(boxes, 4, 6))


@pytest.mark.parametrize(
    'box, cells',
    [
        ([2.2, 1.3, 2.4, 1.6], [(1, 2)]),  # within a cell
        ([2.0, 1.0, 2.0, 1.0], [(1, 2)]),  # without an area
        ([1.9, 1.0, 2.1, 2.0], [(1, 1), (1, 2)]),  # narrow, across a border
        ([-3.0, -9.0, 1.0, 1.5], [(0, 0), (1, 0)]),  # partly outside: inner cells count
        ([5.5, 3.5, 99.0, 99.0], [(3, 5)]),
        ([7.0, 1.0, 9.0, 2.0], []),  # outside
        ([-5.0, 1.0, -2.0, 2.0], []),
    ],
)
def test_cells_of_a_box(box, cells):
    expected = torch.zeros(4, 6)
    for i, j in cells:
        expected[i, j] = 1 / len(cells)
    torch.testing.assert_close(foreground_scale(torch.tensor([box]), 4, 6), expected)


def test_borders_of_cells_are_exact():
    """180 px of 480 px are 3 of 8 cells, although 8 / 480 is no binary fraction."""
    sample = sample_of([[0, 0, 180, 8], [300, 0, 420, 8]], shape=(8, 480))
    foreground, _ = scale_masks([sample], torch.zeros(1, 1, 1, 8))
    expected = torch.tensor([1 / 3, 1 / 3, 1 / 3, 0, 0, 1 / 2, 1 / 2, 0])
    torch.testing.assert_close(foreground.flatten(), expected)


def test_boxes_may_be_horizontal_boxes(batch):
    _, target, samples = batch
    expected = scale_masks(samples, target)
    for sample in samples:
        sample.gt_instances.bboxes = HorizontalBoxes(sample.gt_instances.bboxes)
    torch.testing.assert_close(scale_masks(samples, target), expected)


@pytest.mark.parametrize('term', ['foreground_weight', 'background_weight', 'attention_weight'])
def test_focal_terms_by_loops(batch, term):
    refined, target, samples = batch
    masks = dict(zip(('foreground_weight', 'background_weight'), scale_masks(samples, target)))
    expected = 0.0
    for b in range(2):
        spatial, channel = attention_by_loops(target[b], tau=0.7)
        student_spatial, student_channel = attention_by_loops(refined[b], tau=0.7)
        for i in range(4):
            for j in range(6):
                if term == 'attention_weight':
                    expected += abs(spatial[i][j] - student_spatial[i][j])
                    continue
                for c in range(4):
                    weight = masks[term][b, i, j].item() * spatial[i][j] * channel[c]
                    expected += weight * (target[b, c, i, j] - refined[b, c, i, j]).item() ** 2
        if term == 'attention_weight':
            expected += sum(abs(x - y) for x, y in zip(channel, student_channel))
    loss = FGDLoss(4, tau=0.7, **{**WEIGHTS, term: 3.0})
    assert loss(*batch).item() == pytest.approx(3 * expected / 2, rel=1e-4)


def randomize(module):
    for parameter in module.parameters():
        nn.init.normal_(parameter)


def test_gc_block_by_loops():
    torch.manual_seed(0)
    block, feature = GcBlock(8), torch.randn(2, 8, 2, 3)
    torch.testing.assert_close(block(feature), feature)  # as it starts
    randomize(block)
    key = block.key.weight.flatten()
    first, norm, _, last = block.value
    for x, actual in zip(feature.flatten(2), block(feature).flatten(2)):
        weights = softmax([(key @ x[:, n]).item() for n in range(6)])
        context = sum(w * x[:, n] for n, w in enumerate(weights))
        hidden = first.weight @ context + first.bias
        hidden = (hidden - hidden.mean()) / (hidden.var(correction=0) + 1e-5).sqrt()
        hidden = (hidden * norm.weight + norm.bias).clamp(min=0)
        expected = x + (last.weight @ hidden + last.bias)[:, None]
        torch.testing.assert_close(actual, expected, atol=1e-4, rtol=1e-4)


def test_relations_of_the_right_side_and_level(batch):
    refined, target, samples = batch
    loss = FGDLoss(4, num_levels=2, **{**WEIGHTS, 'global_weight': 2.0})
    start = 2 * (refined - target).square().sum() / 2
    torch.testing.assert_close(loss(refined, target, samples, level=1), start)
    randomize(loss)
    for level in range(2):
        teacher = loss.teacher_relations[level](target)
        student = loss.student_relations[level](refined)
        expected = 2 * (teacher - student).square().sum() / 2
        torch.testing.assert_close(loss(refined, target, samples, level=level), expected)


def test_the_four_terms_are_added(batch):
    weights = dict(zip(WEIGHTS, (1.0, 2.0, 3.0, 4.0)))
    terms = [FGDLoss(4, **{**WEIGHTS, k: v})(*batch) for k, v in weights.items()]
    torch.testing.assert_close(FGDLoss(4, **weights)(*batch), sum(terms))


def test_equal_features_cost_nothing(batch):
    _, target, samples = batch
    assert FGDLoss(4)(target, target.clone(), samples) == 0
    assert FGDLoss(4)(target + 1, target, samples) > 0


def test_a_batch_without_any_box(batch):
    refined, target, samples = batch
    empty = [samples[1], samples[1]]
    assert FGDLoss(4, **{**WEIGHTS, 'foreground_weight': 1.0})(refined, target, empty) == 0
    assert FGDLoss(4)(refined, target, empty) > 0


def test_a_box_as_large_as_the_image(batch):
    samples = [sample_of([0, 0, 48, 32])] * 2
    foreground, background = scale_masks(samples, batch[1])
    torch.testing.assert_close(foreground, torch.full((2, 4, 6), 1 / 24))
    torch.testing.assert_close(background, torch.zeros(2, 4, 6))


def test_gradients_reach_student_and_blocks_but_not_the_teacher(batch):
    samples = batch[2]
    refined, target = torch.randn(2, 2, 16, 4, 6).unbind(0)
    loss = FGDLoss(16)
    loss(refined, target, samples).backward()  # as it starts: DDP misses no parameter
    assert all(parameter.grad is not None for parameter in loss.parameters())
    randomize(loss)
    loss.zero_grad()
    refined.requires_grad_(), target.requires_grad_()
    loss(refined, target, samples).backward()
    assert target.grad is None and refined.grad.abs().sum() > 0
    assert all(parameter.grad.abs().sum() > 0 for parameter in loss.parameters())


@pytest.mark.parametrize('term', WEIGHTS)
def test_student_has_a_gradient_of_each_term(batch, term):
    refined, target, samples = batch
    refined.requires_grad_()
    FGDLoss(4, **{**WEIGHTS, term: 1.0})(refined, target, samples).backward()
    assert refined.grad.abs().sum() > 0


def test_float32_under_autocast(batch):
    refined, target, samples = batch
    loss = FGDLoss(4)
    randomize(loss)
    refined, target = refined.bfloat16(), target.bfloat16()
    expected = loss(refined.float(), target.float(), samples)
    with torch.autocast('cpu', torch.bfloat16):
        value = loss(refined, target, samples)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, expected)


def test_builds_from_config_with_the_weights_of_one_stage_detectors():
    loss = build_model(dict(type='FGDLoss', channels=8, num_levels=5))
    assert len(loss.student_relations) == len(loss.teacher_relations) == 5
    actual = [getattr(loss, name) for name in (*WEIGHTS, 'tau')]
    assert actual == [1e-3, 5e-4, 1e-3, 5e-6, 0.5]


def without_boxes():
    sample = sample_of([])
    del sample.gt_instances.bboxes
    return sample


def with_rotated_boxes():
    sample = sample_of([])
    sample.gt_instances = InstanceData(bboxes=torch.zeros(1, 5))
    return sample


def without_shape():
    return structures.DetDataSample(gt_instances=sample_of([0, 0, 8, 8]).gt_instances)


@pytest.mark.parametrize(
    'samples',
    [
        None,
        [structures.DetDataSample(), structures.DetDataSample()],
        [without_boxes(), without_boxes()],
        [sample_of([])],  # fewer images than maps
        [sample_of([]), without_boxes()],
        [without_shape(), without_shape()],
        [with_rotated_boxes(), with_rotated_boxes()],
    ],
)
def test_without_ground_truth_boxes(batch, samples):
    with pytest.raises(DistillationError, match='gt_instances.bboxes'):
        FGDLoss(4)(*batch[:2], samples)


def test_wrong_level_or_channels(batch):
    with pytest.raises(DistillationError, match='num_levels=1 .* level 1 '):
        FGDLoss(4)(*batch, level=1)
    with pytest.raises(DistillationError, match='channels=8, .* 4 channels'):
        FGDLoss(8)(*batch)
