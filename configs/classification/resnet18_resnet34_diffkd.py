"""Table 2: ResNet-18 with ResNet-34, 72.22 top-1. The latent is wider than the teacher (B.2)."""

_base_ = ['./students/resnet18_b1.py', '../_base_/points/classifier.py']

model = dict(
    _delete_=True,
    type='diffkd_mm.Distiller',
    student=_base_.model,
    # Torchvision's weights, the paper's: 73.31 top-1. The zoo's ('zoo') are OpenMMLab's, 73.62.
    teacher=dict(
        config='mmpretrain::resnet/resnet34_8xb32_in1k.py',
        checkpoint='https://download.pytorch.org/models/resnet34-b627a593.pth',
    ),
    points=dict(
        feature=dict(
            **_base_.feature,
            connector=dict(
                type='DiffKDConnector',
                student_channels=512,
                teacher_channels=512,
                latent_channels=1024,
            ),
        ),
        logits=_base_.logits,
    ),
)
