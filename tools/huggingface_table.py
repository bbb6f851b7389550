"""Write docs/huggingface.md: what transformers' own code gives each tensor of eight families, and what a recipe gives."""

import importlib
import math
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from firstlight.plan import Plan, plan
from firstlight.recipes import compose

transformers: Any = importlib.import_module("transformers")
PAGE = Path(__file__).parent.parent / "docs" / "huggingface.md"
WIDTH, LAYERS, SEED = 96, 4, 0
COMMON = {"hidden_size": WIDTH, "intermediate_size": 4 * WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": 4}
TEXT = COMMON | {"vocab_size": 300}


@dataclass(frozen=True)
class Family:
    """One family: how its model is built, the recipe that comes nearest, and why tensors differ, by pattern of names."""

    build: Callable[[], nn.Module]
    recipe: str
    note: str
    reasons: Mapping[str, str]
    rules: Mapping[str, str] | None = None  # from patterns to recipes: what makes all equal

    def planned(self, model: nn.Module) -> Plan:
        """Return the plan of the nearest recipe."""
        return plan(model, self.recipe)


@dataclass(frozen=True)
class Measured:
    """The values of one pattern of names, all layers together."""

    mean: float
    std: float
    count: int

    @property
    def text(self) -> str:
        """The std, or the value of a constant; the mean too where it is no chance."""
        if self.std <= 1e-6 * abs(self.mean) or self.std == 0:
            return f"all {self.mean:g}"
        off = abs(self.mean) > 6 * self.std / math.sqrt(self.count)
        return f"{self.std:.3g}" + (f", mean {self.mean:.3g}" if off else "")


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    pattern: str
    role: str
    theirs: str
    ours: str
    same: bool
    reason: str


def _bert() -> Any:
    return transformers.BertForPreTraining(transformers.BertConfig(**TEXT))


def _llama() -> Any:
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(num_key_value_heads=2, **TEXT))


def _vit() -> Any:
    config = transformers.ViTConfig(image_size=32, patch_size=4, num_labels=100, **COMMON)
    return transformers.ViTForImageClassification(config)


def _t5() -> Any:
    config = transformers.T5Config(
        vocab_size=300, d_model=WIDTH, d_kv=WIDTH // 4, d_ff=4 * WIDTH, num_layers=LAYERS, num_heads=4
    )
    return transformers.T5ForConditionalGeneration(config)


def _whisper() -> Any:
    config = transformers.WhisperConfig(
        vocab_size=300, d_model=WIDTH, encoder_layers=LAYERS, decoder_layers=LAYERS, encoder_attention_heads=4,
        decoder_attention_heads=4, encoder_ffn_dim=4 * WIDTH, decoder_ffn_dim=4 * WIDTH, max_source_positions=40,
        max_target_positions=40, pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
    )  # fmt: skip
    return transformers.WhisperForConditionalGeneration(config)


def _gpt2() -> Any:
    config = transformers.GPT2Config(
        vocab_size=300, n_embd=WIDTH, n_layer=LAYERS, n_head=4, bos_token_id=1, eos_token_id=1
    )
    return transformers.GPT2LMHeadModel(config)


def _mixtral() -> Any:
    config = transformers.MixtralConfig(num_key_value_heads=2, num_local_experts=4, **TEXT)
    return transformers.MixtralForCausalLM(config)


def _mamba() -> Any:
    config = transformers.MambaConfig(vocab_size=300, hidden_size=WIDTH, num_hidden_layers=LAYERS)
    return transformers.MambaForCausalLM(config)


FLAT = "transformers gives every weight, embedding and table `initializer_range`, here 0.02."
T5_ATTENTION = (
    "T5 does not divide attention scores by √d_kv; transformers puts the factor into the query, (d_model·d_kv)^-½. "
    "The recipe gives every matrix 1/√fan_in."
)

