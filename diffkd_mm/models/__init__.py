"""Networks that the papers use and OpenMMLab lacks, registered beside it.

``segmentation`` needs MMSegmentation and ``classification`` MMPretrain, so the registry imports
them when a network is first asked for.
"""
