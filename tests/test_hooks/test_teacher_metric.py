"""The teacher's own figures at the start of a training."""

import json
from copy import deepcopy
from types import SimpleNamespace

import pytest
import tiny
import torch
import toy
from mmengine.config import Config
from mmengine.registry import DATASETS
from mmengine.runner import Runner
from torch.utils.data import Dataset

from diffkd_mm.errors import DistillationError
from diffkd_mm.experiments.scalars import read_scalars
from diffkd_mm.hooks import TeacherMetricHook

CLASSES = [f'class {i}' for i in range(10)]
LABELS = [3, 3, 3, 0, 1, 2, 4, 5]  # and the teacher says 3 of everything


@DATASETS.register_module()
class LabelledNoise(Dataset):
    """Eight images with known labels."""

    metainfo = dict(classes=CLASSES)

    def __len__(self):
        return len(LABELS)

    def __getitem__(self, index):
        from mmpretrain.structures import DataSample

        generator = torch.Generator().manual_seed(index)
        image = torch.randint(256, (3, 32, 32), generator=generator).float()
        sample = DataSample().set_gt_label(LABELS[index])
        return dict(inputs=image, data_samples=sample)


@pytest.fixture(autouse=True)
def unformatted(monkeypatch):
    monkeypatch.setattr(Config, 'pretty_text', '')


@pytest.fixture
def config(tmp_path):
    """A training of two iterations, validated at its end."""
    torch.manual_seed(3)
    teacher = tiny.build(tiny.classifier(), 'mmpretrain')
    with torch.no_grad():
        teacher.head.fc.bias[3] += 1000
    torch.save(dict(state_dict=teacher.state_dict()), tmp_path / 'teacher.pth')
    point = dict(student='head.fc', teacher='head.fc', loss=dict(type='KLDivLoss'))
    loader = dict(batch_size=4, num_workers=0, dataset=dict(type='LabelledNoise'))
    return Config(
        dict(
            default_scope='mmpretrain',
            work_dir=str(tmp_path / 'work'),
            model=dict(
                type='diffkd_mm.Distiller',
                student=tiny.classifier(),
                teacher=dict(
                    config=dict(model=tiny.classifier(), default_scope='mmpretrain'),
                    checkpoint=str(tmp_path / 'teacher.pth'),
                ),
                points=dict(logits=point),
            ),
            train_dataloader=dict(**loader, sampler=dict(type='DefaultSampler', shuffle=True)),
            val_dataloader=dict(**loader, sampler=dict(type='DefaultSampler', shuffle=False)),
            val_evaluator=dict(type='Accuracy'),
            train_cfg=dict(by_epoch=True, max_epochs=1),
            val_cfg=dict(),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01)),
            default_hooks=dict(logger=dict(type='LoggerHook', interval=1)),
            randomness=dict(seed=0),
            custom_hooks=[dict(type='diffkd_mm.TeacherMetricHook')],
        )
    )


def train(cfg, name='metric'):
    """Trains; gives the lines of the log and the logged scalars."""
    cfg.experiment_name = f'{cfg.work_dir}_{name}'.replace('/', '_')
    runner = Runner.from_cfg(cfg)
    lines = []
    for level in ('info', 'warning'):
        log = getattr(runner.logger, level)
        setattr(
            runner.logger,
            level,
            lambda line, *args, log=log, level=level: (
                lines.append(f'{level}: {line}'),
                log(line, *args),
            ),
        )
    runner.train()
    (file,) = (toy.Path(runner.log_dir) / 'vis_data').glob('scalars.json')
    return lines, [json.loads(line) for line in file.read_text().splitlines()]


def of_teacher(lines):
    return [line for line in lines if 'teacher' in line and 'validation set' in line]


def test_logged_under_the_teachers_name(config):
    lines, scalars = train(config)
    assert scalars[0]['teacher/accuracy/top1'] == 37.5
    (line,) = of_teacher(lines)
    assert line.startswith('info: On 8 images of the validation set: teacher/accuracy/top1 37.5')
    assert 'accuracy/top1' in scalars[-1]  # the student's own
    student = read_scalars(toy.Path(config.work_dir))
    assert not any('teacher' in key for entry in student for key in entry)


@pytest.mark.parametrize(
    'options, level',
    [(dict(num_images=3), 'info'), (dict(minimum=50), 'warning'), (dict(minimum=37.5), 'info')],
)
def test_verdict(config, options, level):
    config.custom_hooks[0].update(options)
    lines, scalars = train(config)
    number = options.get('num_images', 8)
    assert scalars[0]['teacher/accuracy/top1'] == (100 if number == 3 else 37.5)
    (line,) = of_teacher(lines)
    assert line.startswith(f'{level}: On {number} images')
    if level == 'warning':
        assert 'accuracy/top1 is suspiciously low, under 50. Is the checkpoint' in line


def test_low_by_itself(config):
    """Ten classes: chance is 10 %, and low what is under 14.5 %."""
    weights = torch.load(config.model.teacher.checkpoint)['state_dict']
    weights['head.fc.bias'][9] += 5000
    torch.save(dict(state_dict=weights), config.model.teacher.checkpoint)
    (line,) = of_teacher(train(config)[0])
    assert line.startswith('warning: ') and 'suspiciously low, under 14.5' in line


