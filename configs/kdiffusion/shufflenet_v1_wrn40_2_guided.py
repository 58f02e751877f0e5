"""Three layers with target guidance: 77.26 in the slides.

A layer is guided by the teacher's next convolution or linear layer.
"""

_base_ = './shufflenet_v1_wrn40_2_multi.py'

model = dict(
    points=dict(
        early=dict(guidance='backbone.layer2.0.conv1'),
        middle=dict(guidance='backbone.layer3.0.conv1'),
        last=dict(guidance='head.fc'),
    )
)
