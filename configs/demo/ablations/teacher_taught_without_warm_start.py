_base_ = './teacher_taught.py'

custom_hooks = []
