"""Branches: the surgery, folding, and what neither takes."""

import io

import pytest
import torch
from mmengine.model import ExponentialMovingAverage, convert_sync_batchnorm
from mmengine.runner.checkpoint import load_state_dict
from mmpretrain.structures import DataSample
from tiny import (
    batch,
    build,
    build_distiller,
    classifier,
    labelled_pixels,
    retinanet,
    segmentor,
    train_step,
)
from torch import nn

from diffkd_mm.distillers import Distiller
from diffkd_mm.distillers.teacher import FrozenTeacher
from diffkd_mm.errors import DistillationError
from diffkd_mm.reparam import Branches, Surgery, check_folded, fold_state_dict
from diffkd_mm.reparam.folding import fold_branches

LAYER = 'backbone.layer4.1.conv2'
BRIDGE = dict(type='ConvConnector', student_channels=64, teacher_channels=64, standardize='channel')
POINT = dict(
    student=LAYER,
    teacher='backbone',
    connector=BRIDGE,
    chain=dict(type='KDiffusionChain'),
    guidance='head.fc',
    loss=dict(type='MSELoss'),
)


def images(number=4):
    return dict(
        inputs=list(torch.randint(256, (number, 3, 32, 32))),
        data_samples=[DataSample().set_gt_label(i) for i in range(number)],
    )


def kdiffusion(points=None, layers=(LAYER, 'head.fc'), **branches):
    return build_distiller(
        classifier(),
        classifier(),
        dict(feature=POINT) if points is None else points,
        'mmpretrain',
        branches=dict(layers=list(layers), **branches),
    )


def alone(student=None, scope='mmpretrain', **branches):
    """A distiller without points: re-parameterisation alone."""
    cfg = dict(type='diffkd_mm.Distiller', student=student or classifier(), branches=branches)
    return build(cfg, scope)


@pytest.fixture
def trained():
    torch.manual_seed(0)
    model = kdiffusion()
    for _ in range(2):
        train_step(model, images(), lr=0.05)
    return model


def randomise(norm):
    for tensor in (norm.weight.data, norm.bias.data, norm.running_mean):
        tensor.normal_()
    norm.running_var.uniform_(0.1, 3)


@pytest.mark.parametrize('with_norm', [True, False])
@pytest.mark.parametrize('bias', [True, False])
@pytest.mark.parametrize(
    'options',
    [
        dict(kernel_size=3),
        dict(kernel_size=3, groups=4),
        dict(kernel_size=3, groups=8, padding=1),  # depthwise
        dict(kernel_size=3, stride=2, padding=1),
        dict(kernel_size=3, dilation=2, padding=2),
        dict(kernel_size=1),
        None,  # nn.Linear
    ],
)
def test_folding_is_exact(options, bias, with_norm):
    torch.manual_seed(0)
    if options is None:
        layer, norm, x = nn.Linear(8, 8, bias=bias), nn.BatchNorm1d(8, eps=1e-3), torch.randn(6, 8)
    else:
        layer, norm = nn.Conv2d(8, 8, **options, bias=bias), nn.BatchNorm2d(8, eps=1e-3)
        x = torch.randn(2, 8, 9, 9)
    norm = norm if with_norm else None
    branches = Branches(layer, norm, 3).eval()
    states = []
    for branch in branches.branches:
        branch.layer.reset_parameters()
        if with_norm:
            randomise(branch.norm)
        states.append(branch.state_dict())
    layer_weights, norm_weights = fold_branches(states, 1e-3 if with_norm else None)
    layer.load_state_dict(layer_weights)
    folded = layer(x)
    if with_norm:
        norm.eval().load_state_dict(norm_weights)
        folded = norm(folded)
    assert torch.allclose(folded, branches(x), atol=1e-5)


def test_folded_checkpoint_is_the_plain_students(trained):
    plain = build(classifier(), 'mmpretrain').eval()
    weights = fold_state_dict(
        {k: v for k, v in trained.state_dict().items() if not k.startswith('distillation.')}
    )
    plain.load_state_dict(weights, strict=True)
    x = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        expected = trained.eval()(x)
        assert torch.allclose(plain(x), expected, atol=1e-5)
        folded = trained.fold()
        assert torch.allclose(folded(x), expected, atol=1e-5)
    assert folded.state_dict().keys() == plain.state_dict().keys()
    folded.load_state_dict(weights)  # the surgery's load hook is of no effect any more


@pytest.mark.parametrize('loader', ['torch', 'mmengine'])
def test_plain_checkpoint_loads_into_branches_that_differ(loader):
    torch.manual_seed(0)
    plain = build(classifier(), 'mmpretrain').eval()
    for module in plain.modules():
        if isinstance(module, nn.BatchNorm2d):
            randomise(module)
    model = kdiffusion()
    weights = plain.state_dict()
    if loader == 'torch':
        missing = model.load_state_dict(weights, strict=False).missing_keys
        assert all(name.startswith('distillation.') for name in missing)
    else:
        load_state_dict(model, weights)
    x = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        assert torch.allclose(model.eval()(x), plain(x), atol=1e-3, rtol=1e-4)
    a, b = (branch.layer.weight for branch in model.get_submodule(f'student.{LAYER}').branches[:2])
    plain_weight = plain.get_submodule(LAYER).weight
    assert 0.05 < ((a - plain_weight).std() / plain_weight.std()).item() < 0.2
    assert not torch.allclose(a, b, atol=1e-3)
    again = kdiffusion()  # as in another process, whose generators are seeded otherwise
    load_state_dict(again, plain.state_dict())
    assert torch.equal(again.get_submodule(f'student.{LAYER}').branches[0].layer.weight, a)


