"""What makes the frozen teacher cheap changes nothing that is tapped."""

from copy import deepcopy

import pytest
import tiny
import torch
from mmcv.cnn import ConvModule
from mmcv.ops import DeformConv2d, ModulatedDeformConv2dPack, RoIAlign
from torch import nn

from diffkd_mm.distillers.norm_folding import fold_norms, watch
from diffkd_mm.distillers.teacher_speed import TeacherRun
from diffkd_mm.errors import DistillationError
from diffkd_mm.taps import Tap, run_to_taps


def shuffled(model):
    """The model in eval mode with norms that are not those of the initialisation."""
    generator = torch.Generator().manual_seed(0)
    for norm in model.modules():
        if isinstance(norm, nn.modules.batchnorm._BatchNorm):
            for x in (norm.weight, norm.running_var):
                x.data.uniform_(0.5, 2, generator=generator)
            for x in (norm.bias, norm.running_mean):
                x.data.normal_(generator=generator)
    return model.eval().requires_grad_(False)


def count(model, kind=nn.BatchNorm2d):
    return sum(type(module) is kind for module in model.modules())


def taps_of(run, model, paths, images, untouched=None):
    with torch.no_grad():
        taps = [Tap(path) for path in paths]
        run.untouched = paths if untouched is None else untouched
        records = run(model, taps, images)
    return [x for tap in taps for x, _ in records[tap]]


def assert_same_taps(model, paths, norms_left, images=None, **options):
    """Both the first and a later run give the taps of the model as it was."""
    images = torch.randn(2, 3, 64, 96) if images is None else images
    taps = [Tap(path) for path in paths]
    with torch.no_grad():
        expected = run_to_taps(model, taps, images)
    run = TeacherRun()
    for _ in range(2):
        found = taps_of(run, model, paths, images, **options)
        for x, (y, _) in zip(found, (y for tap in taps for y in expected[tap]), strict=True):
            assert x.shape == y.shape and x.stride() == y.stride() and x.dtype == y.dtype
            assert (x - y).abs().max() <= 1e-4 * y.abs().max()
    assert count(model) == norms_left


@pytest.mark.parametrize('groups', [1, 2])
@pytest.mark.parametrize('paths', [['neck'], ['backbone.layer2', 'bbox_head.retina_reg']], ids=str)
def test_norms_are_folded_and_taps_stay(groups, paths):
    model = shuffled(tiny.build(tiny.retinanet()))
    if groups > 1:
        block = model.backbone.layer1[0]
        block.conv1 = nn.Conv2d(8, 8, 3, padding=1, groups=groups).requires_grad_(False).eval()
    assert count(model) == 20
    assert_same_taps(model, paths, norms_left=0)


def test_tap_between_convolution_and_norm():
    model = shuffled(tiny.build(tiny.retinanet()))
    assert_same_taps(model, ['backbone.layer2.0.conv1', 'neck'], norms_left=1)


def test_tap_at_a_norm_that_is_folded():
    """The norm's place is left, and what comes through it is the same."""
    model = shuffled(tiny.build(tiny.retinanet()))
    assert_same_taps(model, ['backbone.layer2.0.downsample.1'], norms_left=0, untouched=())


class Net(nn.Module):
    """A model whose backbone computes whatever is to be looked at."""

    def __init__(self, compute, **modules):
        super().__init__()
        self.backbone = nn.ModuleDict(modules)
        self.neck = nn.Identity()
        self.compute = compute

    def extract_feat(self, x):
        return self.neck(self.compute(self.backbone, x))


def conv():
    return nn.Conv2d(3, 3, 3, padding=1)


class StandardizedConv(nn.Conv2d):
    def forward(self, x):
        return self._conv_forward(x, self.weight / self.weight.std(), self.bias)


def reads_its_norm(net, x):
    return net['norm'](net['conv'](x)) * net['norm'].weight[:, None, None]


def changes_in_place(net, x):
    return net['norm'](net['conv'](x).add_(1))


def two_norms(net, x):
    return net['norm'](net['conv'](x)) + net['other'](net['conv'](x))


def two_readers(net, x):
    y = net['conv'](x)
    return net['norm'](y) + y


def flattens(net, x):
    """Cannot be done channels last."""
    y = net['norm'](net['conv'](x))
    return y.view(len(y), 3, -1).view(y.shape)


def in_order(net, x):
    return net['norm'](net['conv'](x))


def norm_first(net, x):
    return net['conv'](net['norm'](x))


