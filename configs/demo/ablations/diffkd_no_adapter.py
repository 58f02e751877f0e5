_base_ = '../retinanet_digits_diffkd.py'

# No adaptive noise matching, so no noise.
model = dict(points=dict(fpn=dict(connector=dict(noise_adapter=None))))
