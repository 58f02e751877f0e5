"""Looking at models with blank images: sizes, modes, channels, and what is said where it fails."""

import pytest
import tiny
import torch
from test_segmentors import batch as labelled
from test_segmentors import segmentor, simplify

from diffkd_mm.configs import load_config
from diffkd_mm.errors import DistillationError
from diffkd_mm.taps import ProbeError, Tap, image_channels, probe

OPEN = dict(
    student='neck',
    teacher='neck',
    connector=dict(type='DiffKDConnector'),
    loss=dict(type='MSELoss'),
)


class TestMessages:
    def test_cause_of_a_failure(self):
        student = tiny.retinanet()
        student['neck']['in_channels'] = [16, 32, 128]
        with pytest.raises(DistillationError) as error:
            tiny.build_distiller(student, tiny.retinanet(), dict(fpn=OPEN))
        message = str(error.value)
        assert message.startswith("point 'fpn': the student could not be run on a blank image")
        assert 'to find num_levels, student_channels; set these' in message
        assert 'RuntimeError: Given groups=1' in message and '128 channels' in message

    def test_student_tap_that_is_not_called(self):
        point = dict(OPEN, student='neck.fpn_convs')
        with pytest.raises(DistillationError) as error:
            tiny.build_distiller(tiny.retinanet(), tiny.retinanet(), dict(fpn=point))
        message = str(error.value)
        assert "point 'fpn': the student tap 'neck.fpn_convs' exists but was not called" in message
        assert 'could not be run' not in message

    def test_teacher_tap_that_is_not_called(self):
        point = dict(OPEN, teacher='neck.fpn_convs')
        with pytest.raises(DistillationError, match="teacher tap 'neck.fpn_convs' exists but was"):
            tiny.build_distiller(tiny.retinanet(), tiny.retinanet(), dict(fpn=point))

    def test_cause_is_that_of_the_size_a_model_names(self):
        """At all others TNT says what is not the matter."""
        model = classifier(TNT)
        model.backbone.norm.register_forward_hook(lambda *_: 1 / 0)
        with pytest.raises(ProbeError, match='^ZeroDivisionError: division by zero'):
            probe((model, [Tap('backbone')], True))

    def test_tap_that_a_teacher_calls_in_training_only(self):
        cfg = pretrained('pidnet/pidnet-s_2xb6-120k_1024x1024-cityscapes.py')
        point = dict(OPEN, student='decode_head.i_head', teacher='decode_head.p_head')
        with pytest.raises(DistillationError, match="'decode_head.p_head' is called in training"):
            tiny.build_distiller(cfg, cfg, dict(p=point), scope='mmseg')

    def test_outputs_that_do_not_begin_with_the_batch(self):
        """A decoder's layers, stacked; the block of a Swin transformer that sees its windows."""
        point = dict(OPEN, loss=dict(type='MSELoss'))
        del point['connector']
        model = tiny.build_distiller(tiny.retinanet(), tiny.retinanet(), dict(p=point))
        stacked = torch.zeros(6, 2, 10, 4)
        samples = tiny.batch()['data_samples']
        message = r"student tap 'neck' outputs .*\(6, 2, 10, 4\) for 2 images.*decoder"
        with pytest.raises(DistillationError, match=message):
            model.distillation.p([stacked], [stacked], samples)
        with pytest.raises(DistillationError, match='first dimension is not the batch'):
            model.distillation.p([torch.zeros(2, 4)], [torch.zeros(8, 4)], samples)


TNT = dict(
    type='TNT',
    arch=dict(
        embed_dims_outer=24,
        embed_dims_inner=8,
        num_layers=1,
        num_heads_outer=2,
        num_heads_inner=2,
    ),
    img_size=48,
    patch_size=16,
)


def classifier(backbone):
    """A classifier's backbone alone."""
    cfg = dict(tiny.classifier(), backbone=backbone, neck=None, head=None)
    return tiny.build(cfg, 'mmpretrain')


