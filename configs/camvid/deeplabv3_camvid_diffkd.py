_base_ = './deeplabv3_camvid_dist.py'

model = dict(
    points=dict(
        logits=dict(
            connector=dict(type='DiffKDConnector', student_channels=11, teacher_channels=11)
        )
    )
)
