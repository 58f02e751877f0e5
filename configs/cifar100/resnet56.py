"""ResNet-56, a teacher of Table 9: 72.34 there.

The pairs load ``checkpoints/resnet56_vanilla/ckpt_epoch_240.pth``, the file of the CRD benchmark
that its ``scripts/fetch_pretrained_teachers.sh`` puts under ``resnet56_vanilla/``.
"""

_base_ = ['../_base_/models/cifar/resnet56.py', '../_base_/cifar100_a1.py']
