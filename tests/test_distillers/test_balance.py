"""A point's loss as a multiple of the student's own."""

import math

import pytest
import tiny
import torch
from torch.multiprocessing import start_processes
from torch.utils.checkpoint import checkpoint

from diffkd_mm.distillers.balance import LossBalance
from diffkd_mm.errors import DistillationError

LEVELS = [0, 1]


def numbers(*values):
    return [torch.tensor(float(value)) for value in values]


def distiller(loss_weight=1.0, **balance):
    point = dict(
        student='neck',
        teacher='neck',
        student_levels=LEVELS,
        teacher_levels=LEVELS,
        loss=dict(type='MSELoss', loss_weight=loss_weight),
        balance=balance,
    )
    torch.manual_seed(0)
    return tiny.build_distiller(tiny.retinanet(), tiny.retinanet(), dict(fpn=point))


def losses_of(model):
    data = model.data_preprocessor(tiny.batch(), True)
    losses = model(**data, mode='loss')
    own = sum(sum(losses[key]) for key in ('loss_cls', 'loss_bbox'))
    return own, losses['fpn.loss_kd'], losses['fpn.balance']


class TestMeasuring:
    def test_factor_of_the_means_so_far_and_then_for_good(self):
        balance = LossBalance(ratio=0.5, iters=2)
        steps = [((4, 1), 2.0), ((2, 2), 0.5 * 3 / 1.5), ((100, 1), 1.0), ((1, 50), 1.0)]
        for (own, loss_kd), factor in steps:
            out = balance(*numbers(own, loss_kd), [])
            assert out['balance'] == pytest.approx(factor)
            assert out['loss_kd'] == pytest.approx(factor * loss_kd)

    def test_only_in_training_and_only_what_was_distilled(self):
        balance = LossBalance(ratio=1, iters=1)
        balance.eval()(*numbers(4, 2), [])
        balance.train()(*numbers(4, 0), [])
        assert balance.measured == 0 and balance.factor == 1
        balance(*numbers(4, 2), [])
        assert balance.measured == 1 and balance.factor == 2

    def test_reentrant_checkpoint_behind_the_tap_is_named(self):
        tap = torch.ones(3, requires_grad=True)
        own = checkpoint(torch.sin, tap * 1, use_reentrant=True).sum()
        loss_kd = (2 * tap).sum()
        with pytest.raises(DistillationError, match=r"balance.*checkpointing.*by='loss'"):
            LossBalance(ratio=1, by='gradient')(own, loss_kd, [tap])
        own = checkpoint(torch.sin, tap * 1, use_reentrant=False).sum()
        out = LossBalance(ratio=1, by='gradient')(own, loss_kd, [tap])
        assert out['balance'] == pytest.approx(math.cos(1) / 2)

    def test_norms_of_gradients_at_distilled_levels(self):
        taps = [torch.ones(3, requires_grad=True) for _ in range(3)]
        frozen = torch.ones(3)
        own = (2 * taps[0]).sum() + (7 * taps[2]).sum()  # the last level is not distilled
        loss_kd = (3 * taps[0]).sum() + (4 * taps[1]).sum()
        out = LossBalance(ratio=10, by='gradient')(own, loss_kd, [*taps, frozen])
        assert out['balance'].item() == pytest.approx(10 * 2 / 5)
        out['loss_kd'].backward()  # the graph is still there, and the factor a constant
        torch.testing.assert_close(taps[1].grad, torch.full((3,), 4.0 * 4))

    @tiny.NEEDS_FLOAT16
    @pytest.mark.parametrize('factor', [1e-5, 1.0, 1e4], ids=['small', 'usual', 'large'])
    def test_float16_neither_loses_small_gradients_nor_counts_infinite_ones(self, factor):
        conv, head = torch.nn.Conv2d(3, 4, 1), torch.nn.Conv2d(4, 2, 1)
        image, target = torch.randn(2, 3, 64, 64), torch.randn(2, 4, 64, 64)

        def measured(dtype):
            with torch.autocast('cpu', torch.float16, enabled=dtype == torch.float16):
                tap = conv(image)
                own = factor * head(tap).float().square().mean()
                loss_kd = factor * (tap.float() - target).square().mean()
                balance = LossBalance(ratio=1, by='gradient')
                balance(own, loss_kd, [tap])
            return balance.sums

        expected = measured(torch.float32)
        torch.testing.assert_close(measured(torch.float16), expected, rtol=0.02, atol=0)

    def test_infinite_gradients_do_not_count(self):
        tap = torch.ones(2, dtype=torch.float16, requires_grad=True)
        balance = LossBalance(ratio=1, by='gradient')
        balance(1e6 * tap.float().sum(), tap.float().sum(), [tap])
        assert balance.measured == 0 and balance.sums.tolist() == [0.0, 0.0]

    def test_refuses_gradients_where_there_are_none(self):
        tap, other = (torch.ones(3, requires_grad=True) for _ in range(2))
        balance = LossBalance(ratio=1, by='gradient')
        with pytest.raises(DistillationError, match='frozen'):
            balance(other.sum(), tap.sum(), [tap.detach()])
        with pytest.raises(DistillationError, match='do not depend on the tap'):
            balance(other.sum(), tap.sum(), [tap])