FAMILIES: dict[str, Family] = {
    "BERT": Family(
        _bert,
        "bert:form=normal",
        f"{FLAT} No cut at two stds, which Google's code has.",
        {},
    ),
    "BERT, Google's code": Family(
        _bert,
        "bert",
        "BERT's own code cuts N(0, 0.02²) at two stds.",
        {"*": "The cut leaves a std of 0.0176; transformers does not cut."},
    ),
    "GPT-2": Family(
        _gpt2,
        "gpt2",
        f"The ends of the {2 * LAYERS} residual branches get 0.02/√(2·{LAYERS}) in both. transformers reads the number from "
        "`n_layer`, firstlight counts the branches in the graph.",
        {},
    ),
    "Llama": Family(
        _llama,
        "normal:std=0.02",
        f"{FLAT} Branches are not scaled by depth.",
        {},
    ),
    "Llama, torchtitan's scheme": Family(
        _llama,
        "llama",
        "torchtitan's scheme for Llama 3; transformers has no such rule. Several stds are those of the "
        "layers, from the last to the first.",
        {
            "*embed_tokens.weight": "torchtitan gives tokens std 1; transformers gives them 0.02 as all weights.",
            "lm_head.weight": "torchtitan gives the output 1/√d, cut at three stds; transformers gives it 0.02.",
            "*_proj.weight": "torchtitan divides the weights that lead to the end of a branch (up, down, attention-out) by "
            "√(2·layer); transformers does not look at depth.",
        },
    ),
    "Mixtral": Family(
        _mixtral,
        "normal:std=0.02",
        f"{FLAT} Router and experts too.",
        {},
    ),
    "ViT": Family(
        _vit,
        "bert:form=normal",
        f"{FLAT} Its `trunc_normal_` of the positions and the class token cuts at ±2 in the units of the weight, 100 stds "
        "away, so it cuts nothing.",
        {},
    ),
    "ViT, the authors' code": Family(
        _vit,
        "vit",
        "The authors' JAX code; transformers does not follow it.",
        {
            "*cls_token": "The authors start the class token from 0.",
            "*patch_embeddings.projection.weight": "The authors give patches LeCun's 1/√fan_in, cut at two stds.",
            "*_proj.weight": "The authors give attention Xavier's √(2/(fan_in + fan_out)).",
            "*fc?.weight": "The authors give the MLP Xavier's √(2/(fan_in + fan_out)).",
            "*fc?.bias": "The authors give biases of the MLP a std of 10⁻⁶, transformers 0.",
            "classifier.weight": "The authors start the head from 0, so that no class is preferred.",
        },
    ),
    "T5": Family(
        _t5,
        "lecun",
        "T5's scheme is 1/√fan_in but for four kinds of tensor. All are equal with the rules below.",
        {
            "shared.weight": "transformers gives tokens std 1 and divides the output by √d_model in forward, for tied weights; "
            "the recipe makes each token's vector 1 long.",
            "*Attention.q.weight": T5_ATTENTION,
            "*relative_attention_bias.weight": "One number a head, added to scores. transformers gives 1/√d_model; the recipe "
            "gives tables of positions 1/√(last axis), which is the number of heads here.",
        },
        {
            "shared": "normal:std=1",
            "part:query": f"normal:std={(WIDTH * WIDTH // 4) ** -0.5!r}",
            "role:position": f"normal:std={WIDTH**-0.5!r}",
        },
    ),
    "Mamba": Family(
        _mamba,
        "normal:std=0.1",
        "`initializer_range` is 0.1 here. A, D and the bias of dt are computed by transformers' own code in both; the bias of "
        "dt draws there, from a generator seeded by firstlight. All are equal with the rules below.",
        {
            "*conv1d.weight": "transformers draws from U(±1/√fan_in), torch.nn's default.",
            "*out_proj.weight": "transformers draws from U(±1/√fan_in), torch.nn's default, and divides by √layers only with "
            "`rescale_prenorm_residual`.",
            "*dt_proj.weight": "transformers draws from U(±rank^-½), where the rank is this weight's fan_in.",
        },
        dict.fromkeys(("*.conv1d.weight", "*.out_proj.weight", "*.dt_proj.weight"), "torch-default"),
    ),
    "Whisper": Family(
        _whisper,
        "bert:form=normal",
        f"{FLAT} The encoder's table of positions does not train; it is computed by transformers' own code in both: sinusoids, "
        "the same bits.",
        {},
    ),
}


def pattern(name: str) -> str:
    """Return a tensor's name with its layer's number left out.

    >>> pattern("h.11.mlp.c_fc.weight")
    'h.*.mlp.c_fc.weight'
    """
    return re.sub(r"(?<=\.)\d+(?=\.)", "*", name)


def measured(model: nn.Module) -> dict[str, Measured]:
    """Return mean and std of every parameter, those of like names together; a row that is kept zero is left out."""
    found: dict[str, list[torch.Tensor]] = {}
    padding = {id(module.weight): module.padding_idx for module in model.modules() if isinstance(module, nn.Embedding)}
    for name, parameter in model.named_parameters():
        row, values = padding.get(id(parameter)), parameter.detach().double()
        kept = values if row is None else torch.cat((values[:row], values[row + 1 :]))
        found.setdefault(pattern(name), []).append(kept.flatten())
    joined = {name: torch.cat(values) for name, values in found.items()}
    return {name: Measured(v.mean().item(), v.std(correction=0).item(), v.numel()) for name, v in joined.items()}


