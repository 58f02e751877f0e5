"""The student MobileNetV1 alone (Table 2: 70.13 top-1)."""

_base_ = ['../../_base_/models/mobilenet_v1.py', '../../_base_/imagenet_b1.py']
