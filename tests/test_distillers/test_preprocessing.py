import pytest
import tiny
import torch
from mmengine.model import BaseDataPreprocessor
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import BaseDataElement

from diffkd_mm.distillers import student_model
from diffkd_mm.distillers.preprocessing import (
    Pixels,
    convert_images,
    pixels_of_both,
    with_known_sizes,
)
from diffkd_mm.errors import DistillationError

CAFFE = dict(mean=[103.5, 116.3, 123.7], std=[1.0, 1.0, 1.0], bgr_to_rgb=False)
PYTORCH = dict(mean=[123.7, 116.3, 103.5], std=[58.4, 57.1, 57.4], bgr_to_rgb=True)


def preprocessor(**options):
    options = dict(dict(type='mmdet.DetDataPreprocessor', pad_size_divisor=32), **options)
    return MODELS.build(options)


@pytest.mark.parametrize(
    'seen, wanted',
    [
        (CAFFE, PYTORCH),
        (PYTORCH, CAFFE),
        (PYTORCH, dict(bgr_to_rgb=True)),
        (dict(), PYTORCH),
        (PYTORCH, dict(PYTORCH, pad_value=114)),
    ],
)
def test_converted_images_are_those_of_the_other_preprocessor(seen, wanted):
    tiny.build(tiny.retinanet())  # registers MMDetection's
    data = tiny.batch()
    data['inputs'] = [torch.randint(256, (3, *size), dtype=torch.uint8) for size in SIZES]
    for sample, size in zip(data['data_samples'], SIZES):
        sample.set_metainfo(dict(img_shape=size))
    seen, wanted = preprocessor(**seen), preprocessor(**wanted)
    batch = seen(data, True)
    expected = wanted(data, True)['inputs']
    converted = convert_images(
        batch['inputs'], batch['data_samples'], Pixels.of(seen), Pixels.of(wanted)
    )
    torch.testing.assert_close(converted, expected, atol=1e-3, rtol=1e-5)
    assert not torch.equal(batch['inputs'], expected)


SIZES = [(64, 50), (40, 64)]


def test_equal_preprocessing_costs_nothing():
    tiny.build(tiny.retinanet())
    inputs = torch.zeros(1, 3, 8, 8)
    pixels = [Pixels.of(preprocessor(**CAFFE)) for _ in range(2)]
    assert convert_images(inputs, None, *pixels) is inputs


@pytest.mark.parametrize(
    'options, expected',
    [
        (dict(type='mmseg.SegDataPreProcessor', **CAFFE, pad_val=3), (CAFFE['mean'], False, 3)),
        (
            dict(type='mmpretrain.ClsDataPreprocessor', mean=[1, 2, 3], std=[1, 1, 1], to_rgb=True),
            ([1, 2, 3], True, 0),
        ),
        (dict(type='BaseDataPreprocessor'), ([0, 0, 0], False, 0)),
    ],
    ids=lambda x: x.get('type') if isinstance(x, dict) else '',
)
def test_preprocessors_of_all_packages(options, expected):
    import mmpretrain.models  # noqa: F401
    import mmseg.models  # noqa: F401

    pixels = Pixels.of(MODELS.build(options))
    assert list(pixels.mean) == pytest.approx(expected[0])
    assert (pixels.reversed, pixels.pad_value) == expected[1:]


class Own(BaseDataPreprocessor):
    """A user's own preprocessor."""

    def __init__(self, scale=1.0):
        super().__init__()
        self.scale = scale


def test_unknown_preprocessor():
    with pytest.raises(DistillationError, match='Own is not a data preprocessor'):
        Pixels.of(Own())
    pixels = pixels_of_both(Own(2.0), Own(2.0).eval())  # as a frozen teacher's is
    inputs = torch.zeros(1, 3, 8, 8)
    assert convert_images(inputs, None, *pixels) is inputs
    for student, teacher in ((Own(1.0), Own(2.0)), (Own(), BaseDataPreprocessor())):
        with pytest.raises(DistillationError, match='of the same class with the same settings'):
            pixels_of_both(student, teacher)


def test_samples_without_a_size():
    seen, wanted = (Pixels((m,) * 3, (1.0,) * 3, False, 0) for m in (0.0, 3.0))
    images = convert_images(torch.zeros(1, 3, 8, 8), [BaseDataElement()], seen, wanted)
    assert torch.equal(images, torch.full((1, 3, 8, 8), -3.0))


def test_teacher_sees_its_own_kind_of_images(teacher_checkpoint):
    teacher = tiny.retinanet(channels=24, **PYTORCH)
    cfg = tiny.distiller(teacher_checkpoint, teacher=teacher, **CAFFE)
    model = tiny.build(cfg)
    model.init_weights()
    data = tiny.batch()
    records = model.run_teacher(**model.data_preprocessor(data, True))
    teacher = model.teacher.model
    expected = teacher.extract_feat(teacher.data_preprocessor(data, True)['inputs'])
    for (feature, _), other in zip(records['fpn'], expected):
        torch.testing.assert_close(feature, other, atol=1e-4, rtol=1e-4)


def gray(channels, **data_preprocessor):
    """A classifier of images of some channels, which MMPretrain normalises one by one."""
    cfg = tiny.classifier()
    cfg['backbone']['in_channels'] = channels
    cfg['data_preprocessor'] = dict(num_classes=10, **data_preprocessor)
    return cfg


