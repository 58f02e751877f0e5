"""The trainings of ``docs/results.md``, KDiffusion: CIFAR-10 averaged down to 16×16, five arms.

    python docs/kdiffusion/cifar10_16.py CIFAR10.zip OUT [--seeds 0 1 2]

``CIFAR10.zip`` holds ``train/<class>/*.jpg`` and ``test/<class>/*.jpg``. A teacher comes first.
Rows are added to ``OUT/results.csv`` as they come; those that are there are not run again.
"""

import argparse
import csv
import math
import time
import zipfile
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from mmengine.config import ConfigDict
from mmengine.optim import OptimWrapper
from mmengine.registry import MODELS, init_default_scope
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from diffkd_mm.reparam import fold_state_dict

TEACHER_ITERS, STUDENT_ITERS, BATCH_SIZE, LR = 400, 250, 64, 0.05
LAYER = 'backbone.layer3.0.conv2'
COLUMNS = (
    'arm', 'seed', 'iterations', 'accuracy', 'folded_accuracy', 'max_logit_difference',
    'seconds_per_iteration',
)  # fmt: skip


def classifier(channels: int) -> dict:
    """ResNet-8 for CIFAR; 16 channels: the student, 32: the teacher."""
    backbone = dict(
        type='diffkd_mm.CIFARResNet', depth=8, stem_channels=channels, base_channels=channels
    )
    head = dict(
        type='LinearClsHead',
        num_classes=10,
        in_channels=4 * channels,
        loss=dict(type='CrossEntropyLoss'),
    )
    preprocessor = dict(
        type='ClsDataPreprocessor',
        num_classes=10,
        mean=[255 * x for x in (0.4914, 0.4822, 0.4465)],
        std=[255 * x for x in (0.2470, 0.2435, 0.2616)],
        to_rgb=True,
    )
    return dict(
        type='ImageClassifier',
        backbone=backbone,
        neck=dict(type='GlobalAveragePooling'),
        head=head,
        data_preprocessor=preprocessor,
    )


def arms() -> dict[str, dict | None]:
    """Options of the distiller by the arm's name; None: the student alone."""
    branches = dict(layers=[LAYER], num_branches=4)
    point = dict(
        student=LAYER,
        teacher='backbone',
        connector=dict(
            type='ConvConnector',
            student_channels=64,
            teacher_channels=128,
            standardize='channel',
        ),
        loss=dict(type='MSELoss'),
    )
    chains = dict(
        average=dict(type='AverageChain'),
        kdiffusion=dict(type='KDiffusionChain'),
        kdiffusion_guided=dict(type='KDiffusionChain', guidance='head.fc'),
    )
    return dict(
        student=None,
        branches=dict(branches=branches),
        **{
            name: dict(branches=branches, points=dict(feature=dict(point, chain=chain)))
            for name, chain in chains.items()
        },
    )


def read_images(archive: Path, split: str, per_class: int) -> tuple[Tensor, Tensor]:
    """The first images of each class as (N, 3, 16, 16), means of 2×2 pixels, and their classes."""
    images, labels = [], []
    with zipfile.ZipFile(archive) as file:
        names = sorted(n for n in file.namelist() if f'{split}/' in n and n.endswith('.jpg'))
        for label, kind in enumerate(sorted({n.split('/')[-2] for n in names})):
            for name in [n for n in names if n.split('/')[-2] == kind][:per_class]:
                image = cv2.imdecode(np.frombuffer(file.read(name), np.uint8), 1)
                image = cv2.resize(image, (16, 16), interpolation=cv2.INTER_AREA)
                images.append(image.transpose(2, 0, 1))
                labels.append(label)
    return torch.from_numpy(np.stack(images)), torch.tensor(labels)


def build(cfg: dict) -> nn.Module:
    return MODELS.build(ConfigDict(cfg))


