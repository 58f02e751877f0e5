"""Two processes equal one, and resume as exactly."""

from types import SimpleNamespace

import tiny
import torch
import toy
from mmengine.dist import get_rank
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner

from diffkd_mm.hooks.checkpoint import _accumulated_gradients

FITNET = dict(
    student='neck',
    teacher='neck',
    connector=dict(type='ConvConnector', student_channels=16, teacher_channels=24),
    loss=dict(type='MSELoss', loss_weight=5.0),
)


def distillation(folder, teacher_checkpoint, name: str, batch_size: int = 2):
    """The tiny detector without anything that looks at a whole batch or draws noise."""
    model = tiny.distiller(teacher_checkpoint, dict(fpn=FITNET))
    student = model['student']
    student['backbone']['norm_eval'] = True
    # MMDetection's own losses are divided by the objects of each process.
    for loss in ('loss_cls', 'loss_bbox'):
        student['bbox_head'][loss]['loss_weight'] = 0.0
    cfg = tiny.training(folder, teacher_checkpoint, model=model)
    cfg.work_dir = str(folder / name)
    cfg.train_dataloader.batch_size = batch_size
    return cfg


def train(cfg) -> None:
    Runner.from_cfg(cfg).train()


def test_two_processes_equal_one(tmp_path, teacher_checkpoint):
    """Of half the batch each, after four steps, up to rounding."""
    one = distillation(tmp_path, teacher_checkpoint, 'one', batch_size=4)
    train(one)
    two = toy.for_ranks(distillation(tmp_path, teacher_checkpoint, 'two'))
    toy.in_two_processes(tmp_path, train, two)
    start, one, two = (
        torch.load(tmp_path / file, weights_only=False)['state_dict']
        for file in ('one/epoch_1.pth', 'one/epoch_2.pth', 'two/epoch_2.pth')
    )
    assert one.keys() == two.keys()
    for name, value in one.items():
        torch.testing.assert_close(value, two[name], rtol=1e-4, atol=1e-6, msg=name)
    moved = [x for x in one if x.startswith('backbone') and not torch.equal(one[x], start[x])]
    assert len(moved) > 50


def test_resumed_by_as_many_processes(tmp_path):
    """Each with noise of its own, accumulating gradients of its own when it was saved."""

    def config(name: str):
        cfg = toy.for_ranks(toy.config(tmp_path / name, workers=1))
        cfg.randomness = dict(seed=None, diff_rank_seed=True)
        cfg.optim_wrapper.accumulative_counts = 3
        return cfg

    toy.in_two_processes(tmp_path / 'a', toy.train, config('whole'))
    cfg = config('resumed')
    cfg.resume, cfg.load_from = True, str(tmp_path / 'whole/epoch_2.pth')
    toy.in_two_processes(tmp_path / 'b', toy.train, cfg)
    whole, resumed = (
        torch.load(tmp_path / name / 'epoch_4.pth', weights_only=False)
        for name in ('whole', 'resumed')
    )
    assert 'gradients' in torch.load(tmp_path / 'whole/epoch_2.pth', weights_only=False)
    states = whole['randomness']['generators']
    assert len(states) == 2 and not torch.equal(states[0]['torch'], states[1]['torch'])
    assert toy.differences(toy.training_state(whole), toy.training_state(resumed)) == []


def save_what_each_used(folder) -> None:
    """Saves gradients between two steps, of which either rank has its own parameter's alone."""
    rank = get_rank()
    model = torch.nn.ModuleList(torch.nn.Linear(1, 1, bias=False) for _ in range(2))
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=1), accumulative_counts=2)
    wrapper.initialize_count_status(model, 0, 4)
    wrapper.update_params(4 * (rank + 1) * model[rank].weight.sum())
    runner = SimpleNamespace(model=model, optim_wrapper=wrapper)
    torch.save(_accumulated_gradients(runner), folder / str(rank))


def test_gradients_that_wait_are_averaged_by_name(tmp_path):
    """Also those of layers that the batch of one rank had no use for."""
    toy.in_two_processes(tmp_path, save_what_each_used, tmp_path)
    for rank in range(2):
        gradients = torch.load(tmp_path / str(rank))
        assert {k: x.item() for k, x in gradients.items()} == {'0.weight': 1.0, '1.weight': 2.0}
