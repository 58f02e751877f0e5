"""Pictures during a training: what is drawn, where it goes, and that nothing else changes."""

import json
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import tiny
import torch
import toy
from mmengine.registry import VISBACKENDS
from mmengine.runner import Runner
from mmengine.visualization import BaseVisBackend
from mmpretrain.structures import DataSample
from torch.utils.data import DataLoader

from diffkd_mm.errors import DistillationError
from diffkd_mm.hooks import PicturesHook

HOOK = dict(type='diffkd_mm.PicturesHook', interval=2, num_images=2)


@VISBACKENDS.register_module()
class RememberingBackend(BaseVisBackend):
    """Any backend: it is given names, images and steps."""

    images = []

    def _init_env(self):
        pass

    @property
    def experiment(self):
        return self

    def add_image(self, name, image, step=0, **kwargs):
        self.images.append((name, image, step))


def train(root, teacher_checkpoint, name, backends=('LocalVisBackend',), **overrides):
    """A training of four iterations."""
    cfg = tiny.training(root, teacher_checkpoint, **overrides)
    cfg.work_dir = str(root / name)
    cfg.visualizer = dict(
        type='DetLocalVisualizer', name=name, vis_backends=[dict(type=x) for x in backends]
    )
    Runner.from_cfg(cfg).train()
    return torch.load(root / name / 'epoch_2.pth', weights_only=False)


@pytest.fixture(scope='module')
def trained(tmp_path_factory, teacher_checkpoint):
    """A folder with trainings with pictures and without, and their last checkpoints."""
    root = tmp_path_factory.mktemp('pictures')
    RememberingBackend.images.clear()
    drawn = train(
        root,
        teacher_checkpoint,
        'drawn',
        ['LocalVisBackend', 'RememberingBackend'],
        custom_hooks=[HOOK],
    )
    return root, drawn, train(root, teacher_checkpoint, 'plain')


def test_every_backend_gets_every_picture(trained):
    root, *_ = trained
    names = {'fpn.saliency', 'fpn.noise_weight', 'reg.saliency'}
    assert {(name, step) for name, _, step in RememberingBackend.images} == {
        (name, step) for name in names for step in (2, 4)
    }
    (folder,) = (root / 'drawn').glob('*/vis_data/vis_image')
    for name, image, step in RememberingBackend.images:
        assert image.dtype == np.uint8 and image.std() > 10
        file = cv2.imread(str(folder / f'{name}_{step}.png'))
        np.testing.assert_array_equal(file[..., ::-1], image)


def test_the_training_is_that_without_pictures(trained):
    """Weights, running statistics, optimizer and generators, bit for bit; and its log."""
    root, drawn, plain = trained
    assert toy.differences(*map(toy.training_state, (drawn, plain))) == []
    logs = []
    for name in ('drawn', 'plain'):
        (file,) = (root / name).glob('*/vis_data/scalars.json')
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        times = ('time', 'data_time', 'memory')
        logs.append([{k: v for k, v in line.items() if k not in times} for line in lines])
    assert logs[0] == logs[1]


def test_tensorboard(tmp_path, teacher_checkpoint):
    accumulator = pytest.importorskip('tensorboard.backend.event_processing.event_accumulator')
    backends = ['TensorboardVisBackend']
    train(tmp_path, teacher_checkpoint, 'tensorboard', backends, custom_hooks=[HOOK])
    (folder,) = (tmp_path / 'tensorboard').glob('*/vis_data')
    events = accumulator.EventAccumulator(str(folder)).Reload()
    assert {'fpn.saliency', 'fpn.noise_weight', 'reg.saliency'} <= set(events.Tags()['images'])
    picture = events.Images('fpn.saliency')
    assert [x.step for x in picture] == [2, 4]
    assert picture[0].encoded_image_string[:4] == b'\x89PNG'


class Images(list):
    """A data set of images in memory."""

    metainfo = dict(classes=tuple('abcdefghij'))


