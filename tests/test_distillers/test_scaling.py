"""A teacher that sees images of another size than its student."""

import sys
from pathlib import Path

import pytest
import tiny
import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from mmengine.structures import BaseDataElement

from diffkd_mm.distillers.scaling import resize_batch, scaled_size
from diffkd_mm.errors import DistillationError

CAFFE = dict(mean=[103.5, 116.3, 123.7], std=[1.0, 1.0, 1.0], bgr_to_rgb=False, pad_value=9)
CONV = dict(
    student='neck', teacher='neck', connector=dict(type='ConvConnector'), loss=dict(type='MSELoss')
)


def config(teacher_checkpoint, scale, teacher=None, **point):
    cfg = tiny.distiller(teacher_checkpoint, dict(fpn=dict(CONV, **point)), teacher)
    cfg['teacher']['scale'] = scale
    return cfg


def built(*args, **kwargs):
    model = tiny.build(config(*args, **kwargs))
    model.init_weights()
    return model.train()


@pytest.mark.parametrize(
    'size, scale, divisor, expected',
    [
        ((64, 96), 2, 32, (128, 192)),
        ((800, 1216), 1.5, 32, (1216, 1824)),  # 1200 is no multiple
        ((64, 64), 0.1, 32, (32, 32)),
        ((224, 224), 384 / 224, None, (384, 384)),
        ((65, 33), 1, 32, (65, 33)),  # nothing to do
    ],
)
def test_sizes(size, scale, divisor, expected):
    preprocessor = torch.nn.Module()
    if divisor:
        preprocessor.size_divisor = divisor
    assert scaled_size(size, scale, preprocessor) == expected


@pytest.mark.parametrize('scale', [2, 0.5])
def test_images_are_those_of_a_pipeline_that_resizes(teacher_checkpoint, scale):
    """Resized before they were preprocessed and padded, by the teacher's own preprocessor."""
    model = built(
        teacher_checkpoint,
        scale,
        tiny.retinanet(channels=24, **CAFFE),
        resize=True,
    )
    data = tiny.batch()
    raw = [torch.rand(3, *size) * 255 for size in ((128, 96), (64, 128))]
    data['inputs'] = raw
    for sample, image in zip(data['data_samples'], raw):
        sample.set_metainfo(dict(img_shape=tuple(image.shape[1:]), scale_factor=(1.0, 3.0)))
    before = model.data_preprocessor(data, True)
    images, samples = model.teachers.images_for('teacher', *before.values())
    data['inputs'] = [
        F.interpolate(
            image[None], scale_factor=scale, mode='bilinear', antialias=scale < 1
        ).squeeze(0)
        for image in raw
    ]
    for sample, image in zip(data['data_samples'], data['inputs']):
        sample.set_metainfo(dict(img_shape=tuple(image.shape[1:])))
    after = model.teacher.model.data_preprocessor(data, True)
    torch.testing.assert_close(images, after['inputs'], atol=1e-3, rtol=1e-4)
    for ours, sample in zip(samples, after['data_samples']):
        for key in ('img_shape', 'batch_input_shape', 'pad_shape'):
            assert tuple(getattr(ours, key)) == tuple(getattr(sample, key)), key
        assert ours.scale_factor == (scale, 3 * scale)
        assert torch.equal(ours.gt_instances.labels, sample.gt_instances.labels)


def test_metainfo_of_segmentors_and_without_samples():
    sample = BaseDataElement(
        metainfo=dict(img_shape=(6, 8), img_padding_size=(0, 0, 0, 2), pad_shape=(8, 8), flip=True)
    )
    images, (scaled,) = resize_batch(torch.ones(1, 3, 8, 8), [sample], (16, 16), pad_value=5)
    assert scaled.metainfo == dict(
        img_shape=(12, 16), img_padding_size=(0, 0, 0, 4), pad_shape=(16, 16), flip=True
    )
    assert (images[:, :, :12] == 1).all() and (images[:, :, 12:] == 5).all()
    assert sample.img_shape == (6, 8)
    images, samples = resize_batch(torch.ones(2, 3, 8, 8), None, (16, 16), pad_value=5)
    assert samples is None and (images == 1).all()


