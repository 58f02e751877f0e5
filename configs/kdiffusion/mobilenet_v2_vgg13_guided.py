"""Three layers with target guidance: 70.49 in the slides.

A layer is guided by the teacher's next convolution or linear layer.
"""

_base_ = './mobilenet_v2_vgg13_multi.py'

model = dict(
    points=dict(
        early=dict(guidance='backbone.features.6.conv'),
        middle=dict(guidance='backbone.features.9.conv'),
        last=dict(guidance='head.fc'),
    )
)
