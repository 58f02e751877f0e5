import copy
import pickle

import pytest
import tiny
import torch
from mmengine.config import Config
from mmengine.logging import HistoryBuffer
from mmengine.visualization import Visualizer
from mmpretrain.models.backbones import swin_transformer
from mmpretrain.structures import DataSample

from diffkd_mm.checkpoints import reading
from diffkd_mm.checkpoints.reading import read_checkpoint_file
from diffkd_mm.configs import load_config, zoo_checkpoint
from diffkd_mm.distillers import FrozenTeacher
from diffkd_mm.errors import DistillationError

CONFIG = dict(model=tiny.retinanet(channels=24), default_scope='mmdet')


def build(checkpoint, config=CONFIG, **kwargs):
    return FrozenTeacher(config, str(checkpoint), **kwargs).build(torch.device('cpu'))


@pytest.fixture
def weights(teacher_checkpoint):
    return torch.load(teacher_checkpoint)['state_dict']


def test_a_model_that_cannot_be_built(teacher_checkpoint):
    config = dict(model=dict(type='Nothing'), default_scope='mmdet')
    with pytest.raises(DistillationError, match='^teacher: the model of its config .*: .*Nothing'):
        build(teacher_checkpoint, config)


class Unsafe:
    """An object that a checkpoint of unknown origin should not be able to create."""


def test_weights_arrive(teacher_checkpoint, weights):
    state = build(teacher_checkpoint).state_dict()
    assert state.keys() == weights.keys()
    assert all(torch.equal(state[k], weights[k]) for k in state)


def test_config_from_a_file(tmp_path, teacher_checkpoint):
    path = tmp_path / 'teacher.py'
    Config(CONFIG).dump(path)
    assert not build(teacher_checkpoint, str(path)).training


def test_training_checkpoint_of_mmengine_is_safe(tmp_path, weights):
    """It holds logs and optimizer states beside the weights."""
    log = HistoryBuffer([1.0, 2.0], [1, 1])
    torch.save(
        dict(
            state_dict={f'module.{k}': v for k, v in weights.items()},
            meta=dict(epoch=1, seed=0, dataset_meta=dict(CLASSES=('a',))),
            message_hub=dict(log_scalars={'train/loss': log}, runtime_info=dict(iter=3)),
            optimizer=torch.optim.SGD([torch.zeros(1)], lr=0.1).state_dict(),
        ),
        tmp_path / 'epoch_1.pth',
    )
    build(tmp_path / 'epoch_1.pth')


def test_a_distilled_students_images_may_be_described_beside_it():
    student = tiny.retinanet(channels=24)
    images = dict(student.pop('data_preprocessor'), mean=[10.0, 20.0, 30.0])
    model = dict(
        type='diffkd_mm.Distiller', student=student, data_preprocessor=images, points=dict()
    )
    teacher = FrozenTeacher(dict(model=model, default_scope='mmdet'), 'none').build_network()
    assert teacher.data_preprocessor.mean.flatten().tolist() == [10.0, 20.0, 30.0]


def test_a_distilled_student_may_teach(tmp_path, teacher_checkpoint):
    cfg = tiny.distiller(teacher_checkpoint, channels=24, points={})
    student = tiny.build(dict(cfg, teacher=None))
    model = tiny.build(
        tiny.distiller(
            teacher_checkpoint,
            channels=24,
            points=dict(
                fpn=dict(
                    tiny.FPN_POINT,
                    connector=dict(type='ConvConnector', student_channels=24, teacher_channels=24),
                )
            ),
        )
    )
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'student.pth')
    assert any('distillation' in k for k in model.state_dict())
    teacher = build(tmp_path / 'student.pth')
    assert torch.equal(teacher.backbone.conv1.weight, model.student.backbone.conv1.weight)
    assert type(student.student) is type(teacher)


