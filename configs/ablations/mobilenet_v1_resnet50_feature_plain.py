"""Table 7, MSE: the map before pooling alone, after a 1×1 conv on the student."""

_base_ = './mobilenet_v1_resnet50_feature_diffkd.py'

model = dict(
    points=dict(
        feature=dict(
            connector=dict(
                _delete_=True, type='ConvConnector', student_channels=1024, teacher_channels=2048
            ),
        ),
    ),
)
