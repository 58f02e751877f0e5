"""Fused arithmetic: what computes faster than the plain line that it stands for."""

from collections.abc import Iterable, Sequence
from itertools import chain

import torch
from torch import Tensor, nn
from torch.autograd.function import Function, once_differentiable

from ..compat import is_autocast_enabled


def is_on_cpu(x: Tensor) -> bool:
    """Whether products over pixels pay; elsewhere operators are launches, and few of them do."""
    return x.device.type == 'cpu'


def must_be_called(modules: Iterable[nn.Module]) -> bool:
    """Whether there are hooks that wait for a call, or a compiled module."""
    return any(
        x._forward_hooks
        or x._forward_pre_hooks
        or x._backward_hooks
        or x._backward_pre_hooks
        or getattr(x, '_compiled_call_impl', None)
        for x in modules
    )


def can_fold(
    convs: Sequence[nn.Module], norms: Sequence[nn.Module], maps: Sequence[Tensor]
) -> bool:
    """Whether :func:`conv_norm_add` can take the place of the layers.

    It is for the CPU, for ``nn.BatchNorm2d`` in training, and not for autocast, whose dtypes are
    too coarse for a covariance.

    Args:
        convs (Sequence[nn.Module]): Convolutions, one per level.
        norms (Sequence[nn.Module]): Normalisations of C channels, one per level.
        maps (Sequence[Tensor]): What comes into the convolutions before them.
    """
    return not must_be_called([*convs, *norms]) and all(
        is_on_cpu(x)  # where it was measured to pay
        and type(norm) is nn.BatchNorm2d
        and norm.training
        and norm.affine
        and x.dtype in (torch.float32, torch.float64)
        and not is_autocast_enabled(x.device.type)
        and x.numel() > x.size(1)  # a single pixel is left to the norm, which refuses it
        for norm, x in zip(norms, maps)
    )


def conv_norm_add(
    convs: Sequence[nn.Conv2d],
    norms: Sequence[nn.BatchNorm2d],
    maps: Sequence[Tensor],
    residuals: Sequence[Tensor],
) -> Sequence[Tensor]:
    """Computes ``norm(conv(x)) + residual`` of every level without ever storing ``conv(x)``.

    The mean and variance that a batch norm finds in y = W·x + b follow from those of x:
    E[y] = W·E[x] + b and Var[y] = diag(W·Cov[x]·Wᵀ). So the norm is folded into the weight and
    bias of the convolution, and gradients flow through the folding as through anything else.
    Where x has fewer channels than y, the K×K covariance costs less than the passes over y that
    the norm and its gradient would need.

    Args:
        convs (Sequence[nn.Conv2d]): 1×1 convolutions K → C, one per level.
        norms (Sequence[nn.BatchNorm2d]): Normalisations of C channels.
        maps (Sequence[Tensor]): Inputs of shape (B, K, H, W).
        residuals (Sequence[Tensor]): Added to the results, of shape (B, C, H, W).

    Returns:
        Sequence[Tensor]: Shapes (B, C, H, W).
    """
    if len({(conv.weight.shape, norm.eps) for conv, norm in zip(convs, norms)}) > 1:
        levels = zip(convs, norms, maps, residuals)
        return [conv_norm_add(*([x] for x in level))[0] for level in levels]
    weights, biases = [x.weight for x in convs], [x.bias for x in convs]
    norm_weights, norm_biases = [x.weight for x in norms], [x.bias for x in norms]
    lists = weights, biases, norm_weights, norm_biases, maps, residuals
    return _FoldedNorm.apply(norms, *chain(*lists))