def test_branches_of_one_initialisation_would_stay_equal_and_ours_do_not():
    torch.manual_seed(0)
    average = dict(POINT, chain=dict(type='AverageChain'))
    for twins in (True, False):
        model = kdiffusion(dict(feature=average), layers=[LAYER])
        branches = model.get_submodule(f'student.{LAYER}').branches
        if twins:
            for branch in branches[1:]:
                branch.load_state_dict(branches[0].state_dict())
        for _ in range(2):
            train_step(model, images(), lr=0.05)
        a, b = (branch.layer.weight for branch in branches[:2])
        assert torch.allclose(a, b, atol=1e-6) is twins


def test_from_scratch_every_branch_has_the_students_initialisation():
    torch.manual_seed(0)
    model = alone(layers=LAYER)
    model.init_weights()
    branches = model.student.get_submodule(LAYER).branches
    plain = build(classifier(), 'mmpretrain')
    plain.init_weights()
    expected = plain.get_submodule(LAYER).weight.std()
    stds = [branch.layer.weight.std() for branch in branches]
    assert all(0.9 < (std / expected).item() < 1.1 for std in stds)
    assert len({std.item() for std in stds}) == len(stds)


def test_pretrained_backbone_loads_into_branches(tmp_path):
    """``init_cfg`` loads a backbone alone, under its own names."""
    torch.manual_seed(0)
    plain = build(classifier(), 'mmpretrain')
    torch.save(dict(state_dict=plain.state_dict()), tmp_path / 'plain.pth')
    student = classifier()
    student['backbone']['init_cfg'] = dict(
        type='Pretrained', checkpoint=str(tmp_path / 'plain.pth'), prefix='backbone'
    )
    model = alone(student, layers=LAYER)
    model.init_weights()
    mean = sum(x.layer.weight for x in model.student.get_submodule(LAYER).branches) / 4
    assert torch.allclose(mean, plain.get_submodule(LAYER).weight, atol=1e-6)


def test_every_parameter_gets_a_gradient(trained):
    """Else DDP would wait for those without."""
    trained.zero_grad()
    data = trained.data_preprocessor(images(), True)
    loss, _ = trained.parse_losses(trained(**data, mode='loss'))
    loss.backward()
    assert not [name for name, p in trained.named_parameters() if p.grad is None]


def test_ema_checkpoint_and_copies(trained):
    average = ExponentialMovingAverage(trained, momentum=0.5)
    average.update_parameters(trained)
    train_step(trained, images(), lr=0.05)
    average.update_parameters(trained)
    file = io.BytesIO()
    torch.save(average.module.state_dict(), file)
    file.seek(0)
    resumed = kdiffusion()
    resumed.load_state_dict(torch.load(file), strict=True)
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = average.module.eval()(x)
        assert torch.equal(resumed.eval()(x), expected)
        assert torch.allclose(average.module.fold()(x), expected, atol=1e-5)


def test_sync_bn_is_converted_in_branches_and_folds(trained):
    model = convert_sync_batchnorm(trained)
    branch = model.get_submodule(f'student.{LAYER}').branches[0]
    assert isinstance(branch.norm, nn.SyncBatchNorm)
    weights = fold_state_dict(model.student.state_dict())
    build(classifier(), 'mmpretrain').load_state_dict(weights, strict=True)


def test_amp_on_the_cpu(trained):
    data = trained.data_preprocessor(images(), True)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        losses = trained(**data, mode='loss')
    assert losses['feature.loss_kd'].dtype == torch.float32
    assert all(torch.isfinite(x).all() for x in losses.values())


def test_detector_neck_beside_diffkd():
    torch.manual_seed(0)
    layer = 'neck.fpn_convs.1.conv'
    points = dict(
        fpn=dict(
            student='neck',
            teacher='neck',
            connector=dict(type='DiffKDConnector', student_channels=16, teacher_channels=24),
            loss=dict(type='MSELoss'),
        ),
        chain=dict(
            student=layer,
            teacher='neck',
            teacher_levels=[1],
            connector=dict(type='ConvConnector', student_channels=16, teacher_channels=24),
            chain=dict(type='KDiffusionChain', state='posterior', schedule='linear'),
            loss=dict(type='MSELoss'),
        ),
    )
    model = build_distiller(
        retinanet(), retinanet(channels=24), points, branches=dict(layers=layer, num_branches=3)
    )
    log = train_step(model, batch())
    assert {'fpn.loss_kd', 'fpn.loss_diff', 'chain.loss_kd'} <= log.keys()
    plain = build(retinanet()).eval()
    plain.load_state_dict(model.fold().state_dict(), strict=True)
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        for a, b in zip(model.eval().extract_feat(x), plain.extract_feat(x)):
            assert torch.allclose(a, b, atol=1e-5)