def train(model: nn.Module, images: Tensor, labels: Tensor, iters: int, seed: int) -> None:
    """SGD with a warm-up of 20 steps and a cosine; crops after padding by 2, flips."""
    random = torch.Generator().manual_seed(seed)
    model.train()
    optimizer = OptimWrapper(
        torch.optim.SGD(model.parameters(), lr=LR, momentum=0.9, weight_decay=5e-4)
    )
    indices = torch.empty(0, dtype=torch.long)
    for i in range(iters):
        rate = LR * min(1, (i + 1) / 20) * 0.5 * (1 + math.cos(math.pi * i / iters))
        for group in optimizer.optimizer.param_groups:
            group['lr'] = rate
        if len(indices) < BATCH_SIZE:
            indices = torch.cat([indices, torch.randperm(len(images), generator=random)])
        chosen, indices = indices[:BATCH_SIZE], indices[BATCH_SIZE:]
        batch = images[chosen]
        flipped = torch.rand(BATCH_SIZE, generator=random) < 0.5
        batch = F.pad(torch.where(flipped[:, None, None, None], batch.flip(3), batch), [2] * 4)
        top, left = torch.randint(5, (2,), generator=random).tolist()  # of the whole batch
        batch = batch[:, :, top : top + 16, left : left + 16]
        samples = [DataSample().set_gt_label(label) for label in labels[chosen]]
        model.train_step(dict(inputs=batch, data_samples=samples), optimizer)


@torch.no_grad()
def logits(model: nn.Module, images: Tensor) -> Tensor:
    model.eval()
    found = []
    for batch in images.split(500):
        data = dict(inputs=batch, data_samples=[DataSample() for _ in batch])
        found.append(model(model.data_preprocessor(data)['inputs'], mode='tensor'))
    return torch.cat([x[0] if isinstance(x, tuple) else x for x in found])


def accuracy(scores: Tensor, labels: Tensor) -> float:
    return 100 * (scores.argmax(1) == labels).float().mean().item()


def run_arm(options: dict | None, seed: int, teacher: Path, data: tuple) -> dict[str, str]:
    """Trains and tests one arm, and its folded student in the plain config."""
    images, labels, test_images, test_labels = data
    torch.manual_seed(seed)
    cfg = classifier(16)
    if options is not None:
        cfg = dict(type='diffkd_mm.Distiller', student=cfg, **options)
        if 'points' in options:
            teacher_cfg = dict(model=classifier(32), default_scope='mmpretrain')
            cfg['teacher'] = dict(config=teacher_cfg, checkpoint=str(teacher))
    model = build(cfg)
    model.init_weights()
    start = time.process_time()
    train(model, images, labels, STUDENT_ITERS, seed)
    seconds = (time.process_time() - start) / STUDENT_ITERS
    scores = folded_scores = logits(model, test_images)
    if options is not None:
        weights = model.state_dict()
        weights = {k: x for k, x in weights.items() if not k.startswith('distillation.')}
        plain = build(classifier(16))
        plain.load_state_dict(fold_state_dict(weights), strict=True)
        folded_scores = logits(plain, test_images)
    return dict(
        iterations=str(STUDENT_ITERS),
        accuracy=f'{accuracy(scores, test_labels):.2f}',
        folded_accuracy=f'{accuracy(folded_scores, test_labels):.2f}',
        max_logit_difference=f'{(scores - folded_scores).abs().max().item():.1e}',
        seconds_per_iteration=f'{seconds:.3f}',
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('archive', type=Path)
    parser.add_argument('out', type=Path)
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    args = parser.parse_args()
    init_default_scope('mmpretrain')
    args.out.mkdir(parents=True, exist_ok=True)
    images, labels = read_images(args.archive, 'train', 2000)
    data = (images, labels, *read_images(args.archive, 'test', 1000))
    teacher = args.out / 'teacher.pth'
    if not teacher.exists():
        torch.manual_seed(100)
        model = build(classifier(32))
        model.init_weights()
        train(model, images, labels, TEACHER_ITERS, 100)
        print(f'teacher: {accuracy(logits(model, data[2]), data[3]):.2f}')
        torch.save(dict(state_dict=model.state_dict()), teacher)
    table = args.out / 'results.csv'
    done: set[tuple[str, str]] = set()
    if table.exists():
        with table.open() as file:
            done = {(row['arm'], row['seed']) for row in csv.DictReader(file)}
    else:
        table.write_text(','.join(COLUMNS) + '\n')
    for seed in args.seeds:
        for name, options in arms().items():
            if (name, str(seed)) not in done:
                row = dict(arm=name, seed=str(seed), **run_arm(options, seed, teacher, data))
                with table.open('a') as file:
                    file.write(','.join(row[column] for column in COLUMNS) + '\n')


if __name__ == '__main__':
    main()
