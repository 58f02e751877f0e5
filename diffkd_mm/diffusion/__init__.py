"""The mathematics of DiffKD in plain PyTorch."""

from .autoencoder import LinearAutoencoder
from .ddim import DDIMSampler
from .denoisers import BottleneckDenoiser, VectorDenoiser
from .noise_adapter import NoiseAdapter, ScheduledNoise, VectorNoiseAdapter
from .standardization import Standardization
from .unet import UNetDenoiser

__all__ = [
    'BottleneckDenoiser',
    'DDIMSampler',
    'LinearAutoencoder',
    'NoiseAdapter',
    'ScheduledNoise',
    'Standardization',
    'UNetDenoiser',
    'VectorDenoiser',
    'VectorNoiseAdapter',
]
