_base_ = '../retinanet_digits_diffkd.py'

# Only the teacher teaches the denoiser, ahead of the student and beside it; what the student is
# compared with has unit variance, and nothing but its own 1×1 projection can fit it.
model = dict(
    points=dict(
        fpn=dict(
            connector=dict(
                standardize='channel', kd_trains_denoiser=False, output_projection=False
            ),
        ),
    ),
)
custom_hooks = [dict(type='diffkd_mm.WarmStartHook', num_iters=500)]
