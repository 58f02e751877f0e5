"""The teacher, DeepLabV3-R101 (Table 6: 78.07 mIoU, 77.46 on the test split).

Its published weights (https://drive.google.com/file/d/1zUdhYPYCDCclWU3Wo7GbbTlM8ibQ_UC1) are
converted by

    python tools/model_converters/cirkd2mmseg.py deeplabv3_resnet101_citys_best_model.pth \
        checkpoints/cirkd_deeplabv3_r101.pth

Trained with this config it has the students' schedule; its authors trained it for 80,000 iterations
of 8 images (github.com/winycg/CIRKD, issue 4).
"""

_base_ = [
    '../_base_/models/deeplabv3_r101.py',
    '../_base_/cityscapes_40k.py',
    '../_base_/runtime/cirkd.py',
]
