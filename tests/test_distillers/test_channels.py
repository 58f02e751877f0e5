"""What a config may leave out: channels, numbers of levels, the networks for vectors."""

from copy import deepcopy

import pytest
import tiny
import torch
from mmengine.runner import Runner

from diffkd_mm.connectors import ConvConnector, DiffKDConnector
from diffkd_mm.diffusion import BottleneckDenoiser, NoiseAdapter, VectorDenoiser
from diffkd_mm.diffusion.noise_adapter import VectorNoiseAdapter
from diffkd_mm.errors import DistillationError

OPEN = dict(tiny.FPN_POINT, connector=dict(type='DiffKDConnector'))
BACKBONE = dict(
    student='backbone',
    teacher='backbone',
    connector=dict(type='ConvConnector'),
    loss=dict(type='MSELoss'),
)


def build(point, teacher=None, **student):
    teacher = teacher or tiny.retinanet(channels=24)
    return tiny.build_distiller(tiny.retinanet(**student), teacher, dict(p=point))


def test_left_out_is_as_written(teacher_checkpoint):
    """Bit for bit: looking at the teacher draws no random numbers."""
    states = []
    for point in (tiny.FPN_POINT, OPEN):
        torch.manual_seed(3)
        model = tiny.build(tiny.distiller(teacher_checkpoint, points=dict(fpn=point)))
        model.init_weights()
        states.append((model.state_dict(), torch.rand(1)))
    (written, number), (found, other) = states
    assert list(written) == list(found) and torch.equal(number, other)
    assert all(torch.equal(written[name], found[name]) for name in written)


def test_channels_of_each_level():
    """The stages of a backbone, taught by one of twice the width."""
    model = build(BACKBONE, tiny.retinanet(base_channels=16))
    connector = model.distillation.p.connector
    assert [x.weight.shape[:2] for x in connector.convs] == [(32, 16), (64, 32), (128, 64)]
    assert tiny.train_step(model, tiny.batch())['p.loss_kd'] > 0
    lists = dict(student_channels=[16, 32, 64], teacher_channels=[32, 64, 128])
    point = dict(BACKBONE, connector=dict(type='DiffKDConnector', **lists))
    model = build(point, tiny.retinanet(base_channels=16))
    assert tiny.train_step(model, tiny.batch())['p.loss_diff'] > 0


def test_with_levels_chosen():
    for point, channels in (
        (dict(BACKBONE, student_levels=[1], teacher_levels=[0]), [(32, 32)]),
        (dict(BACKBONE, strides=[16, 32]), [(64, 32), (128, 64)]),
    ):
        point = dict(point, resize=True)
        model = build(point, tiny.retinanet(base_channels=16))
        found = [tuple(x.weight.shape[:2]) for x in model.distillation.p.connector.convs]
        assert found == channels


@pytest.mark.parametrize(
    ('connector', 'message'),
    [
        (
            dict(type='DiffKDConnector', student_channels=[16, 32]),
            r'student_channels=\[16, 32\] has 2 numbers for 3',
        ),
        (dict(type='DiffKDConnector', shared=True), 'shared=True needs levels of equal channels'),
        (
            dict(type='ConvConnector', teacher_channels=[32, 64, 7]),
            'level 2 of the teacher has 128 channels, but .*=7. Set teacher_channels=128, or leave',
        ),
        (dict(type='ConvConnector', student_channels=0), 'student_channels=0'),
    ],
)
def test_channels_that_do_not_fit(connector, message):
    with pytest.raises(DistillationError, match=message):
        build(dict(BACKBONE, connector=connector), tiny.retinanet(base_channels=16))


@pytest.mark.parametrize('connector', [DiffKDConnector, ConvConnector])
def test_connector_without_a_distiller(connector):
    with pytest.raises(DistillationError, match='needs teacher_channels; only a distiller finds'):
        connector(student_channels=4)


