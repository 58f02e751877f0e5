_base_ = '../wrn40_1_wrn40_2_diffkd.py'

custom_hooks = [dict(type='diffkd_mm.WarmStartHook', num_iters=400)]
