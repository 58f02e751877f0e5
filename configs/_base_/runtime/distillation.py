"""What a config of MMDetection lacks for distillation."""

custom_imports = dict(imports=['diffkd_mm'], allow_failed_imports=False)
# Each GPU has its own timesteps and noise.
randomness = dict(seed=None, diff_rank_seed=True)