BN, OTHER = nn.BatchNorm2d, dict(other=nn.BatchNorm2d(3))


@pytest.mark.parametrize(
    ('compute', 'make', 'norm', 'others', 'norms_left'),
    [
        (in_order, conv, BN, {}, 0),
        (flattens, conv, BN, {}, 0),
        (in_order, conv, lambda n: BN(n, affine=False), {}, 0),
        (in_order, conv, lambda n: BN(n, track_running_stats=False), {}, 1),
        (in_order, lambda: StandardizedConv(3, 3, 1), BN, {}, 1),
        (in_order, lambda: nn.utils.parametrizations.weight_norm(conv()), BN, {}, 1),
        (norm_first, conv, BN, {}, 1),
        (changes_in_place, conv, BN, {}, 1),
        (reads_its_norm, conv, BN, {}, 1),
        (two_readers, conv, BN, {}, 1),
        (two_norms, conv, BN, OTHER, 2),
    ],
)
def test_what_can_be_folded_and_what_not(compute, make, norm, others, norms_left):
    torch.manual_seed(0)
    model = Net(compute, conv=make(), norm=norm(3), **others)
    for x in model.modules():
        if isinstance(x, BN) and x.affine:
            nn.init.uniform_(x.weight, 0.5, 2)
        if isinstance(x, BN) and x.track_running_stats:
            x.running_mean.normal_()
            x.running_var.uniform_(0.5, 2)
    assert_same_taps(model.eval().requires_grad_(False), ['neck'], norms_left)


def test_sync_norms_and_shared_modules():
    """A head that is shared between levels, and found under two names."""
    block = ConvModule(16, 16, 3, padding=1, norm_cfg=dict(type='SyncBN'))
    config = tiny.retinanet()
    config['bbox_head'].update(norm_cfg=dict(type='SyncBN'))
    model = shuffled(tiny.build(config))
    model.bbox_head.reg_convs[0] = model.bbox_head.cls_convs[0] = shuffled(block)
    assert_same_taps(model, ['bbox_head.retina_reg', 'bbox_head.retina_cls'], norms_left=0)
    assert count(model, nn.SyncBatchNorm) == 0
    assert model.bbox_head.reg_convs[0] is model.bbox_head.cls_convs[0]


def test_folding_is_taken_back():
    model = shuffled(tiny.build(tiny.retinanet()))
    before = deepcopy(model.state_dict())
    with watch(model) as flow, torch.no_grad():
        model.extract_feat(torch.randn(1, 3, 64, 64))
    undo = fold_norms(model, flow.pairs())
    assert count(model) == 0 and not any(m._forward_hooks for m in model.modules())
    undo()
    assert count(model) == 20
    assert all(torch.equal(x, before[name]) for name, x in model.state_dict().items())


def test_under_autocast_taps_are_those_of_autocast():
    model = shuffled(tiny.build(tiny.retinanet()))
    with torch.autocast('cpu', torch.bfloat16):
        (x, *_) = taps_of(TeacherRun(), model, ['neck'], torch.randn(2, 3, 64, 64))
    assert x.dtype == torch.bfloat16
    assert count(model) == 0


@pytest.mark.parametrize('dtype', ['bfloat16', pytest.param('float16', marks=tiny.NEEDS_FLOAT16)])
def test_dtype(dtype):
    model = shuffled(tiny.build(tiny.retinanet()))
    images = torch.randn(2, 3, 64, 64)
    expected = taps_of(TeacherRun(), deepcopy(model), ['neck'], images)
    run = TeacherRun(dtype)
    for _ in range(2):
        found = taps_of(run, model, ['neck'], images)
        for x, y in zip(found, expected, strict=True):
            assert x.dtype == torch.float32
            assert 0 < (x - y).abs().max() <= 0.05 * y.abs().max()
    weight = model.backbone.layer1[0].conv1.weight
    assert weight.dtype == getattr(torch, dtype)


def test_dtype_of_attention():
    """Layer norms, embeddings and softmax stay as autocast has them."""
    backbone = dict(
        type='SwinTransformer',
        arch=dict(embed_dims=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 1, 1]),
        img_size=64,
        stage_cfgs=dict(block_cfgs=dict(window_size=2)),
    )
    config = dict(tiny.classifier(), backbone=backbone)
    model = tiny.build(config, 'mmpretrain').eval().requires_grad_(False)
    (x,) = taps_of(TeacherRun('bfloat16'), model, ['head.fc'], torch.randn(2, 3, 64, 64))
    assert x.dtype == torch.float32
    assert model.backbone.stages[0].blocks[0].attn.w_msa.qkv.weight.dtype == torch.bfloat16
    assert model.backbone.stages[0].blocks[0].norm1.weight.dtype == torch.float32


