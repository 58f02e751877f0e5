_base_ = '../resnet8x4_resnet32x4_diffkd.py'

custom_hooks = [dict(type='diffkd_mm.WarmStartHook', num_iters=400)]
