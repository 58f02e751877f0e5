_base_ = '../deeplabv3_camvid_diffkd.py'

custom_hooks = [dict(type='diffkd_mm.WarmStartHook', num_iters=500)]
