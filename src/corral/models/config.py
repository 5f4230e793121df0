"""Reads a model's architecture out of what its config.json says; knows no file, no tensor and no engine.

Which key means what, family by family, stands in `corral.models.families`. Nothing is trusted: every number is held
against a limit, and numbers that contradict each other are refused by name.
"""

import re
from collections.abc import Mapping
from typing import Final

from pydantic import ValidationError

from corral.errors import BadInput
from corral.models.architecture import Block, ModelArchitecture
from corral.models.families.blocks import blocks_of, extra_of
from corral.models.families.draft import draft
from corral.models.families.layers import layer_count
from corral.models.families.towers import towers
from corral.models.families.traits import ALIASES, FAMILIES, Family
from corral.models.fields import Fields
from corral.models.parameters import parameters

_TEXT: Final = ("text_config", "llm_config", "language_config")
_CONTEXT: Final = ("max_position_embeddings", "n_positions", "n_ctx", "seq_length", "model_max_length")
_MOST: Final = 10**15  # parameters, a thousand times the largest model there is
# What a plain decoder needs to be counted at all, under any of its names.
_NEEDED: Final = (
    ("num_hidden_layers", "n_layer", "n_layers", "num_layers"),
    ("hidden_size", "n_embd", "d_model"),
    ("num_attention_heads", "n_head", "n_heads"),
    ("intermediate_size", "ffn_dim", "n_inner", "moe_intermediate_size"),
    ("vocab_size",),
)
_GUESSED: Final = Family(bias="asked", output_bias="asked", sparse="rules")


def architecture_from_config(
    config: Mapping[str, object],
    *,
    name: str,
    source: str,
    id: str,  # noqa: A002 - the value's own word
    estimate: bool = False,
) -> ModelArchitecture:
    """The architecture that a config.json describes; `source` says in messages and in the value where it was read.

    BadInput names the field that is missing or cannot be true, or the architecture that is not known; with `estimate`
    an unknown one is counted as a plain decoder of its common fields, and says so in its notes.
    """
    top = Fields(source, config)
    try:
        model = _read(top, name, id, estimate=estimate)
    except ValidationError as error:
        raise _impossible(source, error) from None
    counted = sum(parameters(model).values())
    if counted > _MOST:
        raise BadInput(
            f"{source}: the sizes in it make {counted:.0e} parameters, more than any model has.",
            "The file is damaged or was edited; fetch the model again or correct it.",
        )
    return model


def _read(top: Fields, name: str, known_as: str, *, estimate: bool) -> ModelArchitecture:
    fields = language_model(top)
    architecture = _architecture(top, fields)
    family, notes = _family(fields, architecture, estimate=estimate)
    layers = layer_count(fields)
    hidden = fields.count("hidden", "hidden_size", "n_embd", "d_model")
    blocks = blocks_of(fields, family, layers)
    drafted, draft_extra = draft(fields, family, blocks)
    seen, assumed = towers(top, hidden)
    kinds = tuple(dict.fromkeys(blocks))
    positions: dict[Block, int] = {block: index for index, block in enumerate(kinds)}
    return ModelArchitecture(
        id=known_as,
        name=name,
        architecture=architecture,
        hidden=hidden,
        vocabulary=fields.count("vocabulary", "vocab_size"),
        context=fields.count("context", *_CONTEXT, default=2048),
        tied=fields.flag("tie_word_embeddings", "tie_embedding", default=family.tied),
        blocks=kinds,
        order=tuple(positions[block] for block in blocks),
        draft=drafted,
        draft_extra=draft_extra,
        vision=seen,
        extra=extra_of(fields, layers, family),
        source=top.file,
        notes=(*notes, *assumed),
    )


def language_model(top: Fields) -> Fields:
    """The fields of the language model: those of its own section before those of the whole."""
    text = top.section(*_TEXT)
    if text is None or top.has("num_hidden_layers"):
        return top
    return Fields(top.file, {**top.values, **text.values})


def model_type(fields: Fields, architecture: str) -> str:
    """The family's name: the language model's model_type, else made of the class's name (Qwen3MoeForCausalLM)."""
    stated = fields.values.get("model_type")
    if isinstance(stated, str) and stated:
        return ALIASES.get(stated, stated)
    words = re.sub(r"(?:For[A-Z]\w*|Model)$", "", architecture)
    made = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", words).lower()
    return ALIASES.get(made, made)


def _architecture(top: Fields, fields: Fields) -> str:
    for values in (top, fields):
        named = values.items("architectures")
        if named:
            return str(named[0])[:100]
    stated = fields.values.get("model_type")
    if isinstance(stated, str) and stated:
        return stated[:100]
    raise BadInput(f"{top.file}: architectures is missing.", "Give the config.json of a language model.")


def _family(fields: Fields, architecture: str, *, estimate: bool) -> tuple[Family, tuple[str, ...]]:
    kind = model_type(fields, architecture)
    if kind in FAMILIES:
        return FAMILIES[kind], ()
    if estimate:
        note = f"The architecture {architecture} is not known: it is counted as a plain decoder of its common fields."
        return _GUESSED, (note,)
    lacking = [keys[0] for keys in _NEEDED if not any(fields.has(key) for key in keys)]
    missing = f" It lacks {', '.join(lacking)}, without which nothing can be estimated." if lacking else ""
    raise BadInput(
        f"{fields.file}: the architecture {architecture} ({kind[:60]}) is not known to this version of Corral."
        f"{missing}",
        "Update Corral."
        if lacking
        else "Update Corral, or ask for an estimate with --estimate, which counts it as a plain decoder.",
    )


def _impossible(source: str, error: ValidationError) -> BadInput:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"]) or "its architecture"
    return BadInput(
        f"{source}: {where} cannot be true: {first['msg'][:120]}.",
        "The file is damaged or was edited; fetch the model again or correct it.",
    )
