"""Skill dsl: a JSON Schema of a query language and a request in, one AST of that language out.

    from livery.skills import dsl
    request = dsl.Request(schema, "tickets still open since May", "2026-06-14")
    dsl.messages(request)                         # what the model is asked
    ast = dsl.parse(answer)                       # AnswerError where it is no JSON object
    dsl.find_faults(ast, schema)                  # [] where it is valid under the schema
    dsl.same_meaning(ast, expected)               # order-free where order has no meaning

The schema is any of JSON Schema draft-07; the form that the data have is that of
`base_schema_template.json`. Conventions of the data: the AST repeats the query as `prompt`; steps
are called step_1, step_2; a step's description lists its fields; values are texts; a timeframe
holds both of its days, and "" where a side is open; what the schema cannot express is refused.
"""

from livery.skills.contract import Skill
from livery.skills.dsl.ast import (
    GROUPS,
    Ast,
    canonical,
    canonical_text,
    conditions,
    depth,
    make_steps,
    parse,
    render,
    same_meaning,
)
from livery.skills.dsl.compare import difference
from livery.skills.dsl.prompt import (
    Request,
    compact,
    is_date,
    messages,
    prompt_text,
    read_prompt,
)
from livery.skills.dsl.schema import (
    KINDS,
    PATTERNS,
    TEMPLATE,
    Fault,
    Vocabulary,
    build_schema,
    check_schema,
    find_faults,
    vocabulary,
)
from livery.skills.dsl.sets import hand_written, is_short, read_short

VERSION = "1.0"
LONGEST_ANSWER = 4096

SKILL = Skill(
    name="dsl",
    version=VERSION,
    messages=lambda request, ast=None: messages(request, None if ast is None else render(ast)),
    render=render,
    parse=parse,
    max_length=2048,
    summary="Queries in English and French as JSON ASTs of a schema that the prompt holds.",
)

__all__ = [
    "GROUPS",
    "KINDS",
    "LONGEST_ANSWER",
    "PATTERNS",
    "SKILL",
    "TEMPLATE",
    "VERSION",
    "Ast",
    "Fault",
    "Request",
    "Vocabulary",
    "build_schema",
    "canonical",
    "canonical_text",
    "check_schema",
    "compact",
    "conditions",
    "depth",
    "difference",
    "find_faults",
    "hand_written",
    "is_date",
    "is_short",
    "make_steps",
    "messages",
    "parse",
    "prompt_text",
    "read_prompt",
    "read_short",
    "render",
    "same_meaning",
    "vocabulary",
]
