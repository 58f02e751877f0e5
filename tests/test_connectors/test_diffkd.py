from copy import deepcopy

import pytest
import tiny
import torch
import torch.nn.functional as F
from torch import nn

from diffkd_mm.connectors import ConvConnector, DeepProjectorConnector, DiffKDConnector
from diffkd_mm.connectors.diffkd_level import Denoising
from diffkd_mm.errors import DistillationError
from diffkd_mm.losses import MSELoss

SIZES = [(8, 6), (4, 3), (3, 5)]


def features(channels, batch=2, sizes=SIZES, **kwargs):
    return [torch.randn(batch, channels, *size, **kwargs) for size in sizes]


def vectors(length, batch=4):
    return [torch.randn(batch, length)]


VECTOR = dict(
    denoiser=dict(type='VectorDenoiser'),
    noise_adapter=dict(type='VectorNoiseAdapter'),
    num_levels=1,
)


def kd_loss(refined, targets):
    return sum(F.mse_loss(x, y) for x, y in zip(refined, targets))


def norms_with_grad(module):
    """Which parameters a backward pass reached, and with a gradient other than zero."""
    return {
        n for n, p in module.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0
    }


@pytest.mark.parametrize(
    'options',
    [
        {},
        dict(shared=True),
        dict(latent_channels=5),
        dict(latent_channels=24),
        dict(latent_channels=5, autoencoder=dict(type='PCAProjection')),
        dict(latent_channels=24, autoencoder=dict(type='RandomProjection')),
        dict(latent_channels=5, autoencoder=dict(norm_cfg=dict(type='GN'))),
        dict(noise_adapter=None),
        dict(noise_adapter=dict(type='ScheduledNoise')),
        dict(output_projection=False),
        dict(loss_align_weight=2.0),
        dict(standardize='channel'),
        dict(standardize='scale', latent_channels=5),
        dict(kd_trains_denoiser=False),
        dict(num_inference_steps=1),
        dict(timestep_spacing='trailing', initial_timestep=300),
        dict(norm_cfg=dict(type='GN', num_groups=32)),
        dict(with_cp=True),
        dict(with_cp=True, kd_trains_denoiser=False),
    ],
    ids=str,
)
def test_every_option_trains(options):
    torch.manual_seed(0)
    connector = DiffKDConnector(12, 16, num_levels=3, **options)
    students = features(12, requires_grad=True)
    refined, targets, losses = connector(students, features(16))
    channels = options.get('latent_channels', 16)
    assert [x.shape for x in refined] == [(2, channels, *size) for size in SIZES]
    assert [x.shape for x in targets] == [x.shape for x in refined]
    learned = 'latent_channels' in options and 'type' not in options.get('autoencoder', {})
    assert set(losses) == {'loss_diff'} | ({'loss_ae'} if learned else set()) | (
        {'noise_weight'} if options.get('noise_adapter', True) else set()
    ) | ({'loss_align'} if 'loss_align_weight' in options else set())
    total = kd_loss(refined, targets) + sum(v for k, v in losses.items() if 'loss' in k)
    total.backward()
    assert torch.isfinite(total)
    unreached = {n for n, p in connector.named_parameters() if p.grad is None}
    fixed = {n for n, p in connector.named_parameters() if not p.requires_grad}
    assert unreached == fixed and all('autoencoder.norm' in name for name in fixed)
    assert all(x.grad.abs().sum() > 0 for x in students)


def test_shared_modules():
    separate = DiffKDConnector(8, 8, num_levels=3)
    shared = DiffKDConnector(8, 8, num_levels=3, shared=True)
    count = [sum(p.numel() for p in c.parameters()) for c in (separate, shared)]
    assert count[0] == 3 * count[1]


