"""Whole trainings, through the tools that users call."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import patience
import pytest
import tiny
import torch
import toy
from mmengine.config import Config
from mmengine.runner import Runner

from diffkd_mm.errors import DistillationError

ROOT = Path(__file__).parents[2]
TOOLS = ROOT / 'tools'
WITH_TINY = os.pathsep.join(
    filter(None, [str(Path(tiny.__file__).parent), os.environ.get('PYTHONPATH')])
)


def run(*command, check=True, **env):
    env = {**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHON': sys.executable, **env}
    result = subprocess.run(
        [str(c) for c in command],
        capture_output=True,
        text=True,
        env=env,
        timeout=patience.SECONDS,
    )
    if check and result.returncode:
        raise AssertionError(result.stdout[-3000:] + result.stderr[-3000:])
    return result


def python(*command, **kwargs):
    return run(sys.executable, *command, **kwargs)


def dump(cfg, path):
    cfg.dump(path)
    return path


def scalars(folder):
    (file,) = folder.glob('*/vis_data/scalars.json')
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.fixture(scope='module')
def trained(tmp_path_factory, teacher_checkpoint):
    """A training of two epochs by tools/train.py: its config file and work dir."""
    root = tmp_path_factory.mktemp('trained')
    config = dump(tiny.training(root, teacher_checkpoint), root / 'config.py')
    python(TOOLS / 'train.py', config, '--work-dir', root / 'work')
    return config, root / 'work'


class TestTraining:
    def test_writes_checkpoints_and_logs(self, trained):
        _, work_dir = trained
        assert (work_dir / 'last_checkpoint').read_text().endswith('epoch_2.pth')
        log = scalars(work_dir)
        assert {'loss', 'loss_cls', 'fpn.loss_kd', 'fpn.loss_diff', 'fpn.noise_weight'} <= set(
            log[0]
        )
        assert 'coco/bbox_mAP' in log[-1]

    def test_checkpoint_is_tested_without_the_teacher(self, trained, tmp_path):
        config, work_dir = trained
        cfg = Config.fromfile(config)
        cfg.model.teacher.checkpoint = str(tmp_path / 'gone.pth')
        cfg.resume = True  # as in the work dir of a training that was resumed
        python(
            TOOLS / 'test.py',
            dump(cfg, tmp_path / 'config.py'),
            work_dir / 'epoch_2.pth',
            '--work-dir',
            tmp_path / 'test',
            '--out',
            tmp_path / 'predictions.pkl',
        )
        assert (tmp_path / 'predictions.pkl').stat().st_size > 0

    def test_plain_student_predicts_the_same(self, trained, tmp_path):
        """The exported file, in the plain student's config: bit-equal predictions."""
        config, work_dir = trained
        export = TOOLS / 'model_converters/export_student.py'
        python(export, work_dir / 'epoch_2.pth', tmp_path / 'student.pth', '--keep-name')
        assert not any(
            'distillation' in k for k in torch.load(tmp_path / 'student.pth')['state_dict']
        )
        predictions = []
        for name, checkpoint in (
            ('distiller', work_dir / 'epoch_2.pth'),
            ('plain', tmp_path / 'student.pth'),
        ):
            cfg = Config.fromfile(config)
            if name == 'plain':
                cfg.model = cfg.model.student
            cfg.work_dir, cfg.load_from = str(tmp_path / name), str(checkpoint)
            runner = Runner.from_cfg(cfg)
            runner.load_or_resume()
            runner.model.eval()
            with torch.no_grad():
                for batch in runner.test_dataloader:
                    predictions.append(runner.model.test_step(batch))
        for ours, theirs in zip(*predictions):
            assert len(ours.pred_instances) > 0
            assert torch.equal(ours.pred_instances.bboxes, theirs.pred_instances.bboxes)
            assert torch.equal(ours.pred_instances.scores, theirs.pred_instances.scores)

    def test_feature_pictures(self, trained, tmp_path):
        config, work_dir = trained
        tool = TOOLS / 'analysis_tools/visualize_features.py'
        picture = tmp_path / 'pictures/features.png'
        result = python(tool, config, work_dir / 'epoch_2.pth', '--num-images', 2, '--out', picture)
        assert picture.read_bytes()[:4] == b'\x89PNG' and 'point fpn, level 0' in result.stdout


