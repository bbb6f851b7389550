"""Functions on one tensor: a drop-in for torch.nn.init and more, and the exact gains of activations.

Every random function takes `seed=` and `name=` for the same numbers on every machine; without them one seed is drawn
from `generator` or from torch's default CPU generator, so that `torch.manual_seed` governs.
"""

from firstlight.init.activations import activation_of
from firstlight.init.basic import (
    constant_,
    dirac_,
    eye_,
    normal_,
    ones_,
    trunc_normal_,
    truncated_normal_,
    uniform_,
    zeros_,
)
from firstlight.init.compat import (
    _calculate_correct_fan,  # noqa: F401  (libraries import these two from torch.nn.init)
    _calculate_fan_in_and_fan_out,  # noqa: F401
    calculate_gain,
    deprecated,
)
from firstlight.init.fans import fans
from firstlight.init.gains import Moments, gain, moments
from firstlight.init.identity import identity_
from firstlight.init.registry import DISTRIBUTIONS
from firstlight.init.scaled import (
    kaiming_normal_,
    kaiming_uniform_,
    lecun_normal_,
    lecun_uniform_,
    variance_scaling_,
    xavier_normal_,
    xavier_uniform_,
)
from firstlight.init.structured import (
    centred_orthogonal_,
    delta_orthogonal_,
    looks_linear_,
    orthogonal_,
    sparse_,
)

uniform = deprecated(uniform_)
normal = deprecated(normal_)
constant = deprecated(constant_)
eye = deprecated(eye_)
dirac = deprecated(dirac_)
xavier_uniform = deprecated(xavier_uniform_)
xavier_normal = deprecated(xavier_normal_)
kaiming_uniform = deprecated(kaiming_uniform_)
kaiming_normal = deprecated(kaiming_normal_)
orthogonal = deprecated(orthogonal_)
sparse = deprecated(sparse_)

__all__ = [
    "DISTRIBUTIONS",
    "Moments",
    "activation_of",
    "calculate_gain",
    "centred_orthogonal_",
    "constant",
    "constant_",
    "delta_orthogonal_",
    "dirac",
    "dirac_",
    "eye",
    "eye_",
    "fans",
    "gain",
    "identity_",
    "kaiming_normal",
    "kaiming_normal_",
    "kaiming_uniform",
    "kaiming_uniform_",
    "lecun_normal_",
    "lecun_uniform_",
    "looks_linear_",
    "moments",
    "normal",
    "normal_",
    "ones_",
    "orthogonal",
    "orthogonal_",
    "sparse",
    "sparse_",
    "trunc_normal_",
    "truncated_normal_",
    "uniform",
    "uniform_",
    "variance_scaling_",
    "xavier_normal",
    "xavier_normal_",
    "xavier_uniform",
    "xavier_uniform_",
    "zeros_",
]
