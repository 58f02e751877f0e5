"""Table 8: 2048 channels in the autoencoder."""

_base_ = '../classification/mobilenet_v1_resnet50_diffkd.py'

model = dict(points=dict(feature=dict(connector=dict(latent_channels=2048))))
