"""What KDiffusion compares: a layer of the student in branches and a feature of the teacher.

Branches, bridge and chain have the same options in every config here. Where the slides leave them
open they are ours, see ``docs/method.md``.
"""

num_branches = 4
bridge = dict(type='ConvConnector', standardize='channel')
kdiffusion = dict(
    resize=True,  # to the teacher's map
    chain=dict(type='KDiffusionChain'),
    loss=dict(type='MSELoss', loss_weight=1.0),
)