def pretrained(config):
    cfg = simplify(load_config(f'mmseg::{config}').model)
    cfg._scope_ = 'mmseg'
    return cfg


class TestWhatIsFound:
    def test_a_size_that_the_model_names(self):
        found = probe((classifier(TNT), [Tap('backbone')], True))
        assert found.size == (48, 48)
        assert [x.shape for x in found.shapes[0][Tap('backbone')]] == [(2, 24)]

    @pytest.mark.parametrize('size', [224, 300, 512])
    def test_common_sizes(self, size):
        model = classifier(tiny.classifier()['backbone'])

        def only_this_size(module, args):
            assert args[0].size(-1) == size, 'made for another size'

        model.backbone.conv1.register_forward_pre_hook(only_this_size)
        assert probe((model, [Tap('backbone.conv1')], False)).size == (size, size)

    @pytest.mark.parametrize('channels', [1, 3, 6])
    def test_channels_of_the_images(self, channels):
        cfg = tiny.classifier()
        cfg['backbone']['in_channels'] = channels
        model = tiny.build(cfg, 'mmpretrain')
        del model.data_preprocessor.mean
        assert image_channels(model) == channels
        model.data_preprocessor.mean = torch.zeros(7, 1, 1)
        assert image_channels(model) == 7

    def test_in_training_mode(self):
        """PIDNet's three outputs; the running statistics and generators stay as they were."""
        model = tiny.build(
            pretrained('pidnet/pidnet-s_2xb6-120k_1024x1024-cityscapes.py'), 'mmseg'
        ).train()
        tap = Tap('decode_head')
        before = {name: x.clone() for name, x in model.state_dict().items()}
        torch.manual_seed(1)
        expected = torch.rand(1).item()
        torch.manual_seed(1)
        found = probe((model, [tap], True))
        assert torch.rand(1).item() == expected
        assert [x.size(1) for x in found.shapes[0][tap]] == [19, 19, 1]
        assert model.training
        assert all(torch.equal(before[name], x) for name, x in model.state_dict().items())
        assert [x.size(1) for x in probe((model, [tap], False)).shapes[0][tap]] == [19]

    def test_auxiliary_head_of_a_ddrnet(self):
        """It runs in training alone."""
        student = pretrained('ddrnet/ddrnet_23-slim_in1k-pre_2xb6-120k_cityscapes-1024x1024.py')
        student.data_preprocessor.size = (64, 128)
        student.backbone.init_cfg = None
        for loss in student.decode_head.loss_decode:
            loss.min_kept = 10
        point = dict(OPEN, student='decode_head.aux_cls_seg', teacher='decode_head.conv_seg')
        model = tiny.build_distiller(student, segmentor('fcn'), dict(aux=point), scope='mmseg')
        assert model.distillation.aux.connector.student_channels == [19]
        assert tiny.train_step(model, labelled())['aux.loss_kd'] > 0


@pytest.mark.parametrize('with_cp', [True, False])
def test_tap_inside_an_activation_checkpoint(with_cp):
    student = tiny.retinanet()
    student['backbone']['with_cp'] = with_cp
    tap = 'backbone.layer3.1.conv2'
    point = dict(student=tap, teacher=tap, loss=dict(type='MSELoss'))
    model = tiny.build_distiller(student, tiny.retinanet(), dict(p=point))
    if not with_cp:
        assert tiny.train_step(model, tiny.batch())['p.loss_kd'] > 0
        return
    message = "'p': the student tap 'backbone.layer3.1.conv2' is called without gradients only.*"
    with pytest.raises(DistillationError, match=message + "Tap 'backbone.layer3.1', the block"):
        tiny.train_step(model, tiny.batch())
    point['student'] = point['teacher'] = 'backbone.layer3.1'
    model = tiny.build_distiller(student, tiny.retinanet(), dict(p=point))
    assert tiny.train_step(model, tiny.batch())['p.loss_kd'] > 0
