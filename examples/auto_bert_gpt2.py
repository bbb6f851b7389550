"""Small BERT and GPT-2 of Hugging Face on text: steps to a given loss from their own start and from `auto`, three seeds.

    python examples/auto_bert_gpt2.py [--steps 120]

Text: the bytes of `pydoc_data.topics`. GPT-2 predicts the next byte, BERT bytes that are masked. Both starts see the same
batches and the same rates of Adam; the rate that gets there first counts.
"""

import argparse
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import BertConfig, BertForMaskedLM, GPT2Config, GPT2LMHeadModel

import firstlight as fl

RATES = (1e-3, 3e-3)
CONTEXT, BATCH, MASK = 32, 16, 255
TARGETS = {"gpt2": 2.9, "bert": 3.1}  # nats a byte; knowing how often each byte comes gives 3.3


def text() -> Tensor:
    """Return the text as bytes."""
    from pydoc_data.topics import topics

    return torch.tensor(list("\n".join(topics[name] for name in sorted(topics)).encode()))


def gpt2() -> nn.Module:
    """Return a GPT-2 of four blocks without dropout."""
    config = GPT2Config(n_layer=4, n_embd=64, n_head=4, n_positions=CONTEXT, vocab_size=256, use_cache=False)
    config.resid_pdrop = config.embd_pdrop = config.attn_pdrop = 0.0
    config.bos_token_id = config.eos_token_id = 0
    return GPT2LMHeadModel(config)


def bert() -> nn.Module:
    """Return a BERT of four blocks without dropout."""
    config = BertConfig(
        hidden_size=64, num_hidden_layers=4, num_attention_heads=4, intermediate_size=256, vocab_size=256
    )
    config.max_position_embeddings = CONTEXT
    config.hidden_dropout_prob = config.attention_probs_dropout_prob = 0.0
    return BertForMaskedLM(config)


def batch(name: str, tokens: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return inputs and targets, -100 where nothing is asked."""
    start = torch.randint(len(tokens) - CONTEXT - 1, (BATCH, 1), generator=generator)
    window = tokens[start + torch.arange(CONTEXT + 1)]
    if name == "gpt2":
        return window[:, :-1], window[:, 1:]
    inputs = window[:, :-1].clone()
    masked = torch.rand(inputs.shape, generator=generator) < 0.15
    targets = torch.where(masked, inputs, -100)
    return torch.where(masked, MASK, inputs), targets


def steps_to(name: str, build: Callable[[], nn.Module], start: str, rate: float, seed: int, most: int) -> int | None:
    """Return after how many steps the running mean of the loss is below the target, None if it is not within `most`."""
    torch.manual_seed(seed)
    model, tokens = build(), text()
    if start == "auto":
        example = batch(name, tokens, torch.Generator().manual_seed(1000 + seed))[0]
        fl.initialize(model, "auto", seed=seed, example={"input_ids": example})
    optimizer, generator, mean = torch.optim.Adam(model.parameters(), rate), torch.Generator().manual_seed(seed), None
    for step in range(most):
        inputs, targets = batch(name, tokens, generator)
        loss = F.cross_entropy(model(input_ids=inputs).logits.flatten(0, 1), targets.flatten())
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call] # torch
        optimizer.step()
        mean = loss.item() if mean is None else 0.8 * mean + 0.2 * loss.item()
        if mean < TARGETS[name]:
            return step + 1
    return None


def main() -> None:
    """Print the steps for each model, seed and start."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--model", choices=["gpt2", "bert"], help="one of the two alone")
    args = parser.parse_args()
    most = args.steps
    for name, build in (("gpt2", gpt2), ("bert", bert)):
        if args.model not in (None, name):
            continue
        for seed in range(3):
            found = {}
            for start in ("own", "auto"):
                counts = [steps_to(name, build, start, rate, seed, most) for rate in RATES]
                reached = [count for count in counts if count is not None]
                found[start] = str(min(reached)) if reached else f"over {most}"
            print(
                f"{name} seed {seed}: loss {TARGETS[name]} after {found['own']} steps, {found['auto']} under auto",
                flush=True,
            )


if __name__ == "__main__":
    main()