class TestGradients:
    """method: who learns from which loss."""

    @pytest.fixture
    def setup(self):
        torch.manual_seed(0)
        connector = DiffKDConnector(12, 16, num_levels=1, latent_channels=8)
        students = features(12, sizes=SIZES[:1], requires_grad=True)
        teachers = features(16, sizes=SIZES[:1], requires_grad=True)
        return connector, students, teachers

    @staticmethod
    def parts(connector):
        return {name.split('.')[2] for name in norms_with_grad(connector)}

    def test_kd_loss(self, setup):
        connector, students, teachers = setup
        refined, targets, _ = connector(students, teachers)
        kd_loss(refined, targets).backward()
        assert self.parts(connector) == {
            'student_projection',
            'noise_adapter',
            'denoiser',
            'output_projection',
        }
        assert students[0].grad is not None and teachers[0].grad is None

    def test_kd_loss_passes_through_the_denoiser(self, setup):
        connector, students, teachers = setup
        connector.levels[0].kd_trains_denoiser = False
        refined, targets, losses = connector(students, teachers)
        kd_loss(refined, targets).backward(retain_graph=True)
        assert self.parts(connector) == {'student_projection', 'noise_adapter', 'output_projection'}
        assert students[0].grad.abs().sum() > 0
        losses['loss_diff'].backward()
        assert 'denoiser' in self.parts(connector)

    def test_diffusion_loss(self, setup):
        connector, students, teachers = setup
        connector(students, teachers)[2]['loss_diff'].backward()
        assert self.parts(connector) == {'denoiser'}
        assert students[0].grad is None and teachers[0].grad is None

    def test_autoencoder_loss(self, setup):
        connector, students, teachers = setup
        connector(students, teachers)[2]['loss_ae'].backward()
        assert self.parts(connector) == {'autoencoder'}
        assert students[0].grad is None and teachers[0].grad is None

    def test_alignment_loss(self, setup):
        """It teaches the projection, in the latent, and leaves the student alone."""
        connector, students, teachers = setup
        connector.loss_align_weight = 2.0
        _, targets, losses = connector(students, teachers)
        losses['loss_align'].backward()
        assert self.parts(connector) == {'student_projection'}
        assert students[0].grad is None and teachers[0].grad is None
        projected = connector.levels[0].student_projection(students[0])
        assert losses['loss_align'].item() == pytest.approx(
            2 * F.mse_loss(projected, targets[0]).item()
        )

    def test_teacher_losses_alone(self, setup):
        connector, _, teachers = setup
        losses = connector.teacher_losses(teachers)
        assert set(losses) == {'loss_diff', 'loss_ae'}
        sum(losses.values()).backward()
        assert self.parts(connector) == {'denoiser', 'autoencoder'}


@pytest.mark.parametrize(
    'norm_type, layer', [('BN', nn.BatchNorm2d), ('SyncBN', nn.SyncBatchNorm), ('GN', nn.GroupNorm)]
)
def test_norm_layer(norm_type, layer):
    connector = DiffKDConnector(8, 8, latent_channels=8, norm_cfg=dict(type=norm_type))
    norms = [m for m in connector.modules() if 'Norm' in type(m).__name__]
    # adapter 3, denoiser 2·3 + 1, autoencoder 1, output projection 1
    assert len(norms) == 12 and all(isinstance(m, layer) for m in norms)


def test_losses_are_summed_over_levels():
    torch.manual_seed(0)
    connector = DiffKDConnector(8, 8, num_levels=3, shared=True, norm_cfg=dict(type='GN'))
    teachers = features(8)
    torch.manual_seed(1)
    together = connector.teacher_losses(teachers)['loss_diff']
    torch.manual_seed(1)
    one_by_one = [connector.teacher_losses([x])['loss_diff'] for x in teachers]
    torch.testing.assert_close(together, sum(one_by_one))


def test_loss_weights():
    torch.manual_seed(0)
    connector = DiffKDConnector(8, 8, num_levels=3, latent_channels=4)
    weighted = deepcopy(connector)
    weighted.loss_diff_weight, weighted.loss_ae_weight = 2.0, 3.0
    teachers, values = features(8), []
    for c in (connector, weighted):
        torch.manual_seed(1)
        values.append(c.teacher_losses(teachers))
    torch.testing.assert_close(values[1]['loss_diff'], 2 * values[0]['loss_diff'])
    torch.testing.assert_close(values[1]['loss_ae'], 3 * values[0]['loss_ae'])


def test_deep_projector_is_the_same_layers_trained_by_the_distillation_loss_alone():
    torch.manual_seed(0)
    options = dict(num_levels=3, noise_adapter=None)
    diffkd = DiffKDConnector(8, 8, **options)
    projector = DeepProjectorConnector(8, 8, num_levels=3)
    projector.load_state_dict(diffkd.state_dict())
    calls = []
    for level in projector.levels:
        level.denoiser.register_forward_hook(lambda *args: calls.append(args))
    students, teachers = features(8), features(8)
    refined, targets, losses = projector(students, teachers)
    assert losses == {} and projector.teacher_losses(teachers) == {}
    assert len(calls) == 3 * 5  # the five steps of each level and no pass of the teacher's feature
    for x, y in zip(refined, diffkd(students, teachers)[0]):
        torch.testing.assert_close(x, y)
    kd_loss(refined, targets).backward()
    reached = {name.split('.')[2] for name in norms_with_grad(projector)}
    assert reached == {'student_projection', 'denoiser', 'output_projection'}


def test_a_denoiser_that_nothing_trains_is_refused():
    with pytest.raises(ValueError, match='nothing trains the denoiser'):
        DiffKDConnector(8, 8, loss_diff_weight=0, kd_trains_denoiser=False)


