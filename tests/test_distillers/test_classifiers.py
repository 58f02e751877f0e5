"""Classifiers of MMPretrain: features and logits, maps and vectors."""

import pytest
import tiny
import torch
from mmengine.optim import build_optim_wrapper
from tiny import classifier

from diffkd_mm.distillers import DistillationPoint, PointOptions
from diffkd_mm.errors import DistillationError


def point(tap, channels, loss, **connector):
    connector = {'type': 'DiffKDConnector', **connector}
    return dict(
        student=tap,
        teacher=tap,
        connector=dict(connector, student_channels=channels, teacher_channels=channels),
        loss=loss,
    )


def batch(batch_size=3):
    from mmpretrain.structures import DataSample

    samples = [DataSample().set_gt_label(label) for label in range(batch_size)]
    return dict(inputs=[torch.randint(255, (3, 64, 64))] * batch_size, data_samples=samples)


def test_features_and_logits():
    points = dict(
        features=point('backbone', 64, dict(type='MSELoss'), latent_channels=32),
        logits=point(
            'head.fc',
            10,
            dict(type='KLDivLoss'),
            denoiser=dict(type='VectorDenoiser'),
            noise_adapter=dict(type='VectorNoiseAdapter'),
        ),
    )
    model = tiny.build_distiller(classifier(), classifier(), points, scope='mmpretrain')
    log = tiny.train_step(model, batch())
    assert {'features.loss_kd', 'features.loss_ae', 'logits.loss_kd', 'logits.loss_diff'} <= set(
        log
    )


def transformer(name, in_channels):
    cfg = classifier()
    cfg['backbone'] = TRANSFORMERS[name]
    cfg['neck'] = dict(type='GlobalAveragePooling') if name == 'swin' else None
    cfg['head']['in_channels'] = in_channels
    return cfg


TRANSFORMERS = dict(
    swin=dict(
        type='SwinTransformer',
        arch=dict(embed_dims=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 1, 1]),
        img_size=256,
    ),
    vit=dict(
        type='VisionTransformer',
        arch=dict(embed_dims=24, num_layers=2, num_heads=2, feedforward_channels=24),
        img_size=64,
        patch_size=16,
        with_cls_token=False,
        out_type='avg_featmap',
    ),
)


def features(teacher, channels, **options):
    return dict(
        student='backbone',
        teacher=teacher,
        connector=dict(type='DiffKDConnector', student_channels=64, teacher_channels=channels),
        loss=dict(type='MSELoss'),
        **options,
    )


def test_map_of_a_swin_transformer():
    """Tapped like that of a convnet; its windows need more than the smallest blank image."""
    point = features('backbone', 64)
    model = tiny.build_distiller(
        classifier(), transformer('swin', 64), dict(features=point), scope='mmpretrain'
    )
    data = dict(batch(), inputs=[torch.randint(255, (3, 256, 256))] * 3)
    assert tiny.train_step(model, data)['features.loss_kd'] > 0
    # Found out by the probe: a wrong channel number would have been named.
    with pytest.raises(DistillationError, match='teacher has 64 channels'):
        tiny.build_distiller(
            classifier(),
            transformer('swin', 64),
            dict(features=features('backbone', 32)),
            scope='mmpretrain',
        )


@pytest.mark.parametrize('resize', [False, True])
def test_tokens(resize):
    """The 4x4 patches of a ViT's block become a map as a convnet's."""
    student, teacher = classifier(), transformer('vit', 24)
    student['backbone']['strides'] = (1, 2, 2, 2 if resize else 1)
    point = features('backbone.layers.1', 24, resize=resize, channels_last='teacher')
    model = tiny.build_distiller(student, teacher, dict(features=point), scope='mmpretrain')
    targets = []
    model.distillation.features.loss.register_forward_pre_hook(
        lambda module, args: targets.append(args[1])
    )
    tokens = []
    model.teacher.model.backbone.layers[1].register_forward_hook(
        lambda module, args, output: tokens.append(output)
    )
    tiny.train_step(model, batch())
    assert targets[0].shape == (3, 24, 4, 4)
    torch.testing.assert_close(targets[0].flatten(2).mT, tokens[0])