class TestFailures:
    def test_missing_teacher_stops_before_training(self, tmp_path, teacher_checkpoint):
        cfg = tiny.training(tmp_path, tmp_path / 'missing.pth')
        config = dump(cfg, tmp_path / 'config.py')
        result = python(TOOLS / 'train.py', config, check=False)
        assert result.returncode != 0
        assert 'DistillationError: teacher: there is no checkpoint' in result.stderr
        assert 'Traceback' not in result.stderr and 'Epoch(train)' not in result.stdout

    def test_nan_keeps_what_was_written(self, tmp_path, teacher_checkpoint):
        cfg = tiny.training(tmp_path, teacher_checkpoint, max_epochs=3)
        cfg.custom_imports = dict(imports=['diffkd_mm', 'tiny_hooks'])
        cfg.custom_hooks = [dict(type='NaNHook', iteration=3)]
        config = dump(cfg, tmp_path / 'config.py')
        result = python(TOOLS / 'train.py', config, check=False, PYTHONPATH=WITH_TINY)
        assert result.returncode != 0 and 'FloatingPointError: ' in result.stderr
        assert 'fpn.loss_kd=nan' in result.stderr
        weights = torch.load(tmp_path / 'work/epoch_1.pth', weights_only=False)['state_dict']
        assert all(torch.isfinite(x).all() for x in weights.values())
        assert not (tmp_path / 'work/epoch_2.pth').exists()


def test_a_killed_training_is_resumed_as_if_nothing_had_been(trained, tmp_path):
    """Both through tools/train.py, bit for bit; the second epoch is killed half-way."""
    config, work_dir = trained
    cfg = Config.fromfile(config)
    cfg.custom_imports = dict(imports=['diffkd_mm', 'tiny_hooks'])
    cfg.custom_hooks = [dict(type='KillHook', iteration=3)]
    command = TOOLS / 'train.py', dump(cfg, tmp_path / 'config.py'), '--work-dir', tmp_path / 'work'
    paths = dict(PYTHONPATH=WITH_TINY)
    killed = python(*command, '--resume', check=False, **paths)  # there is nothing yet
    assert killed.returncode == -signal.SIGKILL
    assert {x.name for x in (tmp_path / 'work').glob('*.pth')} == {'epoch_1.pth'}
    python(*command, '--resume', **paths)
    whole, resumed = (
        torch.load(folder / 'epoch_2.pth', weights_only=False)
        for folder in (work_dir, tmp_path / 'work')
    )
    assert toy.differences(toy.training_state(whole), toy.training_state(resumed)) == []


def test_resumed_training_continues_as_an_uninterrupted_one(tmp_path, teacher_checkpoint):
    def train(name, **kwargs):
        cfg = tiny.training(tmp_path, teacher_checkpoint, max_epochs=3)
        cfg.work_dir = str(tmp_path / name)
        cfg.custom_hooks = [dict(type='EMAHook', momentum=0.1)]
        cfg.update(kwargs)
        runner = Runner.from_cfg(cfg)
        runner.train()
        return torch.load(tmp_path / name / 'epoch_3.pth', weights_only=False)

    whole = train('whole')
    resumed = train('resumed', resume=True, load_from=str(tmp_path / 'whole/epoch_1.pth'))
    parts = {'state_dict', 'ema_state_dict', 'optimizer', 'param_schedulers'}
    assert parts <= toy.training_state(whole).keys()
    assert toy.differences(toy.training_state(whole), toy.training_state(resumed)) == []
    assert not any('teacher' in name for name in whole['ema_state_dict'])


def free_port() -> str:
    with socket.socket() as listener:
        listener.bind(('', 0))
        return str(listener.getsockname()[1])


class TestDistributed:
    def test_two_processes_stay_equal(self, tmp_path, teacher_checkpoint):
        """dist_train.sh on a machine without a GPU: gloo, replicas equal, the loss as logged."""
        cfg = tiny.training(tmp_path, teacher_checkpoint)
        cfg.custom_imports = dict(imports=['diffkd_mm', 'tiny_hooks'])
        cfg.custom_hooks = [
            dict(type='CompareReplicasHook', out=str(tmp_path)),
            dict(type='diffkd_mm.WarmStartHook', num_iters=2),
            dict(type='diffkd_mm.PicturesHook', interval=1, num_images=1),
        ]
        cfg.train_dataloader.batch_size = 2
        cfg.randomness = dict(seed=None, diff_rank_seed=True)  # as in the configs for COCO
        config = dump(cfg, tmp_path / 'config.py')
        paths = dict(PYTHONPATH=WITH_TINY, CUDA_VISIBLE_DEVICES='')
        run(TOOLS / 'dist_train.sh', config, 2, **paths, PORT=free_port())
        reports = [json.loads((tmp_path / f'rank_{rank}.json').read_text()) for rank in range(2)]
        assert [r['world_size'] for r in reports] == [2, 2]
        assert reports[0]['seed'] + 1 == reports[1]['seed']
        assert reports[0]['start'] == reports[1]['start'] != reports[0]['end']
        assert reports[0]['end'] == reports[1]['end']
        assert not any('teacher' in name for name in reports[0]['reduced'])
        assert [*tmp_path.rglob('fpn.saliency_1.png')]
        run(
            TOOLS / 'dist_test.sh',
            config,
            tmp_path / 'work/epoch_2.pth',
            2,
            **paths,
            PORT=free_port(),
        )


