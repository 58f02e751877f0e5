"""Pixel-wise KL of the logits."""

_base_ = './deeplabv3_camvid_dist.py'

kl = dict(_delete_=True, type='KLDivLoss', tau=1.0, loss_weight=0.5)
model = dict(points=dict(logits=dict(loss=kl)))