def test_tokens_of_both():
    """Without a square map, class token included, they are compared token by token."""
    cfg = transformer('vit', 24)
    cfg['backbone'] = dict(cfg['backbone'], with_cls_token=True, out_type='cls_token')
    point = features('backbone.layers.1', 24, channels_last='both')
    point['student'] = 'backbone.layers.0'
    point['connector']['student_channels'] = 24
    model = tiny.build_distiller(cfg, cfg, dict(features=point), scope='mmpretrain')
    assert tiny.train_step(model, batch())['features.loss_kd'] > 0


def with_class_token(kind='VisionTransformer'):
    cfg = transformer('vit', 24)
    cfg['backbone'] = dict(cfg['backbone'], type=kind, out_type='cls_token')
    del cfg['backbone']['with_cls_token']  # True is the default
    return cfg


@pytest.mark.parametrize('dropped', [1, dict(student=1)])
def test_class_token_is_left_out(dropped):
    """A ViT's student by its 4x4 patches, taught by the map of a convnet."""
    teacher = classifier()
    point = dict(
        student='backbone.layers.1',
        teacher='backbone',
        connector=dict(type='DiffKDConnector'),
        loss=dict(type='MSELoss'),
        channels_last='student',
        resize=True,
        drop_tokens=dropped,
    )
    model = tiny.build_distiller(
        with_class_token(), teacher, dict(features=point), scope='mmpretrain'
    )
    levels, tokens = [], []
    model.distillation.features.connector.register_forward_pre_hook(
        lambda module, args: levels.extend(args[0])
    )
    model.student.backbone.layers[1].register_forward_hook(
        lambda module, args, output: tokens.append(output)
    )
    tiny.train_step(model, batch())
    assert levels[0].shape == (3, 24, 2, 2) and tokens[0].shape == (3, 17, 24)
    patches = tokens[0][:, 1:].mT.unflatten(2, (4, 4))
    expected = torch.nn.functional.interpolate(patches, (2, 2), mode='bilinear')
    torch.testing.assert_close(levels[0], expected)


def test_tokens_of_deit():
    """A ViT with a class token, taught by a DeiT that has one more for its own distillation."""
    point = dict(
        student='backbone.layers.0',
        teacher='backbone.layers.1',
        connector=dict(type='ConvConnector'),
        loss=dict(type='MSELoss'),
        channels_last='both',
        drop_tokens=dict(student=1, teacher=2),
    )
    teacher = with_class_token('DistilledVisionTransformer')
    teacher['head'] = None
    networks = with_class_token(), teacher
    model = tiny.build_distiller(*networks, dict(features=point), scope='mmpretrain')
    assert tiny.train_step(model, batch())['features.loss_kd'] > 0
    point['drop_tokens'] = 1
    with pytest.raises(DistillationError, match=r'size \(8, 8\) in the student and \(65, 1\)'):
        tiny.build_distiller(*networks, dict(features=point), scope='mmpretrain')


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(drop_tokens=1), 'say whose by channels_last'),
        (dict(drop_tokens=-1, channels_last='both'), 'drop_tokens=-1'),
        (dict(drop_tokens=dict(pupil=1), channels_last='both'), r'dict\(student=…, teacher=…\)'),
        (dict(drop_tokens=dict(student=-1), channels_last='both'), 'must be a number of tokens'),
    ],
)
def test_wrong_numbers_of_tokens(options, message):
    with pytest.raises(DistillationError, match=message):
        PointOptions('p', 's', 't', dict(type='MSELoss'), **options)


@pytest.mark.parametrize(
    'shape, expected',
    [((2, 5, 6, 3), (2, 3, 5, 6)), ((2, 9, 3), (2, 3, 3, 3)), ((2, 7, 3), (2, 3, 7, 1))],
)
def test_channels_last(shape, expected):
    point = DistillationPoint(
        PointOptions('p', 's', 't', dict(type='MSELoss'), channels_last='student')
    )
    x = torch.randn(shape)
    (found,) = point.select([x], 'student')
    assert found.shape == expected
    torch.testing.assert_close(found.flatten(2).mT, x.flatten(1, -2))
    assert point.select([x], 'teacher')[0] is x


def test_tokens_that_are_no_map_are_not_resized():
    """Such as 16 patches and a class token."""
    point = DistillationPoint(
        PointOptions('p', 's', 't', dict(type='MSELoss'), channels_last='teacher', resize=True)
    )
    with pytest.raises(DistillationError, match="teacher tap 't' outputs 17 tokens.*class token"):
        point(students=[torch.randn(2, 3, 5, 5)], teachers=[torch.randn(2, 17, 3)])


