"""Small chat templates that behave as those of well-known families do, and a tokenizer for them.

They are ours; the families' own come with the trl package, where that is installed.
"""

from __future__ import annotations

import importlib.util
from functools import lru_cache
from pathlib import Path
from typing import Any

from tests.tiny_models import training_text

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Weather of a city",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string", "description": "its name"}},
                "required": ["city"],
            },
        },
    }
]

_ENDS = "{{ '<|im_end|>\n' }}"
_OPENS = "{{ '<|im_start|>assistant\n' }}"
_CALLS = (
    "{% for call in m.tool_calls or [] %}{{ ('\n' if m.content or not loop.first else '') + "
    "'<tool_call>\n' + call.function | tojson + "
    "'\n</tool_call>' }}{% endfor %}"
)

FAMILIES = {
    "chatml": (
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content }}"
        + _ENDS + "{% endfor %}{% if add_generation_prompt %}" + _OPENS + "{% endif %}"
    ),
    # Tools in the system turn, calls as JSON (qwen2.5).
    "tools": (
        "{% if tools %}{{ '<|im_start|>system\n' }}{% for t in tools %}{{ t | tojson + '\n' }}"
        "{% endfor %}" + _ENDS + "{% endif %}"
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content }}"
        + _CALLS + _ENDS + "{% endfor %}{% if add_generation_prompt %}" + _OPENS + "{% endif %}"
    ),
    # A template that always opens a block of reasoning in its prompts and never writes one
    # (deepseek-r1-distill): reasoning in the content is cut.
    "r1": (
        "{{ bos_token }}{% for m in messages %}"
        "{% if m.role == 'system' %}{{ m.content }}"
        "{% elif m.role == 'user' %}{{ '<|user|>' + m.content }}"
        "{% else %}{{ '<|assistant|>' + m.content.split('</think>')[-1] + eos_token }}{% endif %}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|><think>\n' }}{% endif %}"
    ),
    # Reasoning is written for turns after the last question only; an empty block where there is
    # none; enable_thinking=False closes the block in the prompt (qwen3).
    "hybrid": (
        "{% set ns = namespace(last=0) %}{% for m in messages %}"
        "{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}"
        "{% for m in messages %}{% set text = m.content %}{% set thought = '' %}"
        "{% if m.reasoning_content is string %}{% set thought = m.reasoning_content %}"
        "{% elif '</think>' in text %}"
        "{% set thought = text.split('</think>')[0].split('<think>')[-1].strip() %}"
        "{% set text = text.split('</think>')[-1].lstrip('\n') %}{% endif %}"
        "{{ '<|im_start|>' + m.role + '\n' }}"
        "{% if m.role == 'assistant' and loop.index0 > ns.last and (loop.last or thought) %}"
        "{{ '<think>\n' + thought + '\n</think>\n\n' }}{% endif %}"
        "{{ text }}" + _CALLS + _ENDS + "{% endfor %}"
        "{% if add_generation_prompt %}" + _OPENS +
        "{% if enable_thinking is defined and enable_thinking is false %}"
        "{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}"
    ),
    # As above, and the prompt opens the block (qwen3.5).
    "opened": (
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}"
        "{% if m.role == 'assistant' %}"
        "{{ '<think>\n' + (m.reasoning_content or '') + '\n</think>\n\n' }}{% endif %}"
        "{{ m.content }}" + _ENDS + "{% endfor %}"
        "{% if add_generation_prompt %}" + _OPENS +
        "{% if enable_thinking is defined and enable_thinking is false %}"
        "{{ '<think>\n\n</think>\n\n' }}{% else %}{{ '<think>\n' }}{% endif %}{% endif %}"
    ),
    # /no_think and /think in the system text are taken out of it and obeyed (smollm3).
    "switched": (
        "{% set ns = namespace(mode='/think', system='') %}"
        "{% if messages[0].role == 'system' %}{% set ns.system = messages[0].content %}"
        "{% if '/no_think' in ns.system %}{% set ns.mode = '/no_think' %}{% endif %}{% endif %}"
        "{{ '<|im_start|>system\nMode: ' + ns.mode + '\n' + "
        "ns.system.replace('/no_think', '').replace('/think', '').rstrip() }}" + _ENDS +
        "{% for m in messages if m.role != 'system' %}{{ '<|im_start|>' + m.role + '\n' }}"
        "{% if m.role == 'assistant' and ns.mode == '/no_think' %}"
        "{{ '<think>\n\n</think>\n' + m.content.lstrip('\n') }}"
        "{% else %}{{ m.content.lstrip('\n') }}{% endif %}" + _ENDS + "{% endfor %}"
        "{% if add_generation_prompt %}" + _OPENS +
        "{% if ns.mode == '/no_think' %}{{ '<think>\n\n</think>\n' }}{% endif %}{% endif %}"
    ),
    # The system text stands in the last user turn (mistral v0.3).
    "mistral": (
        "{{ bos_token }}{% if messages[0].role == 'system' %}{% set system = messages[0].content %}"
        "{% set turns = messages[1:] %}{% else %}{% set turns = messages %}{% endif %}"
        "{% for m in turns %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('After the optional system message, conversation roles must alternate "
        "user and assistant roles!') }}{% endif %}{% if m.role == 'user' %}{{ '[INST] ' }}"
        "{% if system is defined and loop.last %}{{ system + '\n\n' }}{% endif %}"
        "{{ m.content + '[/INST]' }}{% else %}{{ ' ' + m.content + eos_token }}{% endif %}"
        "{% endfor %}"
    ),
    # No system role; roles alternate; the assistant is called model (gemma).
    "gemma": (
        "{{ bos_token }}{% if messages[0].role == 'system' %}"
        "{{ raise_exception('System role not supported') }}{% endif %}"
        "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('Conversation roles must alternate') }}{% endif %}"
        "{{ '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) + '\n' + "
        "m.content | trim + '<end_of_turn>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
    ),
    # Roles that it does not know vanish.
    "deaf": (
        "{% for m in messages %}{% if m.role in ('user', 'assistant') %}"
        "{{ '<|im_start|>' + m.role + '\n' + m.content }}" + _ENDS + "{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}" + _OPENS + "{% endif %}"
    ),
    # Today's date in the system turn (llama 3.2), and an end of the text behind the last turn.
    "dated": (
        "{% if not date_string is defined %}{% if strftime_now is defined %}"
        "{% set date_string = strftime_now('%d %b %Y') %}{% else %}"
        "{% set date_string = '26 Jul 2024' %}{% endif %}{% endif %}"
        "{{ '<|im_start|>system\nToday: ' + date_string }}" + _ENDS +
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content }}"
        + _ENDS + "{% endfor %}{% if add_generation_prompt %}" + _OPENS +
        "{% else %}{{ '<|endoftext|>' }}{% endif %}"
    ),
    # Calls are written with their arguments as they are: JSON text is wanted (deepseek).
    "texts": (
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content }}"
        "{% for call in m.tool_calls or [] %}{{ '<tool_call>' + call.function.name + '\n' + "
        "call.function.arguments + '</tool_call>' }}{% endfor %}" + _ENDS + "{% endfor %}"
        "{% if add_generation_prompt %}" + _OPENS + "{% endif %}"
    ),
}  # fmt: skip

