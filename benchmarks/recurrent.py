"""A base with recurrent layers: drafted, against the plain static batches it had to run in before.

    python -m benchmarks.recurrent --json recurrent.json [--repeats 5]

The demo family's trained models, the base made deeper without changing what it says, until it costs
12 times the tuned member per token. It is a Granite 4 hybrid: the trained layers are attention, as
they were; of those that add nothing nine are Mamba 2 to one of attention. Acceptance is the trained
models' own. Contestants alternate within a run; ratios are medians over the repeats.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from benchmarks.decoding import COST, Contest, make_family, run
from benchmarks.windows import against_before, decoded, median_ratios

PATTERN = 10  # every tenth layer is attention
BEFORE = "as before: what a recurrent layer has read cannot be taken back"


def hybrid(source: str, layers: int) -> Any:
    """Return a Llama as a Granite 4 hybrid, which is the same sum, with layers that add nothing."""
    import torch
    from transformers import GraniteMoeHybridConfig, GraniteMoeHybridForCausalLM, LlamaForCausalLM

    model: Any = LlamaForCausalLM.from_pretrained(source)
    shape = model.config.to_dict()
    trained = shape["num_hidden_layers"]
    attends = [n < trained or n % PATTERN == PATTERN - 1 for n in range(layers)]
    for name in ("model_type", "architectures", "layer_types", "num_hidden_layers"):
        shape.pop(name, None)
    config: Any = GraniteMoeHybridConfig(
        **shape, num_hidden_layers=layers, num_local_experts=0, position_embedding_type="rope",
        layer_types=["attention" if one else "mamba" for one in attends],
        shared_intermediate_size=shape["intermediate_size"], mamba_expand=2,
        mamba_d_head=2 * shape["hidden_size"] // 8, mamba_n_heads=8, mamba_d_state=64,
        attention_multiplier=model.model.layers[0].self_attn.scaling,
        embedding_multiplier=1.0, residual_multiplier=1.0, logits_scaling=1.0,
    )  # fmt: skip
    made: Any = GraniteMoeHybridForCausalLM(config).to(model.dtype).eval()
    theirs = dict(model.state_dict())
    for n in range(trained):
        mlp = f"model.layers.{n}.mlp"
        gate, up, down = (theirs.pop(f"{mlp}.{one}_proj.weight") for one in ("gate", "up", "down"))
        shared = f"model.layers.{n}.shared_mlp"
        theirs[f"{shared}.input_linear.weight"] = torch.cat([gate, up])
        theirs[f"{shared}.output_linear.weight"] = down
    _, unknown = made.load_state_dict(theirs, strict=False)
    assert not unknown, unknown
    with torch.no_grad():
        for layer in made.model.layers[trained:]:
            last = layer.self_attn.o_proj if layer.mamba is None else layer.mamba.out_proj
            last.weight.zero_()
            layer.shared_mlp.output_linear.weight.zero_()
    return made


def deep_enough(source: str, small: str, cost: float) -> Any:
    """Return the hybrid whose step costs at least ``cost`` times that of ``small``."""
    from transformers import AutoModelForCausalLM

    from benchmarks.deepening import cost_per_token

    tuned = AutoModelForCausalLM.from_pretrained(small).eval()
    layers = PATTERN
    while True:
        made = hybrid(source, layers)
        own, other = cost_per_token([made, tuned])
        if own >= cost * other:
            return made
        layers = max(layers + 1, round(layers * min(2.0, cost * other / own)))


def measure(repeats: int, device: str, dtype: str) -> dict[str, Any]:
    """Run everything; return the ratios and what they came from."""
    import torch
    from transformers import AutoTokenizer

    with tempfile.TemporaryDirectory() as folder:
        paths = make_family(Path(folder), device, dtype, 0.0)
        made = deep_enough(paths["base"], paths["tuned"], COST)
        path = str(Path(folder) / "hybrid")
        made.to(getattr(torch, dtype)).save_pretrained(path)
        AutoTokenizer.from_pretrained(paths["base"]).save_pretrained(path)
        paths["base"] = path
        now, before = Contest(paths, device, dtype), Contest(paths, device, dtype)
        speeds = against_before(now, before, {"_recurrent_fail": BEFORE}, repeats)
        counts = {name: decoded(contest) for name, contest in (("now", now), ("before", before))}
        kinds = now.models[0].config.layer_types
    return {
        "ratios": median_ratios(speeds),
        "tokens_per_second": speeds,
        "acceptance": counts["now"].acceptance,
        "passes": counts["now"].passes,
        "rounds": counts["now"].rounds,
        "rounds_by_block": counts["now"].rounds_by_block,
        "why_plain_before": counts["before"].plain_reason,
        "layers": {kind: kinds.count(kind) for kind in set(kinds)},
        "repeats": repeats,
    }


if __name__ == "__main__":
    told = run(__doc__, measure)
    names = "layers", "acceptance", "passes", "rounds", "rounds_by_block", "why_plain_before"
    print({name: told[name] for name in names})