class TestRefusals:
    def test_missing(self, tmp_path):
        with pytest.raises(DistillationError, match='there is no checkpoint .*missing.pth'):
            build(tmp_path / 'missing.pth')

    @pytest.mark.parametrize('size', [0, 10, 1000, 20000])
    def test_truncated(self, tmp_path, teacher_checkpoint, size):
        path = tmp_path / 'half.pth'
        path.write_bytes(teacher_checkpoint.read_bytes()[:size])
        with pytest.raises(
            DistillationError, match='half.pth.* is no checkpoint: it is (empty|cut off)'
        ):
            build(path)

    def test_of_another_architecture(self, tmp_path, weights):
        path = tmp_path / 'other.pth'
        torch.save({f'model.{k}': v for k, v in weights.items()}, path)
        with pytest.raises(
            DistillationError, match=r'other.pth.* does not fit .*\d+ of \d+ tensors'
        ):
            build(path)

    def test_of_another_width(self, tmp_path):
        path = tmp_path / 'narrow.pth'
        torch.save(tiny.build(tiny.retinanet(channels=16)).state_dict(), path)
        with pytest.raises(DistillationError, match='narrow.pth.* does not fit .*size mismatch'):
            build(path)

    def test_not_a_checkpoint(self, tmp_path):
        path = tmp_path / 'list.pth'
        torch.save([1, 2, 3], path)
        with pytest.raises(DistillationError, match='not a checkpoint'):
            build(path)

    def test_untrusted_pickle_and_how_to_allow_it(self, tmp_path, weights):
        path = tmp_path / 'unsafe.pth'
        torch.save(dict(state_dict=weights, extra=Unsafe()), path)
        with pytest.raises(DistillationError, match='trust_checkpoint=True') as error:
            build(path)
        assert 'could run code' in str(error.value)
        build(path, trust_checkpoint=True)

    def test_a_pickle_that_runs_code_does_not(self, tmp_path):
        class Bomb:
            def __reduce__(self):
                return (open, (str(tmp_path / 'ran'), 'w'))

        path = tmp_path / 'bomb.pth'
        torch.save(dict(state_dict={}, extra=Bomb()), path)
        with pytest.raises(DistillationError):
            read_checkpoint_file(str(path))
        path.write_bytes(pickle.dumps(Bomb()))
        with pytest.raises(DistillationError):
            read_checkpoint_file(str(path))
        assert not (tmp_path / 'ran').exists()

    def test_attributes_of_allowed_objects_lead_nowhere(self, tmp_path):
        """A training log needs `getattr` to be read; unrestricted, it would reach any code."""

        class Attribute:
            def __init__(self, owner, name):
                self.owner, self.name = owner, name

            def __reduce__(self):
                return getattr, (self.owner, self.name)

        path = tmp_path / 'evil.pth'
        init = Attribute(HistoryBuffer, '__init__')
        for content in (init, Attribute(init, '__globals__'), Attribute(torch.Tensor, 'numpy')):
            torch.save(dict(state_dict={'a': torch.zeros(1)}, extra=content), path)
            with pytest.raises(DistillationError, match='trust_checkpoint=True'):
                read_checkpoint_file(str(path))

    @pytest.mark.parametrize('key', ['dataset_meta', 'CLASSES'])
    def test_other_classes(self, key, tmp_path, weights, monkeypatch):
        """A warning, since features are of use all the same."""
        visualizer = Visualizer.get_instance(f'test_{key}')
        path = tmp_path / 'teacher.pth'

        def warnings(classes):
            meta = dict(CLASSES=classes) if key == 'CLASSES' else {key: dict(classes=classes)}
            torch.save(dict(meta=meta, state_dict=weights), path)
            lines = []
            monkeypatch.setattr(
                'diffkd_mm.distillers.teacher.print_log', lambda line, **kwargs: lines.append(line)
            )
            build(path)
            return lines

        visualizer.dataset_meta = dict(classes=('cat', 'dog', 'cow'))
        assert warnings(('cat', 'dog', 'cow')) == warnings(None) == []
        (line,) = warnings(('cat', 'cow', 'dog'))
        assert "class 1 is 'cow' for the teacher and 'dog' in the data" in line
        assert 'it has 2 classes and the data 3' in warnings(('cat', 'dog'))[0]
        visualizer.dataset_meta = None
        assert warnings(('cat', 'cow', 'dog')) == []

    def test_config(self, tmp_path):
        for config in ('missing.py', 'mmdet::retinanet/no_such_config.py', 'mmocr::a/b.py'):
            with pytest.raises(DistillationError, match='cannot load the config'):
                load_config(config)
        with pytest.raises(DistillationError, match="no 'model'"):
            load_config(dict(teacher=1))

    def test_zoo_needs_a_package(self):
        with pytest.raises(
            DistillationError, match="checkpoint='zoo' needs a config of an installed"
        ):
            zoo_checkpoint('configs/mine.py')

    def test_zoo_without_weights(self):
        with pytest.raises(DistillationError, match='lists no weights'):
            zoo_checkpoint('mmdet::_base_/models/retinanet_r50_fpn.py')