@pytest.mark.parametrize(
    'scale, point, levels, sizes',
    [
        # Twice the image: the teacher's stride 16 is as large as the student's stride 8.
        (2, dict(strides=[8, 16]), ([0, 1], [1, 2]), [(8, 8), (4, 4)]),
        (2, dict(student_levels=[0, 1], teacher_levels=[1, 2]), ([0, 1], [1, 2]), None),
        (1.5, dict(strides=[8, 16], resize=True), ([0, 1], [0, 1]), None),
        (0.5, dict(strides=[16, 32]), ([1, 2], [0, 1]), None),
    ],
)
def test_levels(teacher_checkpoint, scale, point, levels, sizes):
    model = built(teacher_checkpoint, scale, **point)
    fpn = model.distillation.fpn
    assert (list(fpn.levels['student']), list(fpn.levels['teacher'])) == levels
    data = tiny.batch()
    seen = []
    model.teacher.model.backbone.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    assert tiny.train_step(model, data)['fpn.loss_kd'] > 0
    assert seen[-1].shape[2:] == (64 * scale, 64 * scale)
    if sizes:
        records = model.run_teacher(**model.data_preprocessor(data, True))
        chosen = fpn.select([x for x, _ in records['fpn']], 'teacher')
        assert [tuple(x.shape[2:]) for x in chosen] == sizes


@pytest.mark.parametrize(
    'point, message',
    [
        ({}, r"'fpn': level 0 has size \(16, 16\) in the .*\(32, 32\) in the .*set resize=True"),
        (dict(strides=[8, 32]), 'one level of stride 32, and the teacher .* strides 4, 8, 16'),
    ],
)
def test_levels_that_do_not_fit(teacher_checkpoint, point, message):
    with pytest.raises(DistillationError, match=message):
        built(teacher_checkpoint, 2, **point)


def test_a_scale_of_one_costs_nothing(teacher_checkpoint):
    model = built(teacher_checkpoint, 1)
    data = model.data_preprocessor(tiny.batch(), True)
    images, samples = model.teachers.images_for('teacher', *data.values())
    assert images is data['inputs'] and samples is data['data_samples']


def test_multiply_adds_are_of_the_larger_images(teacher_checkpoint, tmp_path, monkeypatch):
    import json

    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / 'tools/analysis_tools'))
    import get_flops

    macs = []
    for scale in (1, 2):
        cfg = config('gone.pth', scale, resize=True)
        path = tmp_path / 'config.py'
        path.write_text(f"default_scope = 'mmdet'\nmodel = {cfg!r}\n")
        get_flops.main([str(path), '--shape', '64', '64', '--json', str(tmp_path / 'out.json')])
        macs.append(json.loads((tmp_path / 'out.json').read_text())['parts']['teacher']['macs'])
    sys.modules.pop('get_flops')
    assert macs[1] == 4 * macs[0]


def test_classifiers_by_their_vectors():
    """No maps and no padding: only the images grow."""
    from mmpretrain.structures import DataSample

    point = dict(student='head.fc', teacher='head.fc', loss=dict(type='KLDivLoss'))
    model = MODELS.build(
        dict(
            type='diffkd_mm.Distiller',
            _scope_='mmpretrain',
            student=dict(tiny.classifier(), _scope_='mmpretrain'),
            teacher=dict(config='none', checkpoint='none', scale=1.5),
            points=dict(logits=point),
        )
    )
    model.use_teacher(tiny.build(tiny.classifier(), 'mmpretrain'))
    seen = []
    model.teacher.model.backbone.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    samples = [DataSample().set_gt_label(i) for i in range(2)]
    images = torch.randint(256, (2, 3, 32, 32))
    log = tiny.train_step(model.train(), dict(inputs=list(images), data_samples=samples))
    assert log['logits.loss_kd'] > 0 and seen[-1].shape[2:] == (48, 48)