def test_training_is_the_same_with_it(config):
    """Weights, all noise after it, and what the validation counts."""
    states, figures = [], []
    for name, hooks in (('with', [dict(config.custom_hooks[0], num_images=3)]), ('without', [])):
        cfg = deepcopy(config)
        cfg.work_dir, cfg.custom_hooks = f'{config.work_dir}/{name}', hooks
        figures.append(train(cfg, name)[1][-1]['accuracy/top1'])
        path = f'{cfg.work_dir}/epoch_1.pth'
        states.append(torch.load(path, weights_only=False))
    assert figures[0] == figures[1]
    assert toy.differences(*map(toy.training_state, states)) == []


def test_not_when_resumed(config):
    train(config)
    config.resume, config.load_from = True, f'{config.work_dir}/epoch_1.pth'
    config.train_cfg.max_epochs = 2
    config.work_dir += '/resumed'
    assert of_teacher(train(config)[0]) == []


@pytest.mark.parametrize(
    'meta, num_classes, reason',
    [
        (dict(classes=['cat', 'dog']), 10, "on 2 classes such as 'cat', and the data have 10 such"),
        (dict(classes=CLASSES), 10, None),
        (None, 7, 'it predicts 7 classes, and the data have 10'),
    ],
)
def test_other_classes_are_passed_over(config, tmp_path, meta, num_classes, reason):
    teacher = tiny.build(tiny.classifier(num_classes), 'mmpretrain')
    file = dict(state_dict=teacher.state_dict(), meta=dict(dataset_meta=meta or {}))
    torch.save(file, tmp_path / 'teacher.pth')
    config.model.teacher.config.model = tiny.classifier(num_classes)
    tap = dict(student='backbone', teacher='backbone')
    config.model.points.logits.update(tap, loss=dict(type='MSELoss'))
    lines, scalars = train(config)
    skipped = [line for line in lines if 'not evaluated' in line]
    assert bool(skipped) == (reason is not None) == ('teacher/accuracy/top1' not in scalars[0])
    if reason:
        assert skipped[0].startswith('warning: teacher: not evaluated, since ')
        assert reason in skipped[0]


def test_several_teachers(config):
    one = config.model.teacher
    point = config.model.points.logits
    config.model.teacher = dict(big=one, wide=deepcopy(one))
    config.model.points = {k: dict(point, teacher_name=k) for k in ('big', 'wide')}
    keys = [key for entry in train(config)[1] for key in entry]
    assert {'teacher.big/accuracy/top1', 'teacher.wide/accuracy/top1'} <= set(keys)


def test_detectors(tmp_path, teacher_checkpoint):
    """On two of four images; the validation after it is of all, with a metric that remembers."""
    cfg = tiny.training(tmp_path, teacher_checkpoint, 1)
    cfg.custom_hooks = [dict(type='diffkd_mm.TeacherMetricHook', num_images=2)]
    lines, scalars = train(cfg)
    (line,) = of_teacher(lines)
    assert 'On 2 images' in line and 'teacher/coco/bbox_mAP 0' in line
    assert 'coco/bbox_mAP is suspiciously low, under 0.05.' in line
    assert 'coco/bbox_mAP' in scalars[-1]


def test_metrics_of_coco_look_for_these_images_alone():
    metric = SimpleNamespace(img_ids=None, results=[1])
    evaluator = SimpleNamespace(metrics=[metric])
    data = SimpleNamespace(get_data_info=lambda i: dict(img_id=100 + i))
    hook = TeacherMetricHook(num_images=2)
    copied = hook._evaluator(evaluator, torch.utils.data.Subset(data, range(2)))
    assert (copied.metrics[0].img_ids, copied.metrics[0].results) == ([100, 101], [])
    assert (metric.img_ids, metric.results) == (None, [1])


class TestMistakes:
    def test_no_teacher(self, config):
        config.model = config.model.student
        with pytest.raises(DistillationError, match='the model has no teacher; remove the hook'):
            train(config)

    def test_no_validation(self, config):
        config.val_cfg = config.val_dataloader = config.val_evaluator = None
        with pytest.raises(DistillationError, match='has no val_dataloader, val_evaluator and'):
            train(config)

    def test_what_the_metric_cannot_take(self, config):
        config.val_evaluator = dict(type='mmseg.IoUMetric')
        import mmseg.evaluation  # noqa: F401

        message = r'TeacherMetricHook: teacher cannot be evaluated .*; remove the hook'
        with pytest.raises(DistillationError, match=message):
            train(config)


def _train_in_a_process(cfg, folder):
    scalars = train(cfg)[1] if torch.distributed.get_rank() == 0 else Runner.from_cfg(cfg).train()
    if torch.distributed.get_rank() == 0:
        (folder / 'scalars.json').write_text(json.dumps(scalars))


def test_two_processes_share_the_images(config, tmp_path):
    toy.in_two_processes(tmp_path, _train_in_a_process, toy.for_ranks(config), tmp_path)
    assert json.loads((tmp_path / 'scalars.json').read_text())[0]['teacher/accuracy/top1'] == 37.5