def overflows(net, x):
    return net['conv'](x * 1e6)


def float32_only(net, x):
    y = net['conv'](x)
    if y.dtype != torch.float32:  # as custom operators do
        raise NotImplementedError('no such kernel')
    return y


@pytest.mark.parametrize(
    ('compute', 'dtype', 'message'),
    [
        pytest.param(
            overflows,
            'float16',
            "with dtype='float16' its taps are not finite. Use 'bfloat16'",
            marks=tiny.NEEDS_FLOAT16,
        ),
        (float32_only, 'bfloat16', "does not run with dtype='bfloat16'.* Leave dtype out"),
    ],
)
def test_dtype_that_does_not_do(compute, dtype, message):
    model = Net(compute, conv=conv()).eval().requires_grad_(False)
    with pytest.raises(DistillationError, match=f'^teacher: .*{message}'):
        taps_of(TeacherRun(dtype), model, ['neck'], torch.randn(2, 3, 64, 64))


def test_distillation_with_a_dtype(teacher_checkpoint):
    config = tiny.distiller(teacher_checkpoint, points=dict(fpn=tiny.FPN_POINT))
    config['teacher']['dtype'] = 'bfloat16'
    model = tiny.build(config)
    model.init_weights()
    for _ in range(2):
        tiny.train_step(model, tiny.batch())
    assert model.teacher.model.neck.fpn_convs[0].conv.weight.dtype == torch.bfloat16
    config['teacher']['dtype'] = 'int8'
    with pytest.raises(DistillationError, match="teacher.*dtype.*'int8'"):
        tiny.build(config)


def test_inheritance_after_a_run_is_from_the_file(teacher_checkpoint):
    """A second `init_weights`: folded weights are not what a student with norms wants."""
    config = tiny.distiller(teacher_checkpoint, points=dict(fpn=tiny.FPN_POINT))
    model = tiny.build(dict(config, inherit=['backbone']))
    for _ in range(2):
        model.init_weights()
        weights = torch.load(teacher_checkpoint)['state_dict']
        assert torch.equal(model.student.backbone.conv1.weight, weights['backbone.conv1.weight'])
        tiny.train_step(model, tiny.batch())
    assert count(model.teacher.model) == 0


def operators(net, x):
    """Convolutions before, within and behind operators of MMCV."""
    x = net['conv'](x)
    x = net['align'](x, x.new_tensor([[0, 0, 0, 40, 30], [1, 10, 5, 60, 60]]))
    x = net['deform'](x, net['offset'](x))
    return net['conv'](net['modulated'](x))


def test_operators_of_mmcv_read_maps_in_order():
    """They take a map's memory for what its dimensions say, whatever its layout."""
    torch.manual_seed(0)
    model = Net(
        operators,
        conv=conv(),
        align=RoIAlign(7, 0.5),
        offset=nn.Conv2d(3, 18, 3, padding=1),
        deform=DeformConv2d(3, 3, 3, padding=1),
        modulated=ModulatedDeformConv2dPack(3, 3, 3, padding=1),
    )
    nn.init.normal_(model.backbone['modulated'].conv_offset.weight, std=0.1)
    assert_same_taps(model.eval().requires_grad_(False), ['neck'], norms_left=0)
    laid_out = [x.weight.is_contiguous() for x in model.modules() if type(x) is nn.Conv2d]
    assert laid_out == [False, False, True]  # the last is the modulated operator's own


def test_taps_without_values_decide_nothing():
    """As of a RoI head in a batch without regions: the next images tell what may be changed."""
    torch.manual_seed(0)
    empty = [True]

    def compute(net, x):
        return in_order(net, x)[: 0 if empty.pop() else None]

    model = Net(compute, conv=conv(), norm=BN(3)).eval().requires_grad_(False)
    run, images = TeacherRun(), torch.randn(2, 3, 8, 8)
    (first,) = taps_of(run, model, ['neck'], images)
    assert len(first) == 0 and count(model) == 1 and not run.has_changed(model)
    empty[:] = [False] * 4
    (second,) = taps_of(run, model, ['neck'], images)
    assert len(second) == 2 and count(model) == 0 and run.has_changed(model)
