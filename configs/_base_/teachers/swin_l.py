"""Swin-L: the weights of its authors (ImageNet-22k, then 1k), converted by OpenMMLab: 86.24 top-1.

The paper's are the same network's in timm, 86.3.
"""

teacher = dict(config='mmpretrain::swin_transformer/swin-large_16xb64_in1k.py', checkpoint='zoo')
