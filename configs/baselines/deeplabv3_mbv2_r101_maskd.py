"""MasKD on the logits; the student has no auxiliary head, and a smaller weight decay."""

_base_ = ['../deeplabv3_mbv2_r101_diffkd.py', '../_base_/points/cityscapes_maskd.py']

model = dict(points=dict(_delete_=True, logits=_base_.maskd_logits))
optim_wrapper = dict(
    paramwise_cfg=dict(custom_keys={'loss.tokens': dict(lr_mult=5.0, decay_mult=5.0)})
)
