_base_ = '../retinanet_digits_diffkd.py'

custom_hooks = [dict(type='diffkd_mm.WarmStartHook', num_iters=500)]
