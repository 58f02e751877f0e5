"""RoI heads: the teacher runs on the regions that the student sampled."""

import pytest
import tiny
import torch
from mmengine.optim import OptimWrapper

from diffkd_mm.configs import load_config
from diffkd_mm.distillers import point_checks
from diffkd_mm.errors import DistillationError

REG = dict(
    student='roi_head.bbox_head.fc_reg',
    teacher='roi_head.bbox_head.fc_reg',
    regions='roi_head.bbox_roi_extractor',
    loss=dict(type='mmdet.SmoothL1Loss'),
)


def two_stage(config='faster_rcnn/faster-rcnn_r50_fpn_2x_coco.py', **bbox_head):
    cfg = tiny.shrink(load_config(f'mmdet::{config}').model)
    heads = cfg.roi_head.bbox_head
    for head in heads if isinstance(heads, list) else [heads]:
        head.update(fc_out_channels=16, num_classes=10, **bbox_head)
    for mask_head in [x for x in [cfg.roi_head.get('mask_head')] if x]:
        mask_head.update(num_convs=1, num_classes=10)
    return cfg


def build(student, teacher, points, same_weights=False, **options):
    model = tiny.build_distiller(student, teacher, points, **options)
    if same_weights:
        model.teacher.model.load_state_dict(model.student.state_dict())
    return model


def loss_of(model, data=None):
    data = model.data_preprocessor(data or tiny.batch(2, 96), True)
    return model(**data, mode='loss')


def test_same_network_has_no_loss():
    model = build(two_stage(), two_stage(), dict(reg=REG), same_weights=True)
    model.student.backbone.eval()  # the student's batch norms must not differ from the teacher's
    losses = loss_of(model)
    assert losses['reg.loss_kd'].item() < 1e-12  # the teacher's batch norms are folded
    # ... which is not for want of outputs.
    with torch.no_grad():
        model.student.roi_head.bbox_head.fc_reg.bias += 2
    assert loss_of(model)['reg.loss_kd'].item() == pytest.approx(1.5)


def test_other_regions_have_a_loss():
    model = build(two_stage(), two_stage(), dict(reg=REG), same_weights=True)
    model.student.backbone.eval()
    run_teacher = model.run_teacher

    def elsewhere(inputs, data_samples, regions, points):
        moved = {
            path: [rois + torch.tensor([0, 5, 5, 5, 5]) for rois in calls]
            for path, calls in regions.items()
        }
        return run_teacher(inputs, data_samples, moved, points)

    model.run_teacher = elsewhere
    assert loss_of(model)['reg.loss_kd'] > 1e-6


def test_regions_are_those_of_the_teachers_images():
    """Which are twice as large; the student's regions were those of its own."""
    model = build(two_stage(), two_stage(), dict(reg=REG))
    model.teacher.scale = 2.0
    loss_of(model)  # the first run is repeated to see what folding its norms changes
    seen = []
    for side in (model.student, model.teacher.model):
        side.roi_head.bbox_roi_extractor.register_forward_pre_hook(
            lambda module, args: seen.append((args[1], args[0][0].shape[-1]))
        )
    assert loss_of(model)['reg.loss_kd'] > 0
    (student, width), (teacher, larger) = seen
    assert larger == 2 * width and len(student) > 1
    torch.testing.assert_close(teacher[:, 1:], 2 * student[:, 1:])
    assert torch.equal(teacher[:, 0], student[:, 0])


