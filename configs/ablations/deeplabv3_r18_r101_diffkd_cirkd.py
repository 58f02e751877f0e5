"""DiffKD of the logits and CIRKD's relations of the embeddings, each as in its own config."""

_base_ = '../deeplabv3_r18_r101_diffkd.py'

model = dict(
    points=dict(
        embedding=dict(
            student='decode_head.dropout',  # the classifier's input
            teacher='decode_head.dropout',
            loss=dict(type='CIRKDLoss', student_channels=128, teacher_channels=256, num_classes=19),
        ),
    ),
)