class TestInADistiller:
    @pytest.mark.parametrize('loss_weight', [1.0, 30.0])
    def test_ratio_to_the_sum_of_the_students_losses(self, loss_weight):
        own, loss_kd, _ = losses_of(distiller(loss_weight, ratio=0.3))
        torch.testing.assert_close(loss_kd, 0.3 * own)

    def test_ratio_of_the_gradients_at_the_tap(self):
        model = distiller(ratio=0.3, by='gradient')
        taps = []
        model.student.neck.register_forward_hook(lambda *args: taps.extend(args[2]))
        own, loss_kd, _ = losses_of(model)
        norms = []
        for loss in (own, loss_kd):
            grads = torch.autograd.grad(loss, [taps[i] for i in LEVELS], retain_graph=True)
            norms.append(torch.cat([grad.flatten() for grad in grads]).norm())
        torch.testing.assert_close(norms[1], 0.3 * norms[0])

    def test_trains_and_is_logged(self):
        log = tiny.train_step(distiller(ratio=0.3, by='gradient'), tiny.batch())
        parts = [log[key] for key in ('loss_cls', 'loss_bbox', 'fpn.loss_kd')]
        torch.testing.assert_close(log['loss'], sum(parts))
        assert log['fpn.balance'] > 0

    def test_checkpoint_keeps_the_factor(self):
        model = distiller(ratio=0.3, iters=1)
        factor = losses_of(model)[2]
        resumed = distiller(ratio=0.3, iters=1)
        resumed.load_state_dict(model.state_dict())
        with torch.no_grad():
            for parameter in resumed.student.parameters():
                parameter.mul_(1.1)
        own, loss_kd, resumed_factor = losses_of(resumed)
        assert resumed_factor == factor
        assert not torch.isclose(loss_kd, 0.3 * own)

    @pytest.mark.parametrize(
        'options, message',
        [
            (dict(ratio=0), 'ratio=0, but LossBalance takes a number above 0'),
            (dict(ratio=1, iters=0), 'iters=0, but LossBalance takes an integer of at least 1'),
            (dict(ratio=1, by='norm'), "by='norm', but LossBalance takes 'loss' or 'gradient'"),
            (dict(ratio=1, iter=5), "no option 'iter'. Did you mean 'iters'"),
        ],
    )
    def test_wrong_options_name_the_point(self, options, message):
        with pytest.raises(DistillationError, match=f"point 'fpn', balance.*{message}"):
            distiller(**options)


def _factor_of_a_process(rank, store, out):
    torch.distributed.init_process_group(
        'gloo', init_method=f'file://{store}', rank=rank, world_size=2
    )
    balance = LossBalance(ratio=1.0, iters=1)
    balance(*numbers((4, 8)[rank], (1, 2)[rank]), [])
    torch.save(balance.sums, f'{out}/{rank}')
    torch.distributed.destroy_process_group()


def test_all_processes_agree(tmp_path):
    start_processes(
        _factor_of_a_process, (tmp_path / 'store', tmp_path), nprocs=2, start_method='fork'
    )
    sums = [torch.load(tmp_path / str(rank)) for rank in range(2)]
    assert torch.equal(sums[0], sums[1]) and sums[0].tolist() == [6.0, 1.5]


def test_no_balance_no_buffers():
    point = dict(student='neck', teacher='neck', loss=dict(type='MSELoss'))
    model = tiny.build_distiller(tiny.retinanet(), tiny.retinanet(), dict(fpn=point))
    assert not any(name.startswith('distillation') for name in model.state_dict())
