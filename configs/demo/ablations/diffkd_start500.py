_base_ = '../retinanet_digits_diffkd.py'

# The first evaluation at t = 500, whatever their number is.
model = dict(points=dict(fpn=dict(connector=dict(timestep_spacing='trailing'))))