class TestWarmStart:
    @pytest.mark.parametrize('with_cp', [False, True])
    def test_trains_denoisers_and_nothing_else(self, tmp_path, teacher_checkpoint, with_cp):
        cfg = tiny.training(tmp_path, teacher_checkpoint)
        cfg.model.points.fpn.connector.update(
            latent_channels=8, standardize='channel', with_cp=with_cp
        )
        runner = Runner.from_cfg(cfg)
        runner.call_hook('before_run')
        model = runner.model
        model.init_weights()
        runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
        before = {k: v.clone() for k, v in model.state_dict().items()}
        from diffkd_mm.hooks import WarmStartHook

        WarmStartHook(num_iters=5).before_train(runner)
        changed = {
            name.split('.')[5] if name.startswith('distillation') else 'student'
            for name, value in model.state_dict().items()
            if not torch.equal(value, before[name])
        }
        assert changed == {'denoiser', 'autoencoder', 'standardization'}
        assert all(p.grad is None or not p.grad.any() for p in model.parameters())

    @pytest.mark.parametrize('workers', [0, 1])
    def test_before_a_training_by_iterations(self, tmp_path, teacher_checkpoint, workers):
        """Its endless sampler survives, also in a worker that outlives the warm start."""
        cfg = tiny.training(tmp_path, teacher_checkpoint)
        cfg.train_dataloader.update(num_workers=workers, persistent_workers=workers > 0)
        cfg.train_dataloader.sampler.type = 'InfiniteSampler'
        cfg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=6, val_interval=6)
        cfg.default_hooks.checkpoint.update(by_epoch=False, interval=6)
        cfg.custom_hooks = [dict(type='diffkd_mm.WarmStartHook', num_iters=3)]
        runner = Runner.from_cfg(cfg)
        runner.train()
        assert runner.iter == 6

    def test_without_anything_to_train(self, tmp_path, teacher_checkpoint):
        cfg = tiny.training(tmp_path, teacher_checkpoint)
        del cfg.model.points['fpn']
        cfg.custom_hooks = [dict(type='diffkd_mm.WarmStartHook', num_iters=3)]
        with pytest.raises(DistillationError, match='remove the hook'):
            Runner.from_cfg(cfg).train()

    def test_is_skipped_on_resume(self, tmp_path, teacher_checkpoint):
        from diffkd_mm.hooks import WarmStartHook

        class Resumed:
            iter = 5

            @property
            def model(self):
                raise AssertionError('touched the model')

        WarmStartHook(num_iters=5).before_train(Resumed())

    def test_a_student_alone_has_nothing_to_train(self):
        from diffkd_mm.hooks import WarmStartHook

        class Alone:
            iter = 0
            model = torch.nn.Linear(1, 1)

        with pytest.raises(DistillationError, match='WarmStartHook: .* Linear, .* remove the hook'):
            WarmStartHook(num_iters=5).before_train(Alone())


def test_options_of_the_command_line(tmp_path, teacher_checkpoint):
    config = dump(tiny.training(tmp_path, teacher_checkpoint), tmp_path / 'config.py')
    python(
        TOOLS / 'train.py',
        config,
        '--work-dir',
        tmp_path / 'other',
        '--auto-scale-lr',
        '--cfg-options',
        'train_cfg.max_epochs=1',
        'model.points.fpn.loss.loss_weight=2.0',
    )
    (dumped,) = (tmp_path / 'other').glob('*.py')
    cfg = Config.fromfile(dumped)
    assert cfg.model.points.fpn.loss.loss_weight == 2.0
    log = scalars(tmp_path / 'other')
    assert max(entry.get('epoch', 0) for entry in log) == 1
    # Batch 4 where the config's learning rate is meant for 8: half of it, after the warm-up.
    assert log[0]['lr'] == pytest.approx(0.1 * 0.01 * 4 / 8)