def test_loss_is_the_mean_over_all_regions_and_deltas():
    model = build(two_stage(), two_stage(), dict(reg=REG))
    extractor, calls = model.student.roi_head.bbox_roi_extractor, []
    extractor.register_forward_pre_hook(lambda module, args: calls.append(args[1]))
    outputs = []
    model.student.roi_head.bbox_head.fc_reg.register_forward_hook(
        lambda module, args, output: outputs.append(output)
    )
    data = model.data_preprocessor(tiny.batch(2, 96), True)
    loss = model(**data, mode='loss')['reg.loss_kd']
    teacher = model.teacher.model
    features = teacher.extract_feat(data['inputs'])
    _, expected = teacher.roi_head.bbox_head(
        teacher.roi_head.bbox_roi_extractor(features[:4], calls[0])
    )
    assert expected.shape == outputs[0].shape and expected.shape[1] == 40
    torch.testing.assert_close(loss, torch.nn.functional.smooth_l1_loss(outputs[0], expected))


def test_teacher_proposes_assigns_and_samples_nothing(monkeypatch):
    model = build(two_stage(), two_stage(), dict(reg=REG))
    teacher = model.teacher.model

    def forbidden(*args, **kwargs):
        raise AssertionError('the teacher must not do this')

    monkeypatch.setattr(teacher.rpn_head, 'forward', forbidden)
    monkeypatch.setattr(teacher.roi_head, 'loss', forbidden)
    monkeypatch.setattr(teacher.roi_head.bbox_assigner, 'assign', forbidden)
    monkeypatch.setattr(teacher.roi_head.bbox_sampler, 'sample', forbidden)
    loss_of(model)  # the first run is repeated to see what folding its norms changes
    calls = []
    teacher.roi_head.bbox_head.register_forward_hook(lambda *_: calls.append('head'))
    loss_of(model)
    assert calls == ['head']


def test_first_stage_of_a_cascade():
    cascade = two_stage('cascade_rcnn/cascade-mask-rcnn_r50_fpn_20e_coco.py')
    points = dict(reg=dict(REG, teacher='roi_head.bbox_head.0.fc_reg'))
    model = build(two_stage(reg_class_agnostic=True), cascade, points)
    loss_of(model)
    calls = []
    for stage, head in enumerate(model.teacher.model.roi_head.bbox_head):
        head.register_forward_hook(lambda *_, stage=stage: calls.append(stage))
    assert loss_of(model)['reg.loss_kd'] > 0
    assert calls == [0]
    with pytest.raises(DistillationError, match="point 'reg': level 0 has 40 channels.* and 4 in"):
        build(two_stage(), cascade, points)


def test_every_stage_of_a_cascade_by_one_teacher():
    """Points share the teacher's tap and differ in the regions: none may stand in for another."""
    cascade = two_stage('cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco.py')
    points = {
        f'stage_{i}': dict(
            REG,
            student=f'roi_head.bbox_head.{i}.fc_reg',
            regions=f'roi_head.bbox_roi_extractor.{i}',
        )
        for i in range(3)
    }
    model = build(cascade, two_stage(reg_class_agnostic=True), points)
    loss_of(model)
    regions, replayed = [], []
    for extractor in model.student.roi_head.bbox_roi_extractor:
        extractor.register_forward_pre_hook(lambda _, args: regions.append(args[1]))
    model.teacher.model.roi_head.bbox_roi_extractor.register_forward_pre_hook(
        lambda _, args: replayed.append(args[1])
    )
    loss_of(model)
    assert len(replayed) == 3 and all(map(torch.equal, regions, replayed))
    assert not torch.equal(regions[0], regions[1])
    points = dict(reg=dict(points['stage_0'], regions='roi_head.bbox_roi_extractor'))
    with pytest.raises(
        DistillationError, match="was not called .* 'roi_head.bbox_roi_extractor.0'"
    ):
        loss_of(build(cascade, two_stage(reg_class_agnostic=True), points))


def test_head_that_extracts_twice():
    config = 'double_heads/dh-faster-rcnn_r50_fpn_1x_coco.py'
    cfg = tiny.shrink(load_config(f'mmdet::{config}').model)
    cfg.roi_head.bbox_head.update(num_convs=1, num_fcs=1, conv_out_channels=16, fc_out_channels=16)
    model = build(cfg, cfg, dict(reg=REG), same_weights=True)
    model.student.backbone.eval()
    model.student.roi_head.eval()
    assert loss_of(model)['reg.loss_kd'].item() < 1e-12