@pytest.mark.parametrize('side', ['student', 'teacher'])
def test_tokens_of_an_oblong_image_are_not_taken_for_a_square(side):
    """4×16 patches, which are as many as 8×8."""
    tokens, image = torch.randn(2, 64, 3), torch.randn(2, 3, 8, 32)
    point = DistillationPoint(
        PointOptions('p', 's', 't', dict(type='MSELoss'), channels_last=side, resize=True)
    )
    levels = dict(students=[image], teachers=[image]) | {f'{side}s': [tokens]}
    with pytest.raises(DistillationError, match='no maps of the same image. Tokens .* oblong'):
        point(**levels)
    # Of a square image, and of one whose sizes were rounded.
    for size in [(16, 16), (13, 15), (3, 4)]:
        resized = torch.nn.functional.interpolate(image, size)
        assert point(**{k: [tokens if x is tokens else resized] for k, [x] in levels.items()})


def test_layer_decay_is_the_students():
    """MMPretrain's constructor walks through the children, whose names begin with ``student.``."""
    student = transformer('vit', 24)
    points = dict(logits=point('head.fc', 10, dict(type='KLDivLoss')))
    distiller = tiny.build_distiller(student, student, points, scope='mmpretrain')
    optim_wrapper = dict(
        optimizer=dict(type='SGD', lr=1.0, weight_decay=0.1),
        constructor='mmpretrain.LearningRateDecayOptimWrapperConstructor',
        paramwise_cfg=dict(layer_decay_rate=0.5),
    )
    alone, distilled = (
        {id(x): group['lr'] for group in wrapper.optimizer.param_groups for x in group['params']}
        for wrapper in (
            build_optim_wrapper(model, optim_wrapper) for model in (distiller.student, distiller)
        )
    )
    assert sorted(set(alone.values())) == [0.125, 0.25, 0.5, 1.0]
    assert {key: distilled[key] for key in alone} == alone
    assert {distilled[id(x)] for x in distiller.distillation.parameters()} == {1.0}


def test_tokens_are_named():
    student, teacher = transformer('vit', 24), transformer('vit', 24)
    point = features('backbone.layers.1', 24)
    point['student'] = 'backbone.layers.1'
    with pytest.raises(DistillationError, match=r"tokens .*channels_last='both'"):
        tiny.build_distiller(student, teacher, dict(features=point), scope='mmpretrain')


@pytest.mark.parametrize(
    ('loss', 'channels'), [('KLDivLoss', 24), ('DISTLoss', 24), ('MSELoss', 48)]
)
def test_tokens_without_a_connector(loss, channels):
    """Scores would be compared over the tokens, not over the classes."""
    tokens, others, image = (
        torch.zeros(2, 16, 24),
        torch.zeros(2, 16, channels),
        (2, channels, 4, 4),
    )
    point = DistillationPoint(PointOptions('p', 's', 't', dict(type=loss)))
    with pytest.raises(DistillationError, match=r"tokens .*channels_last='both'"):
        point([tokens], [others])
    with pytest.raises(DistillationError, match=r"tokens .*channels_last='student'"):
        point([tokens], [torch.zeros(image)])
    point = DistillationPoint(PointOptions('p', 's', 't', dict(type=loss), channels_last='teacher'))
    with pytest.raises(DistillationError, match=r"tokens .*channels_last='both'"):
        point([tokens], [others])


@pytest.mark.parametrize(
    'loss',
    [
        dict(type='MSELoss', attention='spatial'),
        dict(type='CWDLoss'),
        dict(type='PKDLoss'),
        dict(type='FGDLoss', channels=10),
        dict(type='CIRKDLoss', student_channels=10, teacher_channels=10, num_classes=3),
    ],
    ids=lambda loss: loss['type'],
)
def test_vectors_with_losses_of_maps(loss):
    vectors = [torch.zeros(2, 10)]
    with pytest.raises(DistillationError, match=rf'{loss["type"]} compares maps \(B, C, H, W\)'):
        DistillationPoint(PointOptions('p', 's', 't', loss))(vectors, vectors)
    with pytest.raises(DistillationError, match="channels_last='neither'"):
        DistillationPoint(
            PointOptions('p', 's', 't', dict(type='MSELoss'), channels_last='neither')
        )
