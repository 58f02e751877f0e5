"""Table 2: MSE of the map before pooling, after a 1×1 conv on the student, 70.58 top-1.

MobileNetV1's row is ``ablations/mobilenet_v1_resnet50_feature_plain.py``.
"""

_base_ = '../classification/resnet18_resnet34_diffkd.py'

model = dict(
    points=dict(
        _delete_=True,
        feature=dict(
            **_base_.feature,
            connector=dict(type='ConvConnector', student_channels=512, teacher_channels=512),
        ),
    ),
)
