"""What a config of MMSegmentation lacks for the networks of CIRKD."""

custom_imports = dict(imports=['diffkd_mm'], allow_failed_imports=False)
custom_hooks = [dict(type='diffkd_mm.UnconvertedCheckpointHook')]
