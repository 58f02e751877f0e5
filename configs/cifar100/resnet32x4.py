"""ResNet-32x4, a teacher of Table 9: 79.42 there.

The pairs load ``checkpoints/resnet32x4_vanilla/ckpt_epoch_240.pth``, the file of the CRD benchmark
that its ``scripts/fetch_pretrained_teachers.sh`` puts under ``resnet32x4_vanilla/``.
"""

_base_ = ['../_base_/models/cifar/resnet32x4.py', '../_base_/cifar100_a1.py']
