"""Images held in memory: the same ones, cropped and flipped as MMPretrain does it."""

from collections import Counter
from copy import deepcopy

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.logging import MessageHub
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner
from mmpretrain.registry import DATASETS

import diffkd_mm.datasets.in_memory
from diffkd_mm.datasets import InMemoryDataset
from diffkd_mm.hooks.warm_start import _own_loader

SIZE = 6
LOAD = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    """Two folders of ten images, in each of which no pixel is like another."""
    root = tmp_path_factory.mktemp('images')
    rng = np.random.default_rng(0)
    for name in ('cat', 'dog'):
        (root / name).mkdir()
        for i in range(10):
            image = rng.permutation(np.arange(1, 1 + 3 * SIZE**2)).reshape(SIZE, SIZE, 3)
            cv2.imwrite(str(root / name / f'{i}.png'), image.astype(np.uint8))
    return root


@pytest.fixture(autouse=True)
def no_runner_before(request):
    init_default_scope('mmpretrain')
    MessageHub.get_instance(request.node.nodeid)  # nothing in it of other tests' runners


def folder(root, pipeline=LOAD):
    return dict(type='CustomDataset', data_root=str(root), pipeline=deepcopy(pipeline))


def dataset(root, **options):
    return InMemoryDataset(folder(root), device='cpu', **options)


def dataloader(root, shuffle=True, batch_size=5, num_workers=0, **options):
    return dict(
        batch_size=batch_size,
        num_workers=num_workers,
        collate_fn=dict(type='default_collate'),
        sampler=dict(type='DefaultSampler', shuffle=shuffle),
        dataset=dict(
            type='diffkd_mm.InMemoryDataset', dataset=folder(root), device='cpu', **options
        ),
    )


def test_images_and_labels_are_those_of_the_inner_dataset(root):
    inner = DATASETS.build(folder(root))
    loader = Runner.build_dataloader(dataloader(root, shuffle=False), seed=0)
    assert loader.dataset.metainfo['classes'] == ('cat', 'dog') and len(loader) == 4
    batches = list(loader)
    images = torch.cat([batch['inputs'] for batch in batches])
    samples = [sample for batch in batches for sample in batch['data_samples']]
    assert images.dtype == torch.uint8 and len(images) == len(samples) == len(inner) == 20
    for i, item in enumerate(inner):
        assert torch.equal(images[i], item['inputs'])
        assert torch.equal(samples[i].gt_label, item['data_samples'].gt_label)


def test_the_data_preprocessor_makes_the_same_of_both(root):
    """Of a batch as one tensor, and of MMPretrain's list of images; labels as tensors."""
    inner = DATASETS.build(folder(root))
    preprocessor = MODELS.build(
        dict(type='ClsDataPreprocessor', mean=[9.0, 8.0, 7.0], std=[2.0, 3.0, 4.0], to_rgb=True)
    )
    (batch,) = Runner.build_dataloader(dataloader(root, shuffle=False, batch_size=20), seed=0)
    found = preprocessor(batch, training=True)
    expected = preprocessor(pseudo_collate(list(inner)), training=True)
    torch.testing.assert_close(found['inputs'], expected['inputs'])
    for mine, theirs in zip(found['data_samples'], expected['data_samples'], strict=True):
        assert torch.equal(mine.gt_label, theirs.gt_label)


def test_crops_and_flips_are_those_of_mmpretrain(root):
    """The same 25 places, twice for the flip, filled up with the same black; equally often."""
    augmentation = [
        dict(type='RandomCrop', crop_size=SIZE, padding=2),
        dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    ]
    inner = DATASETS.build(folder(root, [LOAD[0], *augmentation, LOAD[1]]))
    np.random.seed(0)
    expected = {inner[3]['inputs'].numpy().tobytes() for _ in range(1000)}
    assert len(expected) == 50
    images = dataset(root, padding=2, flip_prob=0.5).__getitems__([3] * 10_000)
    found = Counter(item['inputs'].numpy().tobytes() for item in images)
    assert set(found) == expected
    # 200 of each, with a standard deviation of 14
    assert 140 < min(found.values()) and max(found.values()) < 260


@pytest.mark.parametrize('flip_prob, flipped', [(0.0, 0), (0.25, 1000), (1.0, 4000)])
def test_flip_probability(root, flip_prob, flipped):
    data = dataset(root, flip_prob=flip_prob)
    mirrored = data.images[0].flip(2)
    count = sum(torch.equal(x['inputs'], mirrored) for x in data.__getitems__([0] * 4000))
    assert count == pytest.approx(flipped, abs=130 if 0 < flip_prob < 1 else 0)


def test_padding_of_cifar(root):
    """All 81 places of ``padding=4``; each image of a batch has its own."""
    data = dataset(root, padding=4)
    batch = torch.stack([x['inputs'] for x in data.__getitems__([0] * 2000)])
    value = data.images[0, 0, 2, 2]  # at most four pixels from each border
    places = (batch[:, 0] == value).nonzero()
    assert {(y, x) for _, y, x in places.tolist()} == {(y, x) for y in range(6) for x in range(6)}
    assert len({image.numpy().tobytes() for image in batch}) == 81


