"""Strategy B1 of Table 1: ImageNet under ``data/imagenet``, 100 epochs of SGD.

The batch is 256 in total, here 32 images on each of eight GPUs. On another number of them, say so:
``--cfg-options train_dataloader.batch_size=64`` for four.

What the table leaves open follows the authors' files, which their LocalMamba contains
(github.com/hunto/LocalMamba, classification/configs/strategies/distill/diffkd/): bilinear resizing
by Pillow, Nesterov's momentum, no weight decay of biases and norms, incomplete batches dropped.
"""

_base_ = [
    'mmpretrain::_base_/datasets/imagenet_bs32_pil_resize.py',  # crop and flip
    'mmpretrain::_base_/schedules/imagenet_bs256.py',  # lr 0.1, x0.1 after 30, 60 and 90 epochs
    'mmpretrain::_base_/default_runtime.py',
]

custom_imports = dict(imports=['diffkd_mm'], allow_failed_imports=False)

train_dataloader = dict(drop_last=True)
auto_scale_lr = dict(enable=False, base_batch_size=256)

optim_wrapper = dict(
    optimizer=dict(nesterov=True),
    paramwise_cfg=dict(flat_decay_mult=0.0),  # biases and norms: all parameters of one dimension
)

default_hooks = dict(checkpoint=dict(max_keep_ckpts=3))
# Each GPU has its own timesteps and noise.
randomness = dict(seed=0, diff_rank_seed=True)
