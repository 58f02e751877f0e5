"""DiffKD's connectors, never taught to denoise and given no noise."""

_base_ = './resnet8_resnet56_diffkd.py'

feature = dict(
    _delete_=True, type='DeepProjectorConnector', student_channels=64, teacher_channels=64
)
vectors = dict(type='VectorDenoiser')
logits = dict(feature, student_channels=10, teacher_channels=10, denoiser=vectors)
model = dict(points=dict(feature=dict(connector=feature), logits=dict(connector=logits)))
