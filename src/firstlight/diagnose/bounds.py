"""What each rule reads and from where on it speaks: a statistic in words, the side on which faults lie, and the bounds there.

Every threshold of a rule stands here and nowhere else. docs/calibration.json has what healthy networks give for each statistic,
and faults of graded strength; a test holds the two together. docs/findings.md says where the bounds come from.
"""

import math
from dataclasses import dataclass

from firstlight.diagnose.finding import Severity

_SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")
STEADY = 0.98  # a factor a layer nearer 1 than this is no fault of scale
ALIGNED = 10.0  # examples of ReLU at its critical scale align as 9π²/2 / layers² = 44 / layers², with room for one draw's luck


@dataclass(frozen=True, slots=True)
class Bound:
    """A statistic and its bounds. kind: of the findings. above: faults lie at the bound and above it; else below it.

    steady: the bound moves out with the depth, to what a factor of STEADY a layer gives: 0.98^200 is 0.018, so 200 layers
    that lose that much are no fault, and 2 layers that do are. slow: it moves out to slow / layers².
    """

    kind: str
    statistic: str
    above: bool
    error: float | None = None
    warning: float | None = None
    info: float | None = None
    steady: bool = False
    slow: float | None = None

    def severity(self, number: float | None, layers: int = 0) -> Severity | None:
        """Return how severe a number is, None where it is no fault or was not observed.

        Example:
            >>> deep = Bound("exploding-signal", "growth", True, error=100.0, warning=30.0, steady=True)
            >>> deep.severity(50.0, layers=3), deep.severity(50.0, layers=300), deep.severity(29.0)
            ('warning', None, None)
        """
        if number is None or math.isnan(number):
            return None
        return next((word for word in _SEVERITIES if self._beyond(number, self.limit(word, layers))), None)

    def limit(self, severity: Severity, layers: int = 0) -> float | None:
        """Return the bound of a severity over a number of layers, None where the rule has none."""
        given: float | None = getattr(self, severity)
        if given is not None and self.slow is not None and layers > 0:
            return min(given, self.slow / layers**2)
        if given is None or not self.steady:
            return given
        return max(given, STEADY**-layers) if self.above else min(given, STEADY**layers)

    def _beyond(self, number: float, limit: float | None) -> bool:
        return limit is not None and (number >= limit if self.above else number < limit)


BOUNDS: dict[str, Bound] = {
    "non-finite": Bound("non-finite", "tensors that hold, and layers that make, NaN or infinity", True, error=1),
    "exchangeable-units": Bound(
        "exchangeable-units", "largest share of a layer's units that have a twin", True, error=0.5, warning=0.1
    ),
    "copied-layers": Bound("copied-layers", "share of weights that equal another layer's", True, info=1e-9),
    "vanishing-signal": Bound(
        "vanishing-signal", "signal at the output layer / largest of the first quarter", False, 1e-3, 1e-2, steady=True
    ),
    "lost-inputs": Bound(
        "vanishing-signal", "signal at the output layer / inputs, where a layer leaves less than 0.3", False, 1e-3, 1e-2
    ),
    "exploding-signal": Bound(
        "exploding-signal", "rms at the output layer / largest of the first quarter", True, 100, 30, steady=True
    ),
    "vanishing-gradient": Bound(
        "vanishing-gradient", "gradient at the first quarter / at the output layer", False, 1e-3, 1e-2, steady=True
    ),
    "exploding-gradient": Bound(
        "exploding-gradient", "gradient at the first quarter / at the output layer", True, 100, 30, steady=True
    ),
    "rank-collapse": Bound(
        "rank-collapse", "1 − similarity of examples, output layer / inputs", False, warning=1e-3, slow=ALIGNED
    ),
    "token-collapse": Bound("rank-collapse", "1 − similarity of tokens, last layer / first ones", False, warning=1e-3),
    "dead-units": Bound("dead-units", "largest share of a layer's units that are off", True, error=0.9, warning=0.7),
    "saturation": Bound("saturation", "largest share of a layer's outputs on flat parts", True, error=0.8, warning=0.5),
    "gate-saturation": Bound("saturation", "share of gates' inputs on flat parts", True, warning=0.3),
    "initial-loss": Bound("initial-loss", "first loss / ln C", True, error=10, warning=2),
    "initial-squares": Bound("initial-loss", "first mean squared error / mean square of targets", True, 100, 10),
    "no-gradient": Bound("no-gradient", "share of parameters that get no gradient", True, error=1, warning=1e-9),
    "unused-parameter": Bound("unused-parameter", "share of parameters that nothing reads", True, warning=1e-9),
    "attention-saturation": Bound(
        "attention-saturation", "entropy of the middle attention / ln keys", False, error=0.05, warning=0.3
    ),
    "chaos": Bound("chaos", "growth of a small difference up to the output layer", True, 100, 30, steady=True),
    "strong-branches": Bound("strong-branches", "growth of a residual stream without norms", True, 100, 10),
    "uninitialized-memory": Bound(
        "uninitialized-memory", "largest share of a tensor that nobody draws", True, error=1e-3
    ),
    "low-precision": Bound("low-precision", "distinct numbers / those of a smooth draw", False, warning=0.4),
    "far-tails": Bound("low-precision", "farthest weight in robust stds", True, warning=12),
    "wrong-fan": Bound("wrong-fan", "std by the mistaken fan against the right one", True, warning=3, info=1.5),
    "wrong-gain": Bound("wrong-gain", "named gain against the activation's, over the depth", True, info=2),
    "input-small": Bound("input-scale", "rms of the inputs", False, error=0.02, warning=0.1),
    "input-large": Bound("input-scale", "rms of the inputs", True, error=300, warning=10),
    "uneven-features": Bound("input-scale", "rms of the largest feature / middle one", True, warning=100),
    "off-centre-features": Bound("input-scale", "mean / std of the middle feature", True, warning=10),
    "constant-input": Bound("constant-input", "share of examples equal to the first", True, error=1),
    "loss-not-finite": Bound("labels", "a loss not finite, of finite outputs", True, error=1),
    "one-label": Bound("labels", "share of the commonest of 32 labels or more", True, warning=1),
    "far-targets": Bound("labels", "rms of the targets of a mean squared error", True, error=1000, warning=30),
    "out-of-reach": Bound("loss-mismatch", "share of targets that the output cannot reach", True, error=0.05),
    "softmax-twice": Bound("loss-mismatch", "an activation before a loss that has its own", True, warning=1),
    "learning-rate": Bound("learning-rate", "largest loss of 20 steps / first, if it ends no lower", True, error=5, warning=2),
    "loss-peak": Bound("learning-rate", "largest loss of 20 steps / first, if it ends lower", True, warning=10),
    "large-update": Bound("update-ratio", "first step / weight, the middle weight", True, error=3, warning=0.6),
    "small-update": Bound("update-ratio", "first step / weight, the middle weight", False, warning=1e-4),
    "width-scaling": Bound("width-scaling", "|slope| of log rms over log width", True, warning=0.25),
}  # fmt: skip