@pytest.mark.parametrize(
    'config, name',
    [
        (
            'mmdet::retinanet/retinanet_x101-64x4d_fpn_1x_coco.py',
            'retinanet_x101_64x4d_fpn_1x_coco',
        ),
        ('mmseg::deeplabv3/deeplabv3_r101-d8_4xb2-40k_cityscapes-512x1024.py', 'deeplabv3_r101-d8'),
        ('mmpretrain::resnet/resnet34_8xb32_in1k.py', 'resnet34'),
    ],
)
def test_zoo_follows_the_metafile(config, name):
    url = zoo_checkpoint(config)
    assert url.startswith('https://') and name in url and url.endswith('.pth')


@pytest.mark.parametrize('content', ['model = dict(', '_base_ = "nothing.py"', None])
def test_file_that_is_no_config(tmp_path, teacher_checkpoint, content):
    path = teacher_checkpoint
    if content is not None:
        path = tmp_path / 'config.py'
        path.write_text(content)
    with pytest.raises(DistillationError, match='cannot load the config'):
        load_config(str(path))


def deepened(depth):
    config = dict(model=tiny.retinanet(), default_scope='mmdet')
    config['model']['backbone']['depth'] = depth
    return config


def test_weights_of_a_deeper_network(tmp_path):
    """What the config describes is all there, with blocks left out it would be another teacher."""
    path = tmp_path / 'deep.pth'
    torch.save(tiny.build(deepened(34)['model']).state_dict(), path)
    build(path, deepened(34))
    with pytest.raises(DistillationError, match=r'deeper network, with backbone\.layer1\.2\.'):
        build(path, deepened(18))


def test_weights_that_the_teacher_does_without(tmp_path, teacher_checkpoint, weights):
    """Of other heads, and of levels that the config leaves out."""
    others = ('mask_head.convs.0.weight', 'neck.fpn_convs.3.conv.weight')
    torch.save({**weights, **dict.fromkeys(others, torch.ones(1))}, tmp_path / 'more.pth')
    build(tmp_path / 'more.pth')


def test_of_a_url(monkeypatch, teacher_checkpoint):
    urls = []
    monkeypatch.setattr(reading, 'download', lambda url: urls.append(url) or teacher_checkpoint)
    build('https://example.com/teacher.pth?download=true')
    assert urls == ['https://example.com/teacher.pth?download=true']


@pytest.mark.parametrize(
    ('name', 'value', 'sentence'),
    [
        ('neck.fpn_convs.0.conv.bias', float('nan'), 'NaN or infinite .* in 1 tensors, e.g. neck'),
        ('bbox_head.retina_cls.weight', float('inf'), 'NaN or infinite .* in 1 tensors, e.g. bbox'),
        ('backbone.bn1.running_var', float('nan'), 'NaN or infinite .* e.g. backbone.bn1'),
        (None, 0.0, 'all weights in .* are zero'),
    ],
)
def test_weights_that_nothing_was_learned_in(tmp_path, weights, name, value, sentence):
    spoilt = {
        k: torch.full_like(v, value) if name in (k, None) and v.is_floating_point() else v
        for k, v in weights.items()
    }
    torch.save(spoilt, tmp_path / 'spoilt.pth')
    with pytest.raises(DistillationError, match=f'teacher: .*{sentence}'):
        build(tmp_path / 'spoilt.pth')


@pytest.fixture(scope='module')
def timm_teacher():
    """A network of timm, and its config through MMPretrain's wrapper."""
    timm = pytest.importorskip('timm', reason='needs timm, which is optional')
    name = 'resnet10t'
    cfg = dict(type='TimmClassifier', model_name=name, num_classes=10)
    model = timm.create_model(name, num_classes=10).eval()
    return model, dict(model=cfg, default_scope='mmpretrain')


