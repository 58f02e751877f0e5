_base_ = '../retinanet_digits_diffkd.py'

# Half of the teacher's 64 channels.
model = dict(points=dict(fpn=dict(connector=dict(latent_channels=32))))
