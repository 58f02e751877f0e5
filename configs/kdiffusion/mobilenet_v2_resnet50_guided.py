"""Three layers with target guidance: 71.14 in the slides.

A layer is guided by the teacher's next convolution or linear layer.
"""

_base_ = './mobilenet_v2_resnet50_multi.py'

model = dict(
    points=dict(
        early=dict(guidance='backbone.layer3.0.conv1'),
        middle=dict(guidance='backbone.layer4.0.conv1'),
        last=dict(guidance='head.fc'),
    )
)