@pytest.mark.parametrize('channels', [1, 6])
def test_images_without_three_channels(channels):
    from mmpretrain.structures import DataSample

    seen = dict(mean=[100.0] * channels, std=[50.0] * channels)
    wanted = dict(mean=[10.0 * i for i in range(1, channels + 1)], std=[7.0] * channels)
    point = dict(
        student='backbone',
        teacher='backbone',
        connector=dict(type='ConvConnector'),
        loss=dict(type='MSELoss'),
    )
    model = tiny.build_distiller(
        gray(channels, **seen), gray(channels, **wanted), dict(p=point), scope='mmpretrain'
    )
    received = []
    model.teacher.model.backbone.register_forward_pre_hook(
        lambda module, args: received.append(args[0])
    )
    images = torch.randint(255, (2, channels, 64, 64))
    samples = [DataSample().set_gt_label(label) for label in range(2)]
    log = tiny.train_step(model, dict(inputs=list(images), data_samples=samples))
    assert log['p.loss_kd'] > 0
    mean, std = (torch.tensor(wanted[key])[:, None, None] for key in ('mean', 'std'))
    torch.testing.assert_close(received[-1], (images - mean) / std, atol=1e-4, rtol=1e-4)


def test_other_numbers_of_channels():
    point = dict(student='head.fc', teacher='head.fc', loss=dict(type='KLDivLoss'))
    options = dict(mean=[0.0], std=[1.0])
    with pytest.raises(DistillationError, match='student takes images of 1 channels and the .* 3;'):
        tiny.build_distiller(gray(1, **options), gray(3), dict(p=point), scope='mmpretrain')
    pixels = [Pixels((m, 0.0, 0.0), (1.0,) * 3, False, 0) for m in (0.0, 3.0)]
    with pytest.raises(DistillationError, match='images of 4 channels cannot be converted'):
        convert_images(torch.zeros(1, 4, 8, 8), None, *pixels)


def test_one_beside_the_student_that_differs_is_said_to_be_unused(monkeypatch):
    """MMEngine notes the package in what a config inherits, which is no difference."""
    lines = []
    monkeypatch.setattr(student_model, 'print_log', lambda line, **kwargs: lines.append(line))
    student = tiny.segmentor()
    beside = dict(student['data_preprocessor'], _scope_='mmseg')
    init_default_scope('mmseg')
    student_model.build_student(student, beside)
    assert lines == []
    built = student_model.build_student(student, dict(beside, std=[1.0] * 3))
    assert 'beside the model is not used' in lines[0]
    assert built.data_preprocessor.std.flatten().tolist() == [60.0] * 3


@pytest.mark.parametrize('scale', [1.0, 2.0])
@pytest.mark.parametrize('file_size', [(40, 50), (90, 120)])
def test_an_image_whose_size_its_pipeline_did_not_note(file_size, scale):
    """As behind ``torchvision/RandomResizedCrop``: ``img_shape`` is then that of the file."""
    from mmpretrain.structures import DataSample

    point = dict(
        student='backbone',
        teacher='backbone',
        connector=dict(type='ConvConnector'),
        loss=dict(type='MSELoss'),
        resize=True,
    )
    options = dict(num_classes=10, mean=[120.0] * 3, std=[60.0] * 3)
    teacher = tiny.classifier()
    teacher['data_preprocessor'] = options
    model = tiny.build_distiller(tiny.classifier(), teacher, dict(p=point), scope='mmpretrain')
    model.teacher.scale = scale
    data = dict(
        inputs=list(torch.randint(256, (2, 3, 64, 64), dtype=torch.uint8)),
        data_samples=[DataSample(metainfo=dict(img_shape=file_size)) for _ in range(2)],
    )
    batch = model.data_preprocessor(data, True)
    images, _ = model.teachers.images_for('teacher', **batch)
    expected = model.teacher.model.data_preprocessor(data, True)['inputs']
    if scale != 1:
        expected = torch.nn.functional.interpolate(expected, scale_factor=scale, mode='bilinear')
    torch.testing.assert_close(images, expected, atol=1e-3, rtol=1e-3)


def test_padding_of_images_of_several_sizes_is_filled_anew():
    """MMPretrain's data preprocessor pads, and notes nothing."""
    from mmpretrain.structures import DataSample

    sizes = [(60, 50), (40, 64)]
    seen, wanted = (
        MODELS.build(
            dict(type='mmpretrain.ClsDataPreprocessor', pad_size_divisor=32, pad_value=pad, **kind)
        )
        for pad, kind in ((0, dict(mean=[9.0] * 3, std=[9.0] * 3)), (5, dict()))
    )
    data = dict(
        inputs=[torch.randint(256, (3, *size), dtype=torch.uint8) for size in sizes],
        data_samples=[DataSample(metainfo=dict(img_shape=size)) for size in sizes],
    )
    batch = seen(data, True)
    samples = with_known_sizes(**batch, divisor=32)
    assert samples is batch['data_samples']
    images = convert_images(batch['inputs'], samples, Pixels.of(seen), Pixels.of(wanted))
    torch.testing.assert_close(images, wanted(data, True)['inputs'], atol=1e-3, rtol=1e-3)