def test_one_sample_is_augmented_too(root):
    data = dataset(root, padding=2)
    assert len({data[0]['inputs'].numpy().tobytes() for _ in range(100)}) > 10


def test_what_the_random_numbers_depend_on(root, monkeypatch):
    """The seed, the iteration and the rank, and nothing that the model draws."""
    hub = MessageHub.get_current_instance()

    def draw(seed=0, iteration=0, rank=0, batches=1):
        hub.update_info('seed', seed)
        hub.update_info('iter', iteration)
        monkeypatch.setattr(diffkd_mm.datasets.in_memory, 'get_rank', lambda: rank)
        data = dataset(root, padding=4)
        for _ in range(batches):
            torch.rand(1)
            samples = data.__getitems__(range(20))
        return b''.join(sample['inputs'].numpy().tobytes() for sample in samples)

    first = draw()
    assert draw() == first
    assert len({first, draw(seed=1), draw(iteration=1), draw(rank=1)}) == 4
    # A training that goes on at iteration 3 draws what it would have drawn without a stop.
    assert draw(batches=4) == draw(iteration=3)


def test_workers_are_refused(root):
    loader = Runner.build_dataloader(dataloader(root, num_workers=1), seed=0)
    with pytest.raises(RuntimeError, match='set num_workers=0 in the dataloader'):
        next(iter(loader))


def test_images_of_different_sizes_are_refused(root, tmp_path):
    for name, size in (('a', 6), ('b', 7)):
        (tmp_path / name).mkdir()
        cv2.imwrite(str(tmp_path / name / '0.png'), np.zeros((size, 6, 3), np.uint8))
    with pytest.raises(
        ValueError, match=r'image 1 has shape \(3, 7, 6\), the first one \(3, 6, 6\)'
    ):
        dataset(tmp_path)


def training(root, work_dir, by_epoch, length, **options):
    """Config of a training with validations, of ``length`` epochs or three times the iterations."""
    train_dataloader = dataloader(root, padding=2, flip_prob=0.5)
    if by_epoch:
        train_cfg = dict(by_epoch=True, max_epochs=length)
    else:
        train_cfg = dict(by_epoch=False, max_iters=3 * length, val_interval=3)
        train_dataloader['sampler']['type'] = 'InfiniteSampler'
    checkpoint = dict(type='CheckpointHook', interval=1 if by_epoch else 3, by_epoch=by_epoch)
    cfg = dict(
        default_scope='mmpretrain',
        work_dir=str(work_dir),
        model=dict(
            type='ImageClassifier',
            backbone=dict(type='diffkd_mm.CIFARResNet', depth=8, stem_channels=4, base_channels=4),
            neck=dict(type='GlobalAveragePooling'),
            head=dict(type='LinearClsHead', num_classes=2, in_channels=16),
        ),
        data_preprocessor=dict(mean=[50.0] * 3, std=[30.0] * 3, num_classes=2),
        train_dataloader=train_dataloader,
        val_dataloader=dataloader(root, shuffle=False),
        val_evaluator=dict(type='Accuracy'),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9)),
        train_cfg=train_cfg,
        val_cfg=dict(),
        default_hooks=dict(checkpoint=checkpoint),
        randomness=dict(seed=1),
        log_processor=dict(by_epoch=by_epoch),
        log_level='ERROR',
    )
    return Config(cfg | options)


@pytest.mark.parametrize('by_epoch', [True, False])
def test_a_resumed_training_ends_like_an_uninterrupted_one(root, tmp_path, by_epoch):
    """To the last bit: it sees the same images at the same places."""

    def train(name, length, **options):
        runner = Runner.from_cfg(training(root, tmp_path / name, by_epoch, length, **options))
        model = runner.train()
        accuracy = runner.message_hub.get_scalar('val/accuracy/top1').current()
        return model.state_dict(), accuracy

    whole, accuracy = train('whole', 4)
    assert 0 <= accuracy <= 100
    half, _ = train('parts', 2)
    resumed, _ = train('parts', 4, resume=True)
    assert not torch.equal(half['head.fc.weight'], whole['head.fc.weight'])
    assert all(torch.equal(resumed[key], whole[key]) for key in whole)
    other, _ = train('other', 4, randomness=dict(seed=2))
    assert not torch.equal(other['head.fc.weight'], whole['head.fc.weight'])


def test_warm_start_draws_nothing(root):
    """Afterwards the training's first batch is augmented as it would have been without."""
    loader = Runner.build_dataloader(dataloader(root, shuffle=False, padding=2, flip_prob=0.5))
    list(_own_loader(loader))
    expected = dataset(root, padding=2, flip_prob=0.5).__getitems__(range(5))
    for image, sample in zip(next(iter(loader))['inputs'], expected):
        assert torch.equal(image, sample['inputs'])
