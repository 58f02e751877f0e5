"""MasKD on both heads' logits."""

_base_ = ['../pspnet_r18_r101_diffkd.py', '../_base_/points/cityscapes_maskd.py']

model = dict(
    points=dict(_delete_=True, logits=_base_.maskd_logits, auxiliary=_base_.maskd_auxiliary)
)
optim_wrapper = dict(paramwise_cfg=_base_.maskd_tokens)