def test_student_that_chooses_its_samples_first():
    """OHEM runs the head without gradient on all candidates before it trains on the hardest."""
    cfg = two_stage()
    cfg.train_cfg.rcnn.sampler = dict(
        type='OHEMSampler', num=32, pos_fraction=0.25, neg_pos_ub=-1, add_gt_as_proposals=True
    )
    model = build(cfg, two_stage(), dict(reg=REG))
    loss_of(model)
    calls = []
    model.teacher.model.roi_head.bbox_head.register_forward_hook(
        lambda _, args, output: calls.append(len(output[0]))
    )
    assert loss_of(model)['reg.loss_kd'] > 0
    assert len(calls) == 1 and calls[0] <= 64


def test_masks_on_the_students_regions():
    config = 'mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py'
    point = dict(
        REG,
        student='roi_head.mask_head.conv_logits',
        teacher='roi_head.mask_head.conv_logits',
        regions='roi_head.mask_roi_extractor',
    )
    model = build(two_stage(config), two_stage(config), dict(masks=point), same_weights=True)
    model.student.backbone.eval()
    data = tiny.batch(2, 96, with_mask=True)
    losses = loss_of(model, data)
    assert losses['masks.loss_kd'].item() == pytest.approx(0, abs=1e-9)
    with torch.no_grad():
        model.student.roi_head.mask_head.conv_logits.bias += 2
    assert losses['loss_mask'] > 0 and loss_of(model, data)['masks.loss_kd'] > 1


@pytest.mark.parametrize('num_regions', [0, 1])
def test_few_regions(num_regions, monkeypatch):
    model = build(two_stage(), two_stage(), dict(reg=REG))
    roi_head = model.student.roi_head
    bbox_forward = roi_head._bbox_forward
    monkeypatch.setattr(
        roi_head, '_bbox_forward', lambda x, rois: bbox_forward(x, rois[:num_regions])
    )
    monkeypatch.setattr(
        roi_head.bbox_head,
        'loss_and_target',
        lambda cls_score, bbox_pred, **_: dict(
            loss_bbox=dict(loss_cls=cls_score.sum(), loss_bbox=bbox_pred.sum())
        ),
    )
    losses = loss_of(model)
    assert (losses['reg.loss_kd'] > 0) == (num_regions > 0)
    total, _ = model.parse_losses(losses)
    total.backward()
    assert torch.isfinite(roi_head.bbox_head.fc_reg.weight.grad).all()


def test_images_without_objects():
    model = build(two_stage(), two_stage(), dict(reg=REG))
    data = tiny.batch(2, 96)
    for sample in data['data_samples']:
        sample.gt_instances = sample.gt_instances[:0]
    log = model.train_step(data, OptimWrapper(torch.optim.SGD(model.parameters(), lr=1e-3)))
    assert all(torch.isfinite(value) for value in log.values())


@pytest.mark.parametrize(
    'point, message',
    [
        (dict(regions='roi_head.bbox_roi_extracto'), "'reg', regions: .*roi_head.bbox_roi_ext"),
        (dict(teacher='neck'), "'neck' of FasterRCNN cannot be run on given regions"),
        (dict(student='rpn_head.rpn_reg'), "'rpn_head.rpn_reg' of FasterRCNN cannot be run"),
    ],
)
def test_messages(point, message):
    with pytest.raises(DistillationError, match=message):
        build(two_stage(), two_stage(), dict(reg=dict(REG, **point)))


def test_regions_that_are_none():
    model = build(two_stage(), two_stage(), dict(reg=dict(REG, regions='backbone')))
    with pytest.raises(DistillationError, match="regions='backbone' is a ResNet and not a RoI ext"):
        loss_of(model)


