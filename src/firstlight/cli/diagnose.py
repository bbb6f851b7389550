"""`firstlight diagnose`: signals by layer and what is wrong; exit 0 healthy, 1 findings of severity error."""

from firstlight.cli.console import emit, prose, show
from firstlight.cli.options import Data, Json, Seed, Target
from firstlight.cli.show import findings_text, signals_table


def command(target: Target, data: Data = "digits", seed: Seed = 0, as_json: Json = False) -> int:
    """Measure a network on a real batch and say what is wrong with its start."""
    from firstlight.diagnose import diagnose
    from firstlight.doctor import BATCH
    from firstlight.model.targets import load
    from firstlight.plan import initialize
    from firstlight.race import task

    examples = task(data)
    found = load(target)
    model = found.build(seed)
    if found.init is not None:
        initialize(model, found.init, seed=seed)
    inputs, labels = examples.batch(BATCH, seed=seed)
    diagnosis = diagnose(model, inputs, target=labels)
    if as_json:
        emit({"target": target, "task": data, "seed": seed, **diagnosis.to_json()})
    else:
        show(signals_table(diagnosis.signals), "signals by layer")
        prose("\n" + (findings_text(diagnosis.findings) or "healthy: nothing was found wrong with this start"))
    return 0 if diagnosis.healthy else 1
