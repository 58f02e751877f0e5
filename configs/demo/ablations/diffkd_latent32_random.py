_base_ = './diffkd_latent32.py'

model = dict(points=dict(fpn=dict(connector=dict(autoencoder=dict(type='RandomProjection')))))
