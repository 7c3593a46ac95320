"""What a composite is: a closed, immutable description that loads nothing.

A recipe names a base, one or more weighted deltas (tuned minus reference) and a decoding
rule; Mitchell et al. 2023, Eq. 4 and 5. Unknown keys are errors, so a misspelt setting can
never be ignored in silence.
"""

from __future__ import annotations

import json
import re
from os import PathLike, fspath
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    field_validator,
    model_validator,
)

from eft_eval.errors import nearest
from eft_eval.recipe.locations import location_of, split_file

Dtype = Literal["auto", "float64", "float32", "bfloat16", "float16"]
Quantization = Literal["8bit", "4bit"]
HeadDtype = Literal["model", "float32"]
_DTYPE_NAMES = {
    "bf16": "bfloat16",
    "fp16": "float16",
    "half": "float16",
    "fp32": "float32",
    "float": "float32",
    "f32": "float32",
    "f16": "float16",
    "f64": "float64",
    "fp64": "float64",
    "double": "float64",
}
PLAIN_PROMPT = "plain"
_SINGLE_BRACES = re.compile(r"\{\s*(prompt|messages)\b[^{}]*\}")
# one word, what begins as a path, or what ends as a file of text
_WORD_OR_PATH = re.compile(
    r"[\w./\\~@-]+|@.*|(~|\.{1,2})?[/\\].*"
    r"|.*\.(jinja2?|j2|txt|md|tmpl|tpl|template|prompt|ya?ml|json|html?)",
    re.IGNORECASE,
)
_USER = {"role": "user", "content": "A question?"}
_SYSTEM = {"role": "system", "content": "Be brief."}
_ASSISTANT = {"role": "assistant", "content": "An answer."}
_CONVERSATIONS: tuple[list[dict[str, str]], ...] = (
    [_USER], [], [_SYSTEM, _USER], [_USER, _ASSISTANT, _USER], [_SYSTEM, _USER, _ASSISTANT, _USER],
)  # fmt: skip
_LONGEST_NAME, _LONGEST_PATH = 255, 4000  # bytes, characters
_LARGEST_WEIGHT = 1e6  # beyond, log-probabilities of 32 bits overflow sooner or later


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)

    @field_validator(
        "weight", "weight_top_p", "block", "parameters", mode="before", check_fields=False
    )
    @classmethod
    def _is_a_number(cls, value: Any) -> Any:
        if isinstance(value, bool):  # would count as 0 or 1
            raise ValueError("input should be a number, not true or false")
        return value


class MemberSpec(_Closed):
    """One model of a composite, and how to load it.

    Attributes:
        model: Hugging Face id, local folder, or ``demo:NAME`` of the demo family.
        revision: Branch, tag or commit on the hub.
        adapter: Hugging Face id or local folder of a PEFT adapter (LoRA and its kind) that is
            applied to ``model``; ``model`` may also name an adapter, whose own base is then taken.
        adapter_revision: Branch, tag or commit of the adapter on the hub.
        gguf_file: The GGUF file in ``model`` that holds all of it; ``model`` may also be the path
            of the file itself.
        dtype: Type of the weights; ``auto`` is what the checkpoint declares.
        head_dtype: What the output layer (``lm_head``) is computed in: ``model``, the type of the
            weights, or ``float32``.
        quantization: Load with bitsandbytes at 8 or 4 bits a weight.
        placement: ``cpu``, ``cuda``, ``cuda:N``, ``mps``, or ``auto`` to spread the weights
            over every device (accelerate); none: the run's device.
        prompt: Jinja template that this member's own prompt is rendered from, with the
            variables ``prompt`` (the text that the tuned member sees) and ``messages``
            (the chat turns, empty without a chat template); ``plain``: the turns' bare text.
            None: the same token sequence as the tuned member, as in the paper.
        parameters: Number of parameters, for memory estimates only.
    """

    model: str = Field(min_length=1)
    revision: str | None = None
    adapter: str | None = Field(default=None, min_length=1)
    adapter_revision: str | None = None
    gguf_file: str | None = Field(default=None, pattern=r"\.gguf$")
    dtype: Dtype = "auto"
    head_dtype: HeadDtype = "model"
    quantization: Quantization | None = None
    placement: str | None = Field(default=None, pattern=r"^(cpu|mps|auto|(cuda|xpu|npu)(:\d+)?)$")
    prompt: str | None = None
    parameters: int | None = Field(default=None, gt=0)

    @property
    def location(self) -> str:
        """What `transformers` is given: ``model``, or the folder of a shipped model."""
        return location_of(self.model)

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        return {"model": str(value)} if isinstance(value, (str, int, float)) else value

    @field_validator("model", "revision", "adapter", "adapter_revision", "gguf_file")
    @classmethod
    def _can_be_a_name(cls, name: str | None) -> str | None:
        longest = max(len(part.encode()) for part in (name or "").split("/"))
        if longest > _LONGEST_NAME or len(name or "") > _LONGEST_PATH:
            raise ValueError(f"names have at most {_LONGEST_NAME} bytes from slash to slash")
        return name

    @model_validator(mode="before")
    @classmethod
    def _from_gguf(cls, value: Any) -> Any:
        if isinstance(value, PathLike):
            value = fspath(value)
        elif isinstance(value, dict):
            value = {k: fspath(v) if isinstance(v, PathLike) else v for k, v in value.items()}
        model = value.get("model") if isinstance(value, dict) else value
        if not isinstance(model, str) or not model.endswith(".gguf"):
            return value
        folder, file = split_file(model)
        rest = value if isinstance(value, dict) else {}
        return {**rest, "model": folder, "gguf_file": file}

    @field_validator("dtype", "head_dtype", mode="before")
    @classmethod
    def _by_another_name(cls, value: Any) -> Any:
        name = str(value)
        if not isinstance(value, str) and not name.startswith("torch."):  # a type of torch's
            return value
        name = name.lower().removeprefix("torch.")
        return _DTYPE_NAMES.get(name, name)

    @model_validator(mode="after")
    def _fits_a_gguf_file(self) -> MemberSpec:
        if self.gguf_file is not None and self.quantization is not None:
            raise ValueError("a GGUF file has a quantisation of its own: leave 'quantization' out")
        return self

    @field_validator("prompt")
    @classmethod
    def _renders(cls, template: str | None) -> str | None:
        if template is None or template == PLAIN_PROMPT:
            return template
        check_prompt_template(template)
        # as Jinja reads it, so that a file, a block of YAML and a text are one recipe
        return template.replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n")