def test_teacher_of_timm(tmp_path, timm_teacher):
    """A checkpoint with timm's own names; taps in the wrapped network."""
    network, config = timm_teacher
    torch.save(network.state_dict(), tmp_path / 'timm.pth')
    config = copy.deepcopy(config)
    mean, std = torch.tensor([10.0, 20.0, 30.0]), torch.tensor([50.0, 60.0, 70.0])
    config['data_preprocessor'] = dict(mean=mean.tolist(), std=std.tolist(), to_rgb=True)
    model = tiny.build(
        dict(
            type='diffkd_mm.Distiller',
            student=tiny.classifier(),
            teacher=dict(config=config, checkpoint=str(tmp_path / 'timm.pth')),
            points=dict(
                features=dict(
                    student='backbone',
                    teacher='model.layer4',
                    connector=dict(
                        type='DiffKDConnector', student_channels=64, teacher_channels=512
                    ),
                    loss=dict(type='MSELoss'),
                ),
                logits=dict(
                    student='head.fc', teacher='model.fc', loss=dict(type='KLDivLoss', tau=1.0)
                ),
            ),
        ),
        'mmpretrain',
    ).train()
    targets = {}
    for name, point in model.distillation.items():
        point.loss.register_forward_pre_hook(
            lambda module, args, name=name: targets.update({name: args[1]})
        )
    images = torch.randint(255, (2, 3, 64, 64))
    samples = [DataSample().set_gt_label(label) for label in range(2)]
    tiny.train_step(model, dict(inputs=list(images), data_samples=samples))
    with torch.no_grad():
        normalized = (images.flip(1) - mean[:, None, None]) / std[:, None, None]
        features = network.forward_features(normalized)
        torch.testing.assert_close(targets['features'], features)
        torch.testing.assert_close(targets['logits'], network.forward_head(features))


@pytest.fixture
def swin_of_another_resolution(tmp_path, monkeypatch):
    """A function that loads a Swin's weights for 128 x 128 pixels into one for 64 x 64."""

    def swin(size, window):
        backbone = dict(
            type='SwinTransformer',
            arch=dict(embed_dims=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 1, 1]),
            img_size=size,
            stage_cfgs=dict(block_cfgs=dict(window_size=window)),
        )
        return dict(tiny.classifier(), backbone=backbone)

    def load(resize):
        # MMPretrain's own needs SciPy < 1.14.
        monkeypatch.setattr(swin_transformer, 'resize_relative_position_bias_table', resize)
        config = dict(model=swin(64, 2), default_scope='mmpretrain')
        return build(tmp_path / 'swin.pth', config)

    torch.save(tiny.build(swin(128, 4), 'mmpretrain').state_dict(), tmp_path / 'swin.pth')
    return load


def test_indices_of_swin_are_no_weights(swin_of_another_resolution):
    """MMPretrain resizes the table of biases and drops the indices of the other window."""
    teacher = swin_of_another_resolution(lambda source, target, table, heads: table[: target**2])
    attention = teacher.backbone.stages[0].blocks[0].attn.w_msa
    assert attention.relative_position_bias_table.shape == (3 * 3, 1)


def test_reason_of_a_failing_load_hook(swin_of_another_resolution):
    def resize(*args):
        raise NotImplementedError('no such interpolation')

    with pytest.raises(DistillationError, match='does not fit.*: no such interpolation'):
        swin_of_another_resolution(resize)


def test_safetensors(tmp_path, teacher_checkpoint, weights):
    """As timm publishes its weights."""
    safetensors = pytest.importorskip('safetensors.torch')
    path = tmp_path / 'model.safetensors'
    safetensors.save_file(weights, path)
    state = build(path).state_dict()
    assert all(torch.equal(state[k], weights[k]) for k in state)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DistillationError, match='is it complete'):
        build(path)


def test_incomplete_checkpoint_of_timm(tmp_path, timm_teacher):
    """The wrapper hides its own names in the state dict; the check sees through that."""
    network, config = timm_teacher
    weights = network.state_dict()
    del weights['fc.bias'], weights['layer1.0.conv1.weight']
    torch.save(weights, tmp_path / 'timm.pth')
    with pytest.raises(DistillationError, match='2 of .* tensors are missing.*fc.bias'):
        build(tmp_path / 'timm.pth', config)
