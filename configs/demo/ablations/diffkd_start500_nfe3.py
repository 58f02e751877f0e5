_base_ = './diffkd_start500.py'

model = dict(points=dict(fpn=dict(connector=dict(num_inference_steps=3))))