def built(family: Family) -> nn.Module:
    """Return a family's model as transformers initialises it, the same every time."""
    state = torch.random.get_rng_state()
    torch.manual_seed(SEED)
    try:
        return family.build()
    finally:
        torch.random.set_rng_state(state)


def rows(family: Family, made: Plan, model: nn.Module) -> list[Row]:
    """Return the table of a family under a plan, a row for each pattern of names."""
    theirs = measured(model)
    computed = {pattern(row.name) for row in made if row.distribution == "recomputed"}
    mine = measured(made.apply(built(family), seed=SEED)) if computed else {}
    lines = []
    for name, found in theirs.items():
        planned = [row for row in made if not row.is_buffer and pattern(row.name) == name]
        (role,), stds = {row.role for row in planned}, sorted({row.std for row in planned if row.std is not None})
        if name in computed:
            ours = f"computed: {mine[name].text}"
            same = close(found, mine[name].std) and near(found, mine[name])
        elif planned[0].distribution == "constant":
            value = planned[0].options["value"]
            ours, same = f"all {value:g}", found.text == f"all {value:g}"
        else:
            ours = ", ".join(f"{std:.3g}" for std in stds)
            same = len(stds) == 1 and close(found, stds[0]) and "mean" not in found.text
        reason = "" if same else next((why for key, why in family.reasons.items() if _matches(name, key)), "")
        lines.append(Row(name, role, found.text, ours, same, reason))
    return lines


def close(found: Measured, std: float) -> bool:
    """Whether a measured std is the given one: within 5 standard errors of a normal sample, which no flatter law exceeds."""
    return abs(found.std - std) <= 5 * std / math.sqrt(2 * max(found.count - 1, 1))


def near(one: Measured, other: Measured) -> bool:
    """Whether two measured means agree, within 5 standard errors."""
    return abs(one.mean - other.mean) <= 5 * math.hypot(one.std, other.std) / math.sqrt(max(one.count, 1))


def _matches(name: str, key: str) -> bool:
    return re.fullmatch(re.escape(key).replace(r"\*", ".*").replace(r"\?", "."), name) is not None


def equal_plan(family: Family, model: nn.Module) -> Plan:
    """Return the plan of the family's recipe with the rules that make it equal to transformers' code."""
    return plan(model, compose(family.recipe, family.rules)) if family.rules else family.planned(model)


def section(name: str, family: Family) -> list[str]:
    """Return the text on a family."""
    model = built(family)
    lines = [f"## {name}: `{family.recipe}`", "", family.note, ""]
    if family.rules:
        pairs = ", ".join(f'"{key}": "{value}"' for key, value in family.rules.items())
        lines += ["```text", f'compose("{family.recipe}", {{{pairs}}})', "```", ""]
    lines += ["| tensor | role | transformers | firstlight | | why they differ |", "|---|---|---|---|---|---|"]
    for row in rows(family, family.planned(model), model):
        verdict = "same" if row.same else "differs"
        lines.append(f"| `{row.pattern}` | {row.role} | {row.theirs} | {row.ours} | {verdict} | {row.reason} |")
    return [*lines, ""]


HEAD = f"""# Hugging Face's own start, and a recipe's

What `transformers` gives each tensor in `_init_weights`, and what the recipe that comes nearest gives it. Small models of
width {WIDTH} with {LAYERS} layers, built from their configs.

- `transformers`: the std of the values, all layers together, measured; `all 1` is a constant. A row kept zero for padding is
  left out.
- `firstlight`: the std of the plan; `computed` is what the model's own code made.
- `same`: they agree within five standard errors of the measured std, and the means too.

Every parameter has its role from the operators; none is guessed. From a file: `firstlight plan hf:config.json --recipe gpt2`.
This page is made by `python tools/huggingface_table.py`; a test makes it anew.
"""


def page() -> str:
    """Return the whole page."""
    return "\n".join([HEAD, *(line for name, family in FAMILIES.items() for line in section(name, family))])


def main() -> None:
    """Write, or check."""
    made = page()
    if "--check" not in sys.argv:
        PAGE.write_text(made)
    elif PAGE.read_text() != made:
        sys.exit("docs/huggingface.md is out of date; run python tools/huggingface_table.py")


if __name__ == "__main__":
    main()
