"""Classifiers of MMPretrain: features and logits, maps and vectors."""

import tiny
import torch


def classifier(num_classes=10):
    return dict(
        type='ImageClassifier',
        backbone=dict(type='ResNet', depth=18, base_channels=8, stem_channels=8, out_indices=(3,)),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(
            type='LinearClsHead',
            num_classes=num_classes,
            in_channels=64,
            loss=dict(type='CrossEntropyLoss'),
        ),
        data_preprocessor=dict(mean=[0.0] * 3, std=[1.0] * 3, num_classes=num_classes),
    )


def point(tap, channels, loss, **connector):
    connector = {'type': 'DiffKDConnector', **connector}
    return dict(
        student=tap,
        teacher=tap,
        connector=dict(connector, student_channels=channels, teacher_channels=channels),
        loss=loss,
    )


def batch(batch_size=3):
    from mmpretrain.structures import DataSample

    samples = [DataSample().set_gt_label(label) for label in range(batch_size)]
    return dict(inputs=[torch.randint(255, (3, 64, 64))] * batch_size, data_samples=samples)


def test_features_and_logits():
    points = dict(
        features=point('backbone', 64, dict(type='MSELoss'), latent_channels=32),
        logits=point(
            'head.fc',
            10,
            dict(type='KLDivLoss'),
            denoiser=dict(type='VectorDenoiser'),
            noise_adapter=dict(type='VectorNoiseAdapter'),
        ),
    )
    model = tiny.build_distiller(classifier(), classifier(), points, scope='mmpretrain')
    log = tiny.train_step(model, batch())
    assert {'features.loss_kd', 'features.loss_ae', 'logits.loss_kd', 'logits.loss_diff'} <= set(
        log
    )
