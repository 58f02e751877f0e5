"""A resumed training equals an uninterrupted one, bit for bit."""

from pathlib import Path

import pytest
import torch
import toy

EPOCHS = dict(by_iterations=False)
ITERATIONS = dict(by_iterations=True)
BATCH_SAMPLER = dict(type='ToyBatchSampler', drop_last=False)


def with_options(cfg, options: dict):
    cfg.merge_from_dict(options)
    return cfg


def checkpoint_after(work_dir: Path, epochs: int, by_iterations: bool) -> str:
    return str(work_dir / (f'iter_{4 * epochs}.pth' if by_iterations else f'epoch_{epochs}.pth'))


@pytest.mark.parametrize(
    ('kind', 'options'),
    [
        (EPOCHS, {}),
        (ITERATIONS, {}),
        (dict(**EPOCHS, workers=1), {}),
        (dict(**EPOCHS, workers=2), {'train_dataloader.persistent_workers': False}),
        (dict(**ITERATIONS, workers=2), {}),
        (EPOCHS, {'optim_wrapper.accumulative_counts': 3}),
        (dict(**ITERATIONS, workers=1), {'optim_wrapper.accumulative_counts': 3}),
        (EPOCHS, {'optim_wrapper.type': 'diffkd_mm.CPUAmpOptimWrapper'}),
        (EPOCHS, {'optim_wrapper.optimizer': dict(_delete_=True, type='AdamW', lr=0.01)}),
        (EPOCHS, {'default_hooks.checkpoint': dict(save_best='toy/mean', rule='greater')}),
        (ITERATIONS, {'default_hooks.checkpoint.max_keep_ckpts': 2}),
        # Seeds that are drawn at the start: the sampler's as well.
        (EPOCHS, {'randomness.seed': None}),
        (ITERATIONS, {'randomness': dict(seed=None, diff_rank_seed=True)}),
        (ITERATIONS, {'train_dataloader.batch_sampler': BATCH_SAMPLER}),
        (dict(**ITERATIONS, workers=2), {'train_dataloader.batch_sampler': BATCH_SAMPLER}),
    ],
)
def test_equals_an_uninterrupted_training(tmp_path, kind, options):
    whole = toy.train(with_options(toy.config(tmp_path, **kind), options))
    cfg = with_options(toy.config(tmp_path, **kind), options)
    cfg.resume = True
    cfg.load_from = checkpoint_after(tmp_path, 3, kind['by_iterations'])
    cfg.work_dir = str(tmp_path / 'resumed')
    resumed = toy.train(cfg)
    assert toy.differences(toy.training_state(whole), toy.training_state(resumed)) == []


def test_without_the_states_it_differs(tmp_path):
    """The toy draws enough for the comparison above to notice."""
    whole = toy.train(toy.config(tmp_path))
    checkpoint = torch.load(tmp_path / 'epoch_3.pth', weights_only=False)
    del checkpoint['randomness']
    torch.save(checkpoint, tmp_path / 'stripped.pth')
    cfg = toy.config(tmp_path / 'resumed')
    cfg.resume, cfg.load_from = True, str(tmp_path / 'stripped.pth')
    assert toy.differences(whole['state_dict'], toy.train(cfg)['state_dict'])