def is_template(text: str) -> bool:
    """Return whether a text holds any Jinja."""
    return any(mark in text for mark in ("{{", "{%", "{#"))


def check_prompt_template(template: str) -> None:
    """Raise ValueError unless ``template`` is valid Jinja over ``prompt`` and ``messages``.

    It is rendered with and without turns; one of the conversations must go well. A text without
    any Jinja is one that the member reads in place of every prompt, unless it looks like a path.
    """
    from eft_eval.templates import TemplateProblem, check_template, render

    if not is_template(template):
        _check_constant(template.strip())
    try:
        names = check_template(template)
    except TemplateProblem as error:
        raise ValueError(f"not a Jinja template: {error}") from error
    if unknown := names - {"prompt", "messages"}:
        raise ValueError(f"uses {sorted(unknown)}, but only 'prompt' and 'messages' are there")
    problems = []
    for turns in _CONVERSATIONS:
        try:
            render(template, {"prompt": "A question?", "messages": turns})
        except TemplateProblem as problem:
            problems.append(problem)
    if len(problems) == len(_CONVERSATIONS):
        raise ValueError(f"this template cannot be rendered: {problems[0]}")


def _check_constant(text: str) -> None:
    if match := _SINGLE_BRACES.search(text):
        raise ValueError(f"a value is shown with two braces: {{{{ {match[1]} }}}}")
    if _WORD_OR_PATH.fullmatch(text):
        raise ValueError(
            f"it looks like a path and is no template{nearest(text, [PLAIN_PROMPT])}; "
            "a file is @FILE or a path that ends in .jinja, a text shows {{ prompt }}"
        )


class Delta(_Closed):
    """A behaviour delta ``weight * (log p_tuned - log p_reference)`` (paper, Eq. 3)."""

    tuned: MemberSpec
    reference: MemberSpec
    weight: Annotated[FiniteFloat, Field(ge=-_LARGEST_WEIGHT, le=_LARGEST_WEIGHT)] = 1.0


class DecodingRule(_Closed):
    """How tokens are chosen from the composite.

    Attributes:
        weight_top_p: Top-p filter of the up-scaling weights (paper, section 4.4), in (0, 1];
            none: unfiltered, the paper's main results.
        block: Tokens drafted per round of speculative decoding; 0 is plain decoding. Never
            changes a sample, so it is no part of the recipe's name.
        sampling: ``coupled``: noise is a function of seed, prompt, repeat, timestep and token
            (paper, footnote 4), so that samples do not depend on the block. ``rejection``:
            drafts are accepted with probability min(1, p / q); exact in distribution only.
    """

    weight_top_p: float | None = Field(default=None, gt=0.0, le=1.0)
    block: Annotated[int, Field(ge=0)] | Literal["auto"] = "auto"
    sampling: Literal["coupled", "rejection"] = "coupled"


class Recipe(_Closed):
    """A composite model: a base plus weighted deltas and a decoding rule (paper, Eq. 4 and 5).

    Attributes:
        base: The model whose knowledge is used.
        deltas: What is added.
        decoding: How tokens are chosen.
        tokenizer_map: Special tokens of the (first) tuned member that other members call otherwise
            under the same id, by its own names.
        description: For people.
    """

    base: MemberSpec
    deltas: tuple[Delta, ...] = Field(min_length=1)
    decoding: DecodingRule = DecodingRule()
    tokenizer_map: dict[str, str] | None = None
    description: str | None = None

    @field_validator("tokenizer_map", mode="before")
    @classmethod
    def _from_json(cls, value: Any) -> Any:
        try:
            return json.loads(value) if isinstance(value, str) else value
        except (ValueError, RecursionError) as error:
            raise ValueError(f"no JSON mapping of token to token: {error}") from error

    @model_validator(mode="after")
    def _filter_fits(self) -> Recipe:
        if self.decoding.weight_top_p is not None and (
            len(self.deltas) != 1 or self.deltas[0].weight != 1.0
        ):
            raise ValueError(
                "decoding.weight_top_p is defined for exactly one delta of weight 1 "
                f"(paper, section 4.4); this recipe has weights {[d.weight for d in self.deltas]}"
            )
        return self

    @property
    def is_base_alone(self) -> bool:
        """Whether it is one model by itself: nothing but its base takes part."""
        return all(
            delta.weight == 0 and delta.tuned == delta.reference == self.base
            for delta in self.deltas
        )

    @property
    def members(self) -> tuple[tuple[str, MemberSpec], ...]:
        """Every role with its member: ``base``, then ``tuned``/``reference`` (numbered from 1
        where there are several deltas)."""
        roles = [("base", self.base)]
        for number, delta in enumerate(self.deltas, start=1):
            suffix = str(number) if len(self.deltas) > 1 else ""
            roles += [("tuned" + suffix, delta.tuned), ("reference" + suffix, delta.reference)]
        return tuple(roles)
