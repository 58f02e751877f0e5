from copy import deepcopy

import pytest
import tiny
import torch
from mmengine.logging import MMLogger
from mmengine.model import BaseModule, ExponentialMovingAverage
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.runner.checkpoint import load_state_dict
from torch import nn

from diffkd_mm.connectors import DiffKDConnector
from diffkd_mm.distillers import DistillationPoint, Distiller, PointOptions
from diffkd_mm.errors import DistillationError
from diffkd_mm.losses import MSELoss
from diffkd_mm.options import check_options
from diffkd_mm.registry import MODELS


@pytest.fixture
def distiller(teacher_checkpoint):
    model = tiny.build(tiny.distiller(teacher_checkpoint))
    model.init_weights()
    return model.train()


@MODELS.register_module()
class ScaledLoss(BaseModule):
    """Learns a factor, which starts as an ``init_cfg`` says."""

    def __init__(self, init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        self.scale = nn.Linear(1, 1, bias=False)

    def forward(self, prediction, target):
        return self.scale((prediction - target).square().mean()[None])


def train_step(model, data=None):
    optimizer = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.01))
    return model.train_step(data or tiny.batch(), optimizer)


def hooks_of(model):
    return sum(len(m._forward_hooks) for m in model.modules())


class TestTraining:
    def test_losses_keep_and_get_their_names(self, distiller):
        log = train_step(distiller)
        assert set(log) == {
            'loss',
            'loss_cls',
            'loss_bbox',
            'fpn.loss_kd',
            'fpn.loss_diff',
            'fpn.noise_weight',
            'reg.loss_kd',
        }
        parts = [v for k, v in log.items() if 'loss_' in k]
        torch.testing.assert_close(log['loss'], sum(parts))

    def test_student_losses_are_those_of_the_student_alone(self, distiller):
        data = distiller.data_preprocessor(tiny.batch(), True)
        together = distiller(**data, mode='loss')
        alone = distiller.student(**data, mode='loss')
        for name, value in alone.items():
            torch.testing.assert_close(together[name], value)

    def test_point_without_connector_compares_the_taps(self, distiller, teacher_checkpoint):
        data = distiller.data_preprocessor(tiny.batch(), True)
        loss = distiller(**data, mode='loss')['reg.loss_kd']
        teacher = distiller.teacher.model
        outputs = []
        for model in (distiller.student, teacher):
            outputs.append(model.bbox_head(model.extract_feat(data['inputs']))[1])
        expected = sum(nn.functional.smooth_l1_loss(x, y) for x, y in zip(*outputs))
        torch.testing.assert_close(loss, expected)

    def test_training_changes_student_and_connectors_but_not_the_teacher(self, distiller):
        train_step(distiller)  # the teacher's first run folds its batch norms
        before = deepcopy(distiller.state_dict())
        teacher = deepcopy(distiller.teacher.model.state_dict())
        train_step(distiller)
        after = distiller.state_dict()
        for part in (
            'backbone.conv1.weight',
            'distillation.fpn.connector.levels.0.denoiser.net.2.weight',
        ):
            assert not torch.equal(before[part], after[part])
        for name, value in distiller.teacher.model.state_dict().items():
            assert torch.equal(value, teacher[name]), name

    def test_hooks_and_records_end_with_the_step(self, distiller):
        train_step(distiller)
        assert hooks_of(distiller) == hooks_of(distiller.teacher.model) == 0
        distiller.eval()
        distiller.val_step(tiny.batch())
        assert hooks_of(distiller) == 0

    def test_hooks_end_with_a_failing_step(self, distiller):
        with pytest.raises(RuntimeError):
            distiller(torch.zeros(2, 5, 64, 64), [], mode='loss')
        assert hooks_of(distiller) == hooks_of(distiller.teacher.model) == 0

    def test_shared_head_gives_a_level_per_call(self, distiller):
        data = distiller.data_preprocessor(tiny.batch(), True)
        records = distiller.run_teacher(**data)
        assert [len(x) for x in records.values()] == [3, 3]

    def test_teacher_stops_at_the_neck_if_it_may(self, teacher_checkpoint):
        model = tiny.build(tiny.distiller(teacher_checkpoint, points=dict(fpn=tiny.FPN_POINT)))
        model.init_weights()
        train_step(model)  # the first run is repeated to see what folding its norms changes
        called = []
        model.teacher.model.bbox_head.retina_cls.register_forward_hook(
            lambda *_: called.append('head')
        )
        model.teacher.model.neck.register_forward_hook(lambda *_: called.append('neck'))
        train_step(model)
        assert called == ['neck']

    def test_teacher_is_frozen_in_eval_mode_without_gradient(self, distiller):
        train_step(distiller)
        teacher = distiller.teacher.model
        assert not any(m.training for m in teacher.modules())
        assert all(not p.requires_grad and p.grad is None for p in teacher.parameters())

    def test_levels_are_chosen_and_resized(self, teacher_checkpoint):
        point = dict(tiny.FPN_POINT, student_levels=[0, 1], teacher_levels=[1, 2], resize=True)
        model = tiny.build(tiny.distiller(teacher_checkpoint, points=dict(fpn=point)))
        assert model.distillation.fpn.connector.num_levels == 2
        model.init_weights()
        assert torch.isfinite(train_step(model)['fpn.loss_kd'])

    def test_levels_are_matched_by_stride(self, teacher_checkpoint, tmp_path):
        """A teacher with strides 16, 32, 64 and a student with 8, 16, 32 share two."""
        teacher = tiny.retinanet(channels=24)
        teacher['backbone']['out_indices'] = (2, 3)
        teacher['neck'].update(in_channels=[32, 64], add_extra_convs='on_output')
        teacher['bbox_head']['anchor_generator']['strides'] = [16, 32, 64]
        checkpoint = tmp_path / 'teacher.pth'
        torch.save(tiny.build(teacher).state_dict(), checkpoint)
        point = dict(tiny.FPN_POINT, strides=[16, 32])
        cfg = tiny.distiller(checkpoint, points=dict(fpn=point), teacher=teacher)
        model = tiny.build(cfg)
        model.init_weights()
        fpn = model.distillation.fpn
        assert fpn.levels == dict(student=[1, 2], teacher=[0, 1])
        assert fpn.connector.num_levels == 2
        data = tiny.batch(2, 96)
        assert torch.isfinite(train_step(model, data)['fpn.loss_kd'])

    @pytest.mark.parametrize(
        'point, message',
        [
            (dict(strides=[8, 64]), "'fpn': strides=.* one level of stride 64, and the student"),
            (dict(strides=[8], student_levels=[0]), 'by strides or by student_levels'),
        ],
    )
    def test_strides_that_cannot_be_matched(self, teacher_checkpoint, point, message):
        points = dict(fpn=dict(tiny.FPN_POINT, **point))
        with pytest.raises(DistillationError, match=message):
            tiny.build(tiny.distiller(teacher_checkpoint, points=points))

    def test_losses_get_what_they_ask_for(self, distiller):
        received = []

        class Loss(nn.Module):
            def forward(self, refined, target, data_samples, level):
                received.append((level, [len(x.gt_instances.bboxes) for x in data_samples]))
                return refined.sum() * 0

        options = dict(student='neck', teacher='neck', connector=tiny.FPN_POINT['connector'])
        MODELS.register_module('LossThatAsks', module=Loss, force=True)
        point = DistillationPoint(PointOptions('fpn', loss=dict(type='LossThatAsks'), **options))
        point.connector = distiller.distillation.fpn.connector
        distiller.distillation['fpn'] = point
        data = tiny.batch()
        train_step(distiller, data)
        boxes = [len(x.gt_instances.bboxes) for x in data['data_samples']]
        assert received == [(level, boxes) for level in range(3)]

    def test_student_inherits_from_the_teacher(self, teacher_checkpoint):
        cfg = tiny.distiller(teacher_checkpoint)
        cfg['inherit'] = ['bbox_head', 'backbone']
        model = tiny.build(cfg)
        model.init_weights()
        student, teacher = model.student.state_dict(), model.teacher.model.state_dict()
        assert torch.equal(student['backbone.conv1.weight'], teacher['backbone.conv1.weight'])
        assert torch.equal(
            student['bbox_head.retina_reg.bias'], teacher['bbox_head.retina_reg.bias']
        )
        # 16 and 24 channels: shapes differ, and the neck was not asked for.
        name = 'neck.fpn_convs.0.conv.bias'
        assert student[name].shape != teacher[name].shape
        cfg['inherit'] = 'neck.fpn_convs'
        check_options(cfg, Distiller, 'model')  # as the tools do
        with pytest.raises(DistillationError, match="no tensor of 'neck.fpn_convs' has the same"):
            tiny.build(cfg).init_weights()

    def test_copy_from_before_the_teacher_was_built(self, teacher_checkpoint):
        model = tiny.build(tiny.distiller(teacher_checkpoint))
        copy = deepcopy(model)
        model.init_weights()
        assert torch.isfinite(train_step(copy)['fpn.loss_kd'])
        assert copy.teacher.model is model.teacher.model

    def test_types_may_be_classes(self, teacher_checkpoint):
        """As in MMEngine's pure Python configs."""
        points = dict(fpn=deepcopy(tiny.FPN_POINT))
        points['fpn']['connector']['type'] = DiffKDConnector
        points['fpn']['loss']['type'] = MSELoss
        model = tiny.build(tiny.distiller(teacher_checkpoint, points=points))
        assert model.distillation.fpn.connector.num_levels == 3

    def test_student_of_a_distillation_as_the_teacher(self, distiller, tmp_path):
        """The checkpoint holds connectors too, and the config a teacher of its own."""
        path = tmp_path / 'epoch_1.pth'
        torch.save(dict(state_dict=distiller.state_dict()), path)
        first = tiny.distiller('gone.pth')
        cfg = tiny.distiller(path, points=dict(reg=tiny.REG_POINT), teacher=first)
        model = tiny.build(cfg)
        model.init_weights()
        assert type(model.teacher.model) is type(distiller.student)
        assert torch.isfinite(train_step(model)['reg.loss_kd'])

    def test_without_points_nothing_is_added(self):
        cfg = dict(type='diffkd_mm.Distiller', student=tiny.retinanet())
        model = tiny.build(cfg)
        model.init_weights()
        assert set(train_step(model)) == {'loss', 'loss_cls', 'loss_bbox'}

    @pytest.mark.parametrize('dtype', tiny.AUTOCAST_DTYPES)
    def test_amp(self, distiller, dtype):
        data = distiller.data_preprocessor(tiny.batch(), True)
        with torch.autocast('cpu', dtype=dtype):
            loss, log = distiller.parse_losses(distiller(**data, mode='loss'))
        loss.backward()
        assert all(torch.isfinite(v) for v in log.values())
        assert all(
            torch.isfinite(p.grad).all() for p in distiller.parameters() if p.grad is not None
        )


