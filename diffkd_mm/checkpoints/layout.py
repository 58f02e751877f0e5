"""What the tables of names in checkpoints are made of, and are checked with."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from ..errors import DistillationError

Weights = Mapping[str, Tensor]

RESNETS = {  # (blocks of each stage, convolutions of a block): depth
    ((2, 2, 2, 2), 2): 18,
    ((3, 4, 6, 3), 2): 34,
    ((3, 4, 6, 3), 3): 50,
    ((3, 4, 23, 3), 3): 101,
}


@dataclass
class Layout:
    """Names of tensors in the checkpoints of a family of networks.

    Attributes:
        family (str): What messages call the networks.
        origin (str): Where such checkpoints are from, in messages.
        telltale (str): A tensor that together with the classifier's weight tells its checkpoints
            from all that come later in the list.
        find_network (Callable): From the weights the name of the network and the config of its
            backbone, or None if there is no such backbone.
        rename (Callable): From a module in our backbone its name in the checkpoint.
        classifier (str): Name of the linear classifier in the checkpoint.
    """

    family: str
    origin: str
    telltale: str
    find_network: Callable[[Weights], tuple[str, dict | None]]
    rename: Callable[[str, nn.Module], str]
    classifier: str


def count_modules(weights: Weights, pattern: str) -> tuple[int, ...]:
    """Modules of each stage, by a pattern with the numbers of stage and module."""
    stages: dict[int, int] = {}
    for match in filter(None, (re.match(pattern, name) for name in weights)):
        stage, module = int(match[1]), int(match[2])
        stages[stage] = max(stages.get(stage, 0), module + 1)
    return tuple(stages[stage] for stage in sorted(stages))


def find_resnet(weights: Weights, **config) -> tuple[str, dict | None]:
    """Name and backbone of a ResNet of four stages with ``config`` besides its depth."""
    blocks = count_modules(weights, r'layer(\d)\.(\d+)\.')
    convs = 3 if 'layer1.0.conv3.weight' in weights else 2
    depth = RESNETS.get((blocks, convs))
    if depth is None:
        # The kind of block matters: ResNet-26 has as many as ResNet-18.
        kind = 'bottlenecks' if convs == 3 else 'basic blocks'
        return f'ResNet of {list(blocks)} {kind}', None
    return f'ResNet-{depth}', dict(config, depth=depth)


def index_in_pair(kind: str) -> int:
    """Of the convolution and the norm in a ``ConvModule``, in a ``Sequential`` of both."""
    return 1 if kind == 'bn' else 0


def keep_name(name: str, backbone: nn.Module) -> str:
    """For families whose names are those of our backbone."""
    return name


def check_names(what: str, missing: list[str], unknown: list[str]) -> None:
    """Names the tensors that a checkpoint lacks, and those that its network does not have.

    Raises:
        DistillationError: If there are any.
    """
    lists = {'missing': missing, 'unknown': unknown}
    found = [
        f'{len(x)} {kind}: {", ".join(x[:5])}{", ..." if len(x) > 5 else ""}'
        for kind, x in lists.items()
        if x
    ]
    if found:
        raise DistillationError(f'{what}, does not have the tensors of one. {"; ".join(found)}.')
