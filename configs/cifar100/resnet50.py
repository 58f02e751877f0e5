"""ResNet-50, a teacher of Table 9: 79.34 there.

The pairs load ``checkpoints/ResNet50_vanilla/ckpt_epoch_240.pth``, the file of the CRD benchmark
that its ``scripts/fetch_pretrained_teachers.sh`` puts under ``ResNet50_vanilla/``.
"""

_base_ = ['../_base_/models/cifar/resnet50.py', '../_base_/cifar100_a1.py']