@pytest.fixture
def runner():
    """A runner, as far as the hook knows it, before a training of a classifier."""
    logits = dict(student='head.fc', teacher='head.fc', connector=dict(type='DiffKDConnector'))
    loss = dict(type='KLDivLoss')
    points = dict(
        logits=dict(logits, loss=loss), pooled=dict(student='neck', teacher='neck', loss=loss)
    )
    model = tiny.build_distiller(tiny.classifier(), tiny.classifier(), points, 'mmpretrain')
    shapes = [(3, 32, 32), (3, 16, 16)] * 4
    images = Images(
        dict(inputs=torch.randint(256, shape, dtype=torch.uint8), data_samples=DataSample())
        for shape in shapes
    )
    loader = DataLoader(
        images,
        batch_size=3,
        collate_fn=lambda items: {key: [item[key] for item in items] for key in items[0]},
    )
    drawn = []
    return SimpleNamespace(
        model=model,
        iter=1,
        train_dataloader=loader,
        train_loop=SimpleNamespace(dataloader=loader),
        val_loop=SimpleNamespace(dataloader=loader),
        drawn=drawn,
        visualizer=SimpleNamespace(add_image=lambda *picture: drawn.append(picture)),
    )


def iterate(hook, runner):
    hook.before_train_iter(runner, 0)
    torch.manual_seed(1)
    inputs = torch.rand(4, 3, 32, 32)
    with torch.no_grad():
        samples = [DataSample().set_gt_label(1) for _ in inputs]
        runner.model(inputs, samples, mode='loss')
    hook.after_train_iter(runner, 0)


def test_logits_are_drawn_as_scores_and_other_vectors_not(runner, monkeypatch):
    seen = []
    monkeypatch.setattr(
        'diffkd_mm.hooks.pictures.draw_noise_weights',
        lambda *args: seen.append(args) or draw_nothing(),
    )
    hook = PicturesHook(interval=1, num_images=2)
    hook.before_train(runner)
    # Three as in a batch of the training, of one size; two are drawn.
    assert [x.shape for x in hook._data['inputs']] == [(3, 32, 32)] * 3 and len(hook._images) == 2
    in_memory = hook._data['inputs'][0].permute(1, 2, 0)  # and RGB as it is
    np.testing.assert_array_equal(hook._images[0], in_memory)
    iterate(hook, runner)
    runner.iter = 2
    iterate(hook, runner)
    assert [(name, step) for name, _, step in runner.drawn] == [
        ('logits.scores', 2),
        ('logits.noise_weight', 2),
        ('logits.scores', 3),
        ('logits.noise_weight', 3),
    ]
    # γ of the training's four samples since the last picture, not of those that are drawn.
    weights, history = seen[1]
    assert weights['level 0'].shape == (4,) and [step for step, _ in history] == [2, 3]
    assert history[1][1]['level 0'] == pytest.approx(weights['level 0'].mean())
    assert not any(module._forward_hooks for module in runner.model.modules())


def draw_nothing():
    from matplotlib.figure import Figure

    return Figure()


def test_only_the_points_that_are_named(runner):
    hook = PicturesHook(interval=1, points='pooled')
    hook.before_train(runner)
    iterate(hook, runner)
    assert runner.drawn == []
    with pytest.raises(DistillationError, match="no point 'logit'.*logits, pooled"):
        PicturesHook(points=['logit']).before_train(runner)


def test_without_a_validation_set_the_training_set_is_drawn(runner):
    runner.val_loop = None
    PicturesHook().before_train(runner)


def test_mistakes_are_named(runner):
    with pytest.raises(DistillationError, match='custom_hooks.*interval'):
        PicturesHook(interval=0)
    runner.model = runner.model.student
    with pytest.raises(DistillationError, match='ImageClassifier, which distils nothing'):
        PicturesHook().before_train(runner)
