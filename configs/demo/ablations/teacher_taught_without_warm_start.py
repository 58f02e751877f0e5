_base_ = '../retinanet_digits_diffkd_teacher_taught.py'

custom_hooks = []
