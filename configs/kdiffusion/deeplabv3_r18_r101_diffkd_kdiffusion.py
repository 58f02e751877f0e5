"""KDiffusion on the layer before the classifier beside DiffKD on the logits. Of no paper."""

_base_ = ['../deeplabv3_r18_r101_diffkd.py', './_base_/points.py']

layer = 'decode_head.bottleneck.2.conv'
model = dict(
    branches=dict(layers=[layer], num_branches=_base_.num_branches),
    points=dict(
        feature=dict(
            **_base_.kdiffusion,
            student=layer,
            teacher='decode_head.bottleneck.2',
            connector=dict(**_base_.bridge, student_channels=128, teacher_channels=256),
        ),
    ),
)
