_base_ = '../deeplabv3_camvid_diffkd.py'

# CIRKD's relations of the embeddings beside DiffKD of the logits; queues that fill on this set.
model = dict(
    points=dict(
        embedding=dict(
            student='decode_head.dropout',  # the classifier's input
            teacher='decode_head.dropout',
            loss=dict(
                type='CIRKDLoss',
                student_channels=48,
                teacher_channels=96,
                num_classes=11,
                pixel_queue_size=2000,
                region_queue_size=200,
            ),
        ),
    ),
)