@pytest.mark.parametrize(
    ('tap', 'denoiser', 'adapter'),
    [
        ('head.fc', VectorDenoiser, VectorNoiseAdapter),
        ('neck', VectorDenoiser, VectorNoiseAdapter),
        ('backbone', BottleneckDenoiser, NoiseAdapter),
    ],
)
def test_networks_follow_the_tap(tap, denoiser, adapter):
    point = dict(
        student=tap, teacher=tap, connector=dict(type='DiffKDConnector'), loss=dict(type='MSELoss')
    )
    cfg = tiny.classifier()
    model = tiny.build_distiller(cfg, cfg, dict(p=point), scope='mmpretrain')
    (level,) = model.distillation.p.connector.levels
    assert type(level.denoiser) is denoiser and type(level.noise_adapter) is adapter
    point['connector'].update(noise_adapter=None, denoiser=dict(type='BottleneckDenoiser'))
    model = tiny.build_distiller(cfg, cfg, dict(p=point), scope='mmpretrain')
    (level,) = model.distillation.p.connector.levels
    assert type(level.denoiser) is BottleneckDenoiser and level.noise_adapter is None


def test_channels_of_a_loss():
    loss = dict(type='CIRKDLoss', num_classes=10)
    point = dict(student='neck', teacher='neck', student_levels=0, teacher_levels=0, loss=loss)
    loss = build(point).distillation.p.loss
    assert (loss.student_channels, loss.teacher_channels) == (16, 24)


class TestWithoutTheTeacher:
    """Testing needs none, not even its config, from which the channels come."""

    GONE = dict(teacher=dict(config='gone.py', checkpoint='gone.pth'))

    def build(self, checkpoint='gone.pth', config='gone.py'):
        cfg = tiny.distiller(checkpoint, points=dict(reg=tiny.REG_POINT, fpn=OPEN))
        cfg['teacher']['config'] = config
        return tiny.build(cfg)

    def test_predicts(self, teacher_checkpoint):
        whole = tiny.build(tiny.distiller(teacher_checkpoint, points=dict(fpn=OPEN)))
        model = self.build()
        assert list(model.distillation) == ['reg']
        result = model.load_state_dict(whole.state_dict(), strict=False)
        assert not result.unexpected_keys and not result.missing_keys
        data = tiny.batch()
        found, expected = (
            x.eval().test_step(deepcopy(data))[0].pred_instances.scores for x in (model, whole)
        )
        assert torch.equal(found, expected)

    def test_does_not_train(self):
        with pytest.raises(DistillationError, match='points fpn: .*cannot load the config .gone'):
            self.build().init_weights()
        without = tiny.build(tiny.distiller('gone.pth', points=dict(fpn=OPEN)) | self.GONE)
        with pytest.raises(DistillationError, match='points fpn: .*cannot load the config'):
            tiny.train_step(without, tiny.batch())  # not even where nothing was initialised

    def test_broken_teacher(self, teacher_checkpoint):
        broken = tiny.retinanet(channels=24)
        broken['backbone']['depth'] = 50
        model = self.build(teacher_checkpoint, dict(model=broken, default_scope='mmdet'))
        with pytest.raises(DistillationError, match='teacher could not be run .*channels'):
            model.init_weights()

    def test_a_teacher_given_as_a_model(self):
        model = self.build()
        model.use_teacher(tiny.build(tiny.retinanet(channels=24)))
        assert list(model.distillation) == ['reg', 'fpn']  # as in the config
        assert tiny.train_step(model.train(), tiny.batch())['fpn.loss_kd'] > 0


def test_train_test_resume(tmp_path, teacher_checkpoint):
    """A checkpoint's modules are the same whether or not there is a teacher."""
    cfg = tiny.training(
        tmp_path, teacher_checkpoint, max_epochs=1, experiment_name='channels_first'
    )
    cfg.model.points.fpn.connector = dict(type='DiffKDConnector')
    first = Runner.from_cfg(deepcopy(cfg))
    first.train()
    path = tmp_path / 'work' / 'epoch_1.pth'
    names = list(torch.load(path, weights_only=False)['state_dict'])
    assert any(x.startswith('distillation.fpn.connector.levels.2.') for x in names)

    test = deepcopy(cfg)
    test.update(load_from=str(path), experiment_name='channels_test')
    test.model.teacher.update(config='gone.py', checkpoint='gone.pth')
    Runner.from_cfg(test).test()

    more = deepcopy(cfg)
    more.update(resume=True, experiment_name='channels_resume')
    more.train_cfg.max_epochs = 2
    second = Runner.from_cfg(more)
    second.train()
    assert second.epoch == 2 and list(second.model.state_dict()) == names
