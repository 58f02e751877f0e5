"""Table 8: no autoencoder, the teacher's 2048 channels."""

_base_ = '../classification/mobilenet_v1_resnet50_diffkd.py'

model = dict(points=dict(feature=dict(connector=dict(latent_channels=None))))