SPECIALS = (
    "<|pad|>", "<|bos|>", "<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|user|>",
    "<|assistant|>", "[INST]", "[/INST]", "<start_of_turn>", "<end_of_turn>",
)  # fmt: skip
PLAIN = ("<think>", "</think>", "<tool_call>", "</tool_call>")
_EOS = {"gemma": "<end_of_turn>", "mistral": "<|endoftext|>", "r1": "<|endoftext|>"}


def tokenizer(template: str | dict[str, str] | None, *, kind: str = "bytes", eos: str = "") -> Any:
    """A tokenizer with one of FAMILIES by name, or with a template of its own.

    Args:
        kind: "bytes" (GPT-2's, Llama 3's kind), "metaspace" (SentencePiece as it is now), or
            "legacy" (SentencePiece as Llama 2 has it, a space before any text).
    """
    from transformers import PreTrainedTokenizerFast

    found = FAMILIES.get(template, template) if isinstance(template, str) else template
    name = template if isinstance(template, str) else ""
    made = PreTrainedTokenizerFast(
        tokenizer_object=_trained(kind),
        bos_token="<|bos|>",
        eos_token=eos or _EOS.get(name, "<|im_end|>"),
        pad_token="<|pad|>",
    )
    made.chat_template = found
    return made


def _trained(kind: str) -> Any:
    from tokenizers import Tokenizer

    return Tokenizer.from_str(_trained_json(kind))


@lru_cache
def _trained_json(kind: str) -> str:
    from tokenizers import (
        AddedToken,
        Regex,
        Tokenizer,
        decoders,
        models,
        normalizers,
        pre_tokenizers,
        trainers,
    )

    made = Tokenizer(models.BPE(byte_fallback=kind != "bytes", unk_token=None))
    specials = list(SPECIALS)
    texts = [*training_text(), "<think>\n\n</think>\n\nyes\n\n\nno\n \n  \n"] * 2
    if kind == "bytes":
        split = pre_tokenizers.Split(
            Regex(r"[^\s\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
                  r"\s+(?!\S)|\s+"), "isolated",
        )  # fmt: skip
        made.pre_tokenizer = pre_tokenizers.Sequence(
            [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
        )
        made.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
    else:
        if kind == "legacy":
            made.normalizer = normalizers.Sequence(
                [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
            )
        else:
            made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
        made.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
             decoders.Strip(" ", 1, 0)]
        )  # fmt: skip
        alphabet = []
        specials += [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=900, special_tokens=specials, initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator(texts, trainer)
    made.add_tokens([AddedToken(text, special=False, normalized=False) for text in PLAIN])
    return made.to_str()


@lru_cache
def trl_templates() -> dict[str, str]:
    """{"trl/qwen3": template, …} of the trl package; empty where it is not installed."""
    found = importlib.util.find_spec("trl")
    if found is None or found.origin is None:
        return {}
    folder = Path(found.origin).parent / "chat_templates"
    return {f"trl/{path.stem}": path.read_text() for path in sorted(folder.glob("*.jinja"))}