def test_regions_that_are_not_named():
    point = {key: value for key, value in REG.items() if key != 'regions'}
    with pytest.raises(
        DistillationError, match='not the same samples. Taps in RoI heads need regions='
    ):
        loss_of(build(two_stage(), two_stage(), dict(reg=point)))


def test_head_with_a_semantic_branch():
    htc = tiny.shrink(load_config('mmdet::htc/htc_r50_fpn_1x_coco.py').model)
    point = dict(REG, teacher='roi_head.bbox_head.0.fc_reg')
    with pytest.raises(DistillationError, match='cannot be run on given regions'):
        build(two_stage(reg_class_agnostic=True), htc, dict(reg=point))


def test_head_that_needs_more_than_regions():
    sparse = tiny.shrink(load_config('mmdet::sparse_rcnn/sparse-rcnn_r50_fpn_1x_coco.py').model)
    point = dict(REG, teacher='roi_head.bbox_head.0.fc_reg')
    with pytest.raises(DistillationError, match='of SparseRCNN cannot be run on given regions'):
        build(two_stage(), sparse, dict(reg=point))


def test_warm_start_leaves_regions_out():
    connector = dict(type='ConvConnector', student_channels=256, teacher_channels=256)
    features = dict(
        REG,
        student='roi_head.bbox_roi_extractor',
        teacher='roi_head.bbox_roi_extractor',
        connector=connector,
        loss=dict(type='MSELoss'),
    )
    fpn = dict(
        student='neck',
        teacher='neck',
        connector=dict(type='DiffKDConnector', student_channels=256, teacher_channels=256),
        loss=dict(type='MSELoss'),
    )
    model = build(two_stage(), two_stage(), dict(features=features, fpn=fpn))
    data = model.data_preprocessor(tiny.batch(2, 96), True)
    assert set(model.teacher_losses(**data)) == {'fpn.loss_diff'}
    assert {'features.loss_kd', 'fpn.loss_kd'} <= set(model(**data, mode='loss'))


class TestOneRegion:
    """A batch norm has one value per channel then, and a process may be alone with it."""

    CONNECTOR = dict(type='DiffKDConnector', student_channels=40, teacher_channels=40)

    def losses(self, number, **connector):
        points = dict(reg=dict(REG, connector={**self.CONNECTOR, **connector}))
        model = build(two_stage(), two_stage(), points)
        sample = model.student.roi_head.bbox_sampler
        sample.num, sample.add_gt_as_proposals = number, True
        return model, loss_of(model, tiny.batch(1, 96))

    def test_the_point_is_skipped(self):
        model, losses = self.losses(1)
        assert losses['reg.loss_kd'].item() == 0 and 'reg.loss_diff' not in losses
        losses['reg.loss_kd'].backward()
        gradients = [p.grad for p in model.distillation.parameters()]
        assert gradients and not any(x is None or x.any() for x in gradients)

    def test_two_are_enough(self):
        _, losses = self.losses(2)
        assert losses['reg.loss_kd'] > 0 and losses['reg.loss_diff'] > 0

    def test_so_is_one_without_batch_norm(self):
        _, losses = self.losses(1, norm_cfg=dict(type='GN', num_groups=4))
        assert losses['reg.loss_kd'] > 0


@pytest.mark.parametrize(
    ('connector', 'option'),
    [
        (dict(standardize='channel'), 'standardize'),
        (dict(norm_cfg=dict(type='SyncBN')), 'SyncBN'),
        ({}, None),
    ],
)
def test_processes_that_would_wait_for_each_other(monkeypatch, connector, option):
    """One of two processes samples no region, and the other waits for ever."""
    monkeypatch.setattr(point_checks, 'get_world_size', lambda: 2)
    connector = dict(TestOneRegion.CONNECTOR, **connector)
    points = dict(reg=dict(REG, connector=connector))
    if option is None:
        build(two_stage(), two_stage(), points)
        return
    with pytest.raises(DistillationError, match=f"point 'reg': {option} makes processes wait"):
        build(two_stage(), two_stage(), points)