def test_without_adapter_nothing_is_random_in_the_student_path():
    connector = DiffKDConnector(8, 8, num_levels=3, noise_adapter=None)
    students, teachers = features(8), features(8)
    first, second = connector(students, teachers)[0], connector(students, teachers)[0]
    for x, y in zip(first, second):
        torch.testing.assert_close(x, y)


def test_start_of_the_denoising():
    connector = DiffKDConnector(8, 8, timestep_spacing='trailing', initial_timestep=300)
    seen = []
    denoiser = connector.levels[0].denoiser
    denoiser.register_forward_pre_hook(lambda module, args: seen.append(args[1].tolist()))
    Denoising([connector.levels[0]]).denoise([torch.randn(2, 8, 4, 4)])
    assert seen == [[300], [240], [180], [120], [60]]


def test_an_autoencoder_needs_its_width():
    with pytest.raises(DistillationError, match='needs latent_channels'):
        DiffKDConnector(8, 8, autoencoder=dict(type='PCAProjection'))


def test_target_is_the_teacher_unless_compressed():
    connector = DiffKDConnector(8, 8, num_levels=3)
    teachers = features(8)
    targets = connector(features(8), teachers)[1]
    assert all(torch.equal(x, y) for x, y in zip(targets, teachers))


def test_vectors():
    connector = DiffKDConnector(10, 10, **VECTOR)
    refined, targets, losses = connector(vectors(10), vectors(10))
    assert refined[0].shape == targets[0].shape == (4, 10)
    kd_loss(refined, targets).backward()
    assert set(losses) == {'loss_diff', 'noise_weight'}


def test_denoiser_learns_to_denoise():
    """The point of it all: after training on teacher features, noise is predicted from them."""
    torch.manual_seed(0)
    connector = DiffKDConnector(4, 4, num_levels=1)
    pattern = torch.randn(1, 4, 8, 8)
    optimizer = torch.optim.Adam(connector.parameters(), lr=3e-3)
    history = []
    for _ in range(150):
        teacher = pattern * torch.randn(8, 1, 1, 1).sign()
        loss = connector.teacher_losses([teacher])['loss_diff']
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(loss.item())
    assert sum(history[-10:]) < 0.5 * sum(history[:10])


@pytest.mark.parametrize('dtype', tiny.AUTOCAST_DTYPES)
@pytest.mark.parametrize('kind', ['maps', 'vectors'])
def test_autocast_is_finite(dtype, kind):
    torch.manual_seed(0)
    if kind == 'maps':
        connector = DiffKDConnector(12, 16, num_levels=3, latent_channels=8, standardize='channel')
        students, teachers = features(12, requires_grad=True), features(16)
    else:
        connector = DiffKDConnector(10, 10, **VECTOR)
        students, teachers = [vectors(10)[0].requires_grad_()], vectors(10)
    with torch.autocast('cpu', dtype=dtype):
        refined, targets, losses = connector(students, [20 * x for x in teachers])
        total = sum(MSELoss()(x, y) for x, y in zip(refined, targets)) + losses['loss_diff']
    total.backward()
    assert total.dtype == torch.float32 and torch.isfinite(total)
    assert all(torch.isfinite(p.grad).all() for p in connector.parameters() if p.grad is not None)
    assert torch.isfinite(students[0].grad).all()


class TestMessages:
    def test_number_of_levels(self):
        connector = DiffKDConnector(8, 8, num_levels=2)
        with pytest.raises(DistillationError, match='num_levels=2, but the taps give 3'):
            connector(features(8), features(8))

    @pytest.mark.parametrize('connector_type', [DiffKDConnector, ConvConnector])
    def test_channels(self, connector_type):
        connector = connector_type(8, 16, num_levels=3)
        message = 'level 0 of the student has 12 channels.*Set student_channels=12'
        with pytest.raises(DistillationError, match=message):
            connector(features(12), features(16))
        with pytest.raises(DistillationError, match='level 0 of the teacher has 8 channels'):
            connector(features(8), features(8))

    def test_single_value_per_channel(self):
        """In training alone, of which the warm start is a part."""
        connector, value = DiffKDConnector(8, 8, num_levels=1), features(8, 1, [(1, 1)])
        for compute in (lambda: connector(value, value), lambda: connector.teacher_losses(value)):
            with pytest.raises(DistillationError, match='single value per channel'):
                compute()
        assert connector.eval()(value, value)[0][0].shape == (1, 8, 1, 1)

    def test_unknown_standardization(self):
        with pytest.raises(ValueError, match="standardize='batch'"):
            DiffKDConnector(8, 8, standardize='batch')


def test_conv_connector():
    connector = ConvConnector(12, 16, num_levels=3, standardize='channel')
    refined, targets, losses = connector(features(12), [5 * x + 2 for x in features(16)])
    assert [x.shape for x in refined] == [x.shape for x in targets] and not losses
    assert abs(targets[0].mean()) < 1e-4