class TestCheckpoints:
    def test_names(self, distiller):
        names = list(distiller.state_dict())
        student = [n for n in names if not n.startswith('distillation.')]
        assert student == list(tiny.build(tiny.retinanet()).state_dict())
        assert any(n.startswith('distillation.fpn.connector.levels.2.') for n in names)
        assert not any('teacher' in n for n in names)
        assert set(dict(distiller.named_parameters())) <= set(names)

    def test_names_under_a_wrapper(self, distiller):
        wrapper = nn.Module()
        wrapper.module = distiller
        names = set(wrapper.state_dict())
        assert 'module.backbone.conv1.weight' in names
        clone = deepcopy(wrapper)
        for p in clone.parameters():
            p.data.zero_()
        result = clone.load_state_dict(wrapper.state_dict())
        assert not result.missing_keys and not result.unexpected_keys
        assert all(map(torch.equal, clone.state_dict().values(), wrapper.state_dict().values()))

    def test_loads_into_the_plain_student_with_equal_predictions(self, distiller, tmp_path):
        train_step(distiller)
        path = tmp_path / 'epoch_1.pth'
        torch.save(dict(state_dict=distiller.state_dict()), path)
        student = tiny.build(tiny.retinanet())
        state = torch.load(path)['state_dict']
        result = student.load_state_dict(state, strict=False)
        assert not result.missing_keys
        assert all(k.startswith('distillation.') for k in result.unexpected_keys)
        data = tiny.batch()
        distiller.eval(), student.eval()
        ours = distiller.test_step(deepcopy(data))
        theirs = student.test_step(deepcopy(data))
        for x, y in zip(ours, theirs):
            assert len(x.pred_instances) > 0
            for key in ('bboxes', 'scores', 'labels'):
                assert torch.equal(x.pred_instances[key], y.pred_instances[key])

    @pytest.mark.parametrize('loader', ['torch', 'mmengine'])
    def test_plain_student_loads_into_the_distiller(self, teacher_checkpoint, loader):
        student = tiny.build(tiny.retinanet())
        for p in student.parameters():
            nn.init.normal_(p)
        distiller = tiny.build(tiny.distiller(teacher_checkpoint))
        if loader == 'torch':
            result = distiller.load_state_dict(student.state_dict(), strict=False)
            assert all('distillation.' in k for k in result.missing_keys)
            assert not result.unexpected_keys
        else:
            load_state_dict(distiller, student.state_dict())
        for name, value in student.state_dict().items():
            assert torch.equal(distiller.state_dict()[name], value), name

    def test_a_students_state_dict_survives_being_loaded(self, teacher_checkpoint):
        state = tiny.build(tiny.retinanet()).state_dict()
        names = list(state)
        tiny.build(tiny.distiller(teacher_checkpoint)).load_state_dict(state, strict=False)
        assert list(state) == names

    def test_versions_in_a_state_dict_survive_being_loaded(self, distiller, teacher_checkpoint):
        for state in (tiny.build(tiny.retinanet()).state_dict(), distiller.state_dict()):
            versions = dict(state._metadata)
            for _ in range(2):
                tiny.build(tiny.distiller(teacher_checkpoint)).load_state_dict(state, strict=False)
            assert state._metadata == versions

    def test_versions_arrive(self, teacher_checkpoint, monkeypatch):
        """A batch norm's is 2; of older ones the number of batches is made up."""
        state = tiny.build(tiny.retinanet()).state_dict()
        versions = []
        load = nn.BatchNorm2d._load_from_state_dict

        def noting(self, state_dict, prefix, local_metadata, *args):
            versions.append(local_metadata.get('version'))
            load(self, state_dict, prefix, local_metadata, *args)

        monkeypatch.setattr(nn.BatchNorm2d, '_load_from_state_dict', noting)
        points = dict(reg=tiny.REG_POINT)  # no norms of its own
        model = tiny.build(tiny.distiller(teacher_checkpoint, points=points))
        model.load_state_dict(state, strict=False)
        assert versions and set(versions) == {2}

    def test_keys_that_do_not_fit_are_reported_by_the_students_names(self, teacher_checkpoint):
        state = tiny.build(tiny.retinanet()).state_dict()
        state['backbone.extra'] = state.pop('backbone.conv1.weight')
        cfg = dict(tiny.distiller(teacher_checkpoint, points={}), teacher=None)
        model = tiny.build(cfg)
        result = model.load_state_dict(state, strict=False)
        assert result.missing_keys == ['backbone.conv1.weight']
        assert result.unexpected_keys == ['backbone.extra']
        state['backbone.bn1.weight'] = torch.ones(3)
        with pytest.raises(RuntimeError, match='size mismatch for backbone.bn1.weight'):
            model.load_state_dict(state, strict=False)

    def test_names_as_a_childs_are_known_as_well(self, teacher_checkpoint):
        """Some hooks save by the names of modules."""
        model = tiny.build(tiny.distiller(teacher_checkpoint))
        name = 'student.backbone.bn1.running_mean'
        result = model.load_state_dict({name: torch.full((8,), 5.0)}, strict=False)
        assert not result.unexpected_keys and (model.backbone.bn1.running_mean == 5).all()

    def test_testing_needs_no_teacher(self, tmp_path):
        model = tiny.build(tiny.distiller(tmp_path / 'missing.pth'))
        model.eval()
        assert len(model.test_step(tiny.batch())) == 2
        assert model.teacher.model is None


