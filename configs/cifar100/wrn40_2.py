"""WRN-40-2, a teacher of Table 9: 75.61 there.

The pairs load ``checkpoints/wrn_40_2_vanilla/ckpt_epoch_240.pth``, the file of the CRD benchmark
that its ``scripts/fetch_pretrained_teachers.sh`` puts under ``wrn_40_2_vanilla/``.
"""

_base_ = ['../_base_/models/cifar/wrn40_2.py', '../_base_/cifar100_a1.py']