def test_segmentor_head():
    torch.manual_seed(0)
    student = segmentor(concat_input=False)
    layer = 'decode_head.convs.0.conv'  # of a ConvModule with BN and ReLU
    points = dict(
        chain=dict(
            student=layer,
            teacher='decode_head.convs.0',
            chain=dict(type='KDiffusionChain'),
            guidance='decode_head.conv_seg',
            loss=dict(type='MSELoss'),
        )
    )
    model = build_distiller(student, student, points, 'mmseg', branches=dict(layers=[layer]))
    log = train_step(model, labelled_pixels((64, 64)))
    assert log['chain.loss_kd'] > 0 and log['chain.loss_guide'] > 0
    plain = build(student, 'mmseg').eval()
    plain.load_state_dict(model.fold().state_dict(), strict=True)
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(model.eval()(x), plain(x), atol=1e-5)


# Bad input


def test_fewer_than_two_branches():
    with pytest.raises(DistillationError, match='num_branches=1, .* Set 2 or more'):
        alone(layers=LAYER, num_branches=1)


def test_a_layer_with_a_nonlinearity():
    with pytest.raises(
        DistillationError, match=r"'backbone.layer4.1' is a BasicBlock, .*layer4\.1\.conv1"
    ):
        alone(layers='backbone.layer4.1')


def test_a_path_that_does_not_exist():
    with pytest.raises(DistillationError, match=r'branches: .*Nearest paths: backbone'):
        alone(layers='backbone.layer4.1.conv3')


def test_a_module_used_twice():
    with pytest.raises(DistillationError, match='is called 3 times in a forward pass'):
        alone(retinanet(), 'mmdet', layers='bbox_head.retina_cls')


def test_shared_weights():
    student = build(classifier(), 'mmpretrain')
    student.backbone.layer4[1].conv1.weight = student.get_submodule(LAYER).weight

    with pytest.raises(DistillationError, match=r'are shared by .*conv1, .*conv2'):
        Surgery(LAYER).apply(student)


def test_another_norm():
    student = classifier()
    student['backbone']['norm_cfg'] = dict(type='GN', num_groups=4)
    with pytest.raises(DistillationError, match='a GroupNorm and not a batch norm'):
        alone(student, layers=LAYER)


def test_a_frozen_layer():
    student = classifier()
    student['backbone']['frozen_stages'] = 4
    with pytest.raises(DistillationError, match='is frozen'):
        alone(student, layers=LAYER)


def test_norm_without_running_statistics():
    student = build(classifier(), 'mmpretrain')
    student.backbone.layer4[1].bn2 = nn.BatchNorm2d(64, track_running_stats=False)

    with pytest.raises(DistillationError, match='no running\n? ?statistics'):
        Surgery(LAYER).apply(student)


def test_chain_on_a_layer_without_branches():
    with pytest.raises(DistillationError, match=r"point 'feature': .* branches=dict\(layers="):
        kdiffusion(layers=['head.fc'])


def test_teacher_without_a_next_linear_layer():
    point = dict(POINT, guidance='head')
    with pytest.raises(DistillationError, match=r"point 'feature': guidance='head' is a Lin"):
        kdiffusion(dict(feature=point))
    point = dict(POINT, guidance='head.fcs')
    with pytest.raises(DistillationError, match=r"guidance: .* has no module 'head.fcs'"):
        kdiffusion(dict(feature=point))


def test_chain_with_levels():
    with pytest.raises(DistillationError, match='a chain takes the one output'):
        kdiffusion(dict(feature=dict(POINT, student_levels=[0])))


def test_unfolded_checkpoint_in_a_plain_student(trained):
    weights = trained.state_dict()
    plain = build(classifier(), 'mmpretrain')
    with pytest.raises(DistillationError, match=r"layer4\.1\.conv2' is still .*export_student"):
        check_folded(weights, plain, 'the checkpoint')
    average = dict(student='backbone', teacher='backbone', loss=dict(type='MSELoss'))
    other = build_distiller(classifier(), classifier(), dict(feature=average), 'mmpretrain')
    with pytest.raises(DistillationError, match='export_student'):
        other.load_state_dict(weights, strict=False)
    assert isinstance(trained, Distiller)
    check_folded(weights, trained, 'the checkpoint')
    inside = torch.nn.ModuleDict(dict(student=trained))  # as in a semi-supervised detector
    inside.load_state_dict(inside.state_dict(), strict=True)


def test_unfolded_checkpoint_as_a_teacher(trained, tmp_path):
    torch.save(dict(state_dict=trained.state_dict()), tmp_path / 'unfolded.pth')
    teacher = FrozenTeacher(
        dict(model=classifier(), default_scope='mmpretrain'), str(tmp_path / 'unfolded.pth')
    )
    with pytest.raises(
        DistillationError, match=r'teacher: .*unfolded.* Fold it first with .*export_student'
    ):
        teacher.build(torch.device('cpu'))
