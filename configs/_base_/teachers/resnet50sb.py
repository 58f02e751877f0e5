"""ResNet-50 trained by OpenMMLab with recipe A1 of "ResNet strikes back": 80.12 top-1.

The paper's weights are timm's, 80.1.
"""

teacher = dict(config='mmpretrain::resnet/resnet50_8xb256-rsb-a1-600e_in1k.py', checkpoint='zoo')
