"""FGD (Yang et al. 2022), with the weights of the authors' config of this student.

Of the loss's defaults, which are the paper's for detectors of this kind, that config halves the
weight of the attention. Its neck and head start as the teacher's.
"""

_base_ = '../retinanet_r50_x101_diffkd.py'

model = dict(
    inherit=['neck', 'bbox_head'],
    points=dict(
        _delete_=True,
        fpn=dict(
            student='neck',
            teacher='neck',
            loss=dict(type='FGDLoss', channels=256, attention_weight=5e-4),
        ),
    ),
)
