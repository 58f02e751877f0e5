"""Target guidance (Yao et al. 2024, eq. 14): features compared through the teacher's next layer."""

import pytest
import tiny
import torch

from diffkd_mm.distillers import DistillationPoint, PointOptions
from diffkd_mm.distillers.guidance import apply_weights, check_guide, guidance_loss
from diffkd_mm.errors import DistillationError

CONV = dict(type='ConvConnector', student_channels=4, teacher_channels=3)
POINT = dict(
    student='neck',
    teacher='neck',
    loss=dict(type='MSELoss'),
    guidance='bbox_head.cls_convs.0.conv',
)


def test_weights_alone_are_applied():
    """On vectors, maps before a pooling, and maps before a convolution."""
    layer = torch.nn.Linear(3, 5)
    estimate, target = torch.randn(2, 2, 3)
    expected = ((target - estimate) @ layer.weight.T).square().mean()
    loss = guidance_loss(layer, [estimate], [target], [None])
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    scale = torch.tensor([0.5, 2.0, 3.0])
    scaled = guidance_loss(layer, [estimate / scale], [target / scale], [scale])
    assert scaled.item() == pytest.approx(expected.item(), rel=1e-5)
    x = torch.randn(2, 3, 4, 4)
    assert torch.allclose(apply_weights(layer, x), x.mean((2, 3)) @ layer.weight.T, atol=1e-6)
    conv = torch.nn.Conv2d(3, 6, 3, stride=2, padding=1, groups=3)
    assert torch.allclose(apply_weights(conv, x), conv(x) - conv.bias[:, None, None], atol=1e-5)


@pytest.mark.parametrize('standardize', [None, 'scale'])
def test_point_without_a_chain(standardize):
    """Levels are summed, in the teacher's units, and the teacher's layer gets no gradient."""
    connector = dict(CONV, num_levels=2, standardize=standardize)
    options = PointOptions.from_config('fpn', dict(POINT, connector=connector, guidance_weight=3.0))
    point = DistillationPoint(options)
    guide = torch.nn.Conv2d(3, 5, 1)
    students = [torch.randn(2, 4, n, n, requires_grad=True) for n in (4, 2)]
    teachers = [2 + torch.randn(2, 3, n, n) for n in (4, 2)]
    losses = point(students, teachers, guide=guide)
    assert set(losses) == {'loss_kd', 'loss_guide'}
    assert set(point(students, teachers)) == {'loss_kd'}
    refined, targets, _ = point.connector(students, teachers)
    scales = [1, 1]
    if standardize:
        scales = [x.square().mean().sqrt() for x in teachers]
    with torch.no_grad():
        expected = sum(
            (apply_weights(guide, y - x) * scale).square().mean()
            for x, y, scale in zip(refined, targets, scales)
        )
    assert losses['loss_guide'].item() == pytest.approx(3 * expected.item(), rel=1e-3)
    losses['loss_guide'].backward()
    assert guide.weight.grad is None
    assert all(x.grad.abs().sum() > 0 for x in students)


def test_detector_is_guided_by_the_teachers_head():
    """The first convolution of a head that takes all levels of the neck."""
    model = tiny.build_distiller(
        tiny.retinanet(),
        tiny.retinanet(channels=24),
        dict(fpn=dict(POINT, connector=dict(type='ConvConnector'))),
    )
    log = tiny.train_step(model, tiny.batch())
    assert log['fpn.loss_kd'] > 0 and log['fpn.loss_guide'] > 0


def test_layers_that_cannot_guide_are_refused():
    with pytest.raises(DistillationError, match=r'takes 4 channels, .* has 3\. Name the linear'):
        check_guide('head.fc', torch.nn.Linear(4, 2), [4, 3])
    with pytest.raises(DistillationError, match='is a ReLU and not a linear layer'):
        check_guide('head.fc', torch.nn.ReLU(), [3])


@pytest.mark.parametrize('dtype', tiny.AUTOCAST_DTYPES)
def test_squares_are_in_float32_under_autocast(dtype):
    layer = torch.nn.Linear(3, 3, bias=False)
    torch.nn.init.eye_(layer.weight)
    with torch.autocast('cpu', dtype):
        loss = guidance_loss(layer, [torch.zeros(1, 3)], [torch.full((1, 3), 320.0)], [None])
    assert loss.dtype == torch.float32 and loss.item() == 320.0**2  # float16 ends at 65504


def test_a_loss_that_bridges_channels_itself_is_not_enough():
    loss = dict(type='CIRKDLoss', num_classes=10, student_channels=16, teacher_channels=24)
    with pytest.raises(DistillationError, match=r"point 'fpn': .*add a connector, or leave"):
        tiny.build_distiller(
            tiny.retinanet(), tiny.retinanet(channels=24), dict(fpn=dict(POINT, loss=loss))
        )