class _FoldedNorm(Function):
    """The folding. What is small is stacked over the levels: L×C×K, L×K×K, L×C, L×K."""

    @staticmethod
    def forward(ctx, norms: Sequence[nn.BatchNorm2d], *tensors: Tensor) -> tuple[Tensor, ...]:
        weights, biases, norm_weights, norm_biases, maps, residuals = in_lists(tensors, len(norms))
        pixels = [_pixels(x) for x in maps]
        weight = torch.stack(weights).flatten(2)
        mean = torch.stack([x.mean(0) for x in pixels])
        covariance = mean[:, :, None] * mean[:, None]
        for x, matrix in zip(pixels, covariance):  # Cov[x] = E[x·xᵀ] − E[x]·E[x]ᵀ in one call
            matrix.addmm_(x.T, x, beta=-1, alpha=1 / len(x))
        projected = torch.bmm(weight, covariance)
        variance = (projected * weight).sum(2)
        # Rounding can bring the variance of a constant channel below zero.
        positive = variance.clamp(min=0)
        conv_mean = _product(weight, mean, torch.stack(biases))
        for statistics in zip(norms, conv_mean, positive, pixels):
            _update_running_statistics(*statistics)
        deviation_inverse = (positive + norms[0].eps).rsqrt_()
        scale = torch.stack(norm_weights) * deviation_inverse
        folded = weight * scale[:, :, None]
        # The convolution's own bias cancels.
        bias = _product(folded, mean, torch.stack(norm_biases), -1)
        ctx.save_for_backward(
            *maps, weight, mean, projected, variance, deviation_inverse, scale, folded
        )
        levels = zip(pixels, residuals, folded, bias)
        # The sum is ours alone, so the product may be accumulated into it.
        sums = [_pixels(y).add(b).addmm_(x, matrix.T) for x, y, matrix, b in levels]
        return tuple(_as_map(x, like) for x, like in zip(sums, residuals))

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads: Tensor) -> tuple:
        *maps, weight, mean, projected, variance, deviation_inverse, scale, folded = (
            ctx.saved_tensors
        )
        pixels, grad_pixels = ([_pixels(x) for x in xs] for xs in (maps, grads))
        # bias = β − folded·mean
        grad_bias = torch.stack([grad.sum(0) for grad in grad_pixels])
        grad_folded = torch.stack([grad.T @ x for grad, x in zip(grad_pixels, pixels)])
        grad_folded.baddbmm_(grad_bias[:, :, None], mean[:, None], alpha=-1)
        # folded = weight·scale, scale = γ·deviation⁻¹, deviation² = positive + eps
        grad_norm_weight = (grad_folded * weight).sum(2) * deviation_inverse
        grad_variance = grad_norm_weight * scale * deviation_inverse * (variance >= 0) * -0.5
        # variance = diag(weight·covariance·weightᵀ)
        grad_weight = grad_folded * scale[:, :, None]
        grad_weight.addcmul_(projected, grad_variance[:, :, None], value=2)
        grad_covariance = torch.bmm(weight.mT, weight * grad_variance[:, :, None])
        # covariance = xᵀ·x / n − mean·meanᵀ, mean = Σx / n
        minus_grad_mean = _product(folded.mT, grad_bias)
        minus_grad_mean = _product(grad_covariance, mean, minus_grad_mean, 2)
        grad_maps = [
            torch.addmm(y, x, matrix, beta=-1 / len(x), alpha=2 / len(x)).addmm_(grad, product)
            for y, x, matrix, grad, product in zip(
                minus_grad_mean, pixels, grad_covariance, grad_pixels, folded
            )
        ]
        return (
            None,
            *grad_weight[..., None, None],
            # Zero, which is not the same as missing to DDP.
            *torch.zeros_like(grad_bias),
            *grad_norm_weight,
            *grad_bias,
            *(_as_map(x, like) for x, like in zip(grad_maps, maps)),
            *grads,
        )


def _pixels(x: Tensor) -> Tensor:
    """A map (B, C, H, W) as (B·H·W, C), which is a view if it is channels last."""
    return x.permute(0, 2, 3, 1).flatten(0, 2)


def _as_map(pixels: Tensor, like: Tensor) -> Tensor:
    batch, _, height, width = like.shape
    return pixels.view(batch, height, width, -1).permute(0, 3, 1, 2)


def _product(
    matrices: Tensor, vectors: Tensor, added: Tensor | None = None, factor: float = 1
) -> Tensor:
    """added + factor · matrices·vectors of all levels."""
    if added is None:
        return torch.bmm(matrices, vectors[:, :, None]).squeeze(2)
    return torch.baddbmm(added[:, :, None], matrices, vectors[:, :, None], alpha=factor).squeeze(2)


def _update_running_statistics(
    norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor, pixels: Tensor
) -> None:
    """What ``nn.BatchNorm2d`` does itself when it sees a batch."""
    if not norm.track_running_stats:
        return
    momentum = norm.momentum
    if norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
        if momentum is None:  # PyTorch's sign for an average over all batches
            momentum = 1 / norm.num_batches_tracked.item()
    norm.running_mean.lerp_(mean, momentum)
    norm.running_var.lerp_(variance * (len(pixels) / (len(pixels) - 1)), momentum)


def in_lists(tensors: Sequence[Tensor], length: int) -> list[list[Tensor]]:
    """Lists of the same length one after the other, taken apart."""
    return [list(tensors[i : i + length]) for i in range(0, len(tensors), length)]
