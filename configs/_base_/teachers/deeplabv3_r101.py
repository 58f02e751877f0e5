"""Table 6's teacher: CIRKD's weights, converted as ``cityscapes/deeplabv3_r101.py`` says."""

teacher = dict(
    config='{{fileDirname}}/../../cityscapes/deeplabv3_r101.py',
    checkpoint='checkpoints/cirkd_deeplabv3_r101.pth',
)
