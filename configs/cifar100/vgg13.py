"""VGG-13, a teacher of KDiffusion's table: 74.64 there.

The pair loads ``checkpoints/vgg13_vanilla/ckpt_epoch_240.pth``, the file of the CRD benchmark that
its ``scripts/fetch_pretrained_teachers.sh`` puts under ``vgg13_vanilla/``.
"""

_base_ = ['../_base_/models/cifar/vgg13.py', '../_base_/cifar100_a1.py']