class TestStockFeatures:
    def test_initialization_is_logged_as_the_students(self, teacher_checkpoint, caplog):
        """A line for every parameter, connectors' excepted."""
        model = tiny.build(tiny.distiller(teacher_checkpoint))
        logger = MMLogger.get_instance('initialization')  # the current one from here on, no file
        logger.addHandler(caplog.handler)
        model.init_weights()
        logger.removeHandler(caplog.handler)
        assert '\nbackbone.conv1.weight - ' in caplog.text
        assert 'bbox_head.retina_cls.bias - ' in caplog.text
        assert 'distillation.' not in caplog.text and 'student.' not in caplog.text

    def test_init_cfg_of_a_loss_of_ones_own_counts(self):
        loss = dict(type='ScaledLoss', init_cfg=dict(type='Constant', val=3.0, layer='Linear'))
        point = dict(student='backbone', teacher='backbone', loss=loss)
        args = tiny.retinanet(), tiny.retinanet(), dict(p=point)
        model = tiny.build_distiller(*args)
        model.init_weights()
        assert model.distillation.p.loss.scale.weight.item() == 3.0

    def test_teacher_is_in_no_parameter_list_but_moves(self, distiller):
        teacher = {id(p) for p in distiller.teacher.model.parameters()}
        assert not teacher & {id(p) for p in distiller.parameters()}
        assert not teacher & {id(m) for m in distiller.modules()}
        distiller.double()
        assert {p.dtype for p in distiller.teacher.model.parameters()} == {torch.float64}
        distiller.to(torch.float32)
        assert {p.dtype for p in distiller.teacher.model.parameters()} == {torch.float32}

    def test_copies_share_the_teacher_and_train(self, distiller):
        copy = deepcopy(distiller)
        assert copy.teacher is distiller.teacher
        before = distiller.state_dict()['backbone.conv1.weight'].clone()
        log = train_step(copy)
        assert log['fpn.loss_kd'] > 0
        assert torch.equal(distiller.state_dict()['backbone.conv1.weight'], before)

    def test_ema(self, distiller):
        ema = ExponentialMovingAverage(distiller, momentum=0.5)
        assert ema.module.teacher is distiller.teacher
        before = distiller.state_dict()['backbone.conv1.weight'].clone()
        ema.update_parameters(distiller)
        train_step(distiller)
        ema.update_parameters(distiller)
        after = distiller.state_dict()['backbone.conv1.weight']
        averaged = ema.state_dict()['module.backbone.conv1.weight']
        torch.testing.assert_close(averaged, (before + after) / 2)

    def test_custom_keys_find_the_students_parameters(self, distiller):
        wrapper = build_optim_wrapper(
            distiller,
            dict(
                optimizer=dict(type='SGD', lr=1.0),
                paramwise_cfg=dict(custom_keys={'backbone': dict(lr_mult=0.1)}),
            ),
        )
        rates = {id(p): g['lr'] for g in wrapper.param_groups for p in g['params']}
        assert rates[id(distiller.backbone.conv1.weight)] == pytest.approx(0.1)
        assert rates[id(distiller.neck.fpn_convs[0].conv.weight)] == 1.0
        assert {id(p) for p in distiller.parameters()} <= set(rates)

    def test_attributes_of_the_student_are_found(self, distiller):
        assert distiller.with_neck and distiller.bbox_head is distiller.student.bbox_head
        with pytest.raises(AttributeError, match='no_such_thing'):
            _ = distiller.no_such_thing

    def test_inheriting_checkpointing_of_the_student(self, teacher_checkpoint):
        cfg = tiny.distiller(teacher_checkpoint)
        cfg['student']['backbone']['with_cp'] = True
        model = tiny.build(cfg)
        model.init_weights()
        assert torch.isfinite(train_step(model)['loss'])


