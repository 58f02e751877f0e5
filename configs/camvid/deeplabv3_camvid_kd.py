_base_ = './deeplabv3_camvid_dist.py'

model = dict(
    points=dict(logits=dict(loss=dict(_delete_=True, type='KLDivLoss', tau=1.0, loss_weight=1.0)))
)