class TestMessages:
    def build(self, teacher_checkpoint, point=None, name='fpn', **kwargs):
        points = {name: dict(deepcopy(tiny.FPN_POINT), **(point or {}))}
        model = tiny.build(tiny.distiller(teacher_checkpoint, points=points, **kwargs))
        model.init_weights()
        return model

    @pytest.mark.parametrize(
        'point, message',
        [
            (
                dict(student='nekc'),
                "point 'fpn', student tap: RetinaNet has no module 'nekc'.*neck",
            ),
            (dict(teacher='bbox_head.retina_rge'), 'teacher tap.*bbox_head.retina_reg'),
            (dict(conector=1), "point 'fpn': .*no option 'conector'. Did you mean 'connector'"),
            (dict(loss=dict(type='MSELos')), "point 'fpn', loss: .*MSELos"),
            (
                dict(loss=dict(type='MSELoss', loss_wieght=1)),
                "loss: MSELoss has no option 'loss_wieght'. Did you mean 'loss_weight'",
            ),
            (
                dict(loss=dict(type='MSELoss', attention='spacial')),
                "point 'fpn', loss: .*attention='spacial'",
            ),
            (
                dict(student_levels=[0, 3], teacher_levels=[0, 1]),
                r"point 'fpn'.*student_levels=\[0, 3\]",
            ),
            (dict(student_levels=[0, 1]), "point 'fpn': the student tap 'neck' gives 2 levels"),
            (
                dict(student_levels=[0, 1], teacher_levels=[1, 2]),
                r'level 0 has size \(16, 16\) in the student and \(8, 8\).*resize=True',
            ),
            (dict(connector=None), 'level 0 has 16 channels in the student and 24.*ConvConnector'),
            (
                dict(
                    connector=dict(type='DiffKDConnector', student_channels=16, teacher_channels=16)
                ),
                "point 'fpn': level 0 of the teacher has 24 channels.*Set teacher_channels=24",
            ),
        ],
    )
    def test_before_training(self, teacher_checkpoint, point, message):
        with pytest.raises(DistillationError, match=message):
            self.build(teacher_checkpoint, point)

    def test_shapes_that_cannot_be_compared(self, distiller):
        point = distiller.distillation.reg
        for student, message in (
            (torch.zeros(2, 4), r'vectors \(B, C\) with vectors'),
            (torch.zeros(3, 4, 8, 8), 'not the same samples. Taps in RoI heads'),
            (torch.zeros(2, 64, 4), r"tokens \(B, N, C\).*channels_last='student'"),
        ):
            with pytest.raises(DistillationError, match=message):
                point.check([student], [torch.zeros(2, 4, 8, 8)])
        connector = distiller.distillation.fpn.connector
        tokens = [torch.zeros(2, 16, 7)] * 3
        with pytest.raises(DistillationError, match=r'takes maps \(B, C, H, W\) or vectors'):
            connector.check_levels(tokens, tokens)

    def test_loss_without_a_reduction(self, teacher_checkpoint):
        point = dict(tiny.REG_POINT, loss=dict(type='mmdet.SmoothL1Loss', reduction='none'))
        model = tiny.build(tiny.distiller(teacher_checkpoint, points=dict(reg=point)))
        model.init_weights()
        with pytest.raises(DistillationError, match="'reg': SmoothL1Loss gives a tensor.*'mean'"):
            train_step(model)

    def test_point_name(self, teacher_checkpoint):
        with pytest.raises(DistillationError, match="point 'fpn_loss'"):
            self.build(teacher_checkpoint, name='fpn_loss')

    def test_points_without_a_teacher(self, teacher_checkpoint):
        cfg = tiny.distiller(teacher_checkpoint)
        del cfg['teacher']
        with pytest.raises(DistillationError, match='need a teacher'):
            tiny.build(cfg)

    @pytest.mark.parametrize(
        'teacher', ['mmdet::x.py', dict(config='x.py'), dict(config='x.py', checkpoint=None)]
    )
    def test_incomplete_teacher(self, teacher_checkpoint, teacher):
        cfg = tiny.distiller(teacher_checkpoint)
        cfg['teacher'] = teacher
        with pytest.raises(DistillationError, match='it needs a config and a checkpoint'):
            tiny.build(cfg)

    def test_points_in_a_list(self, teacher_checkpoint):
        with pytest.raises(DistillationError, match='a dict of points by their names'):
            tiny.build(tiny.distiller(teacher_checkpoint, points=[tiny.FPN_POINT]))

    def test_missing_option_of_a_point(self, teacher_checkpoint):
        with pytest.raises(DistillationError, match="point 'fpn': loss is missing"):
            tiny.build(
                tiny.distiller(
                    teacher_checkpoint, points=dict(fpn=dict(student='neck', teacher='neck'))
                )
            )

    def test_tap_that_is_not_called(self, teacher_checkpoint):
        point = dict(tiny.REG_POINT, student='neck.fpn_convs')
        model = tiny.build(tiny.distiller(teacher_checkpoint, points=dict(reg=point)))
        model.init_weights()
        with pytest.raises(
            DistillationError, match="point 'reg': .*'neck.fpn_convs' exists but was not"
        ):
            train_step(model)

    def test_tap_that_is_overwritten(self, distiller):
        loss = distiller.student.bbox_head.loss

        def overwriting(x, *args):
            x[0].detach().mul_(2)
            return loss(x, *args)

        distiller.student.bbox_head.loss = overwriting
        with pytest.raises(DistillationError, match="point 'fpn': .*overwritten in place"):
            train_step(distiller)

    @pytest.mark.parametrize('value', [float('nan'), float('inf')])
    def test_loss_that_is_not_finite(self, distiller, value):
        before = deepcopy(distiller.state_dict())
        distiller.distillation.fpn.loss.loss_weight = value
        with pytest.raises(FloatingPointError, match='fpn.loss_kd=(nan|inf).* before this reaches'):
            train_step(distiller)
        assert torch.equal(
            before['backbone.conv1.weight'], distiller.state_dict()['backbone.conv1.weight']
        )

    def test_gradient_that_was_not_finite(self, distiller):
        """Of a finite loss; the next step finds what it did."""
        weight = distiller.student.neck.fpn_convs[0].conv.weight
        hook = weight.register_hook(lambda gradient: gradient * float('nan'))
        train_step(distiller)
        hook.remove()
        message = (
            r'fpn.loss_kd=nan.*: an earlier gradient made neck.fpn_convs.0.conv.weight so and 0'
        )
        with pytest.raises(FloatingPointError, match=message):
            train_step(distiller)
