"""The teacher: a large model, asked over HTTP for what JSON Schemas describe, and never in vain.

    teacher = find_teacher()                        # model and address, as the user has set them
    questions = [Question("colours/1", messages, schema)]
    print(make_plan(questions, teacher, "out/teacher/records.sqlite").describe())
    for result in ask(questions, teacher, "out/teacher/records.sqlite"):
        result.value                                # valid under the schema, or None
        result.fault                                # why there is none
        result.provenance                           # model, tokens, cost, what was repaired

`datagen` asks it for data and `eval` for verdicts, and neither imports the other: so it is here.
"""

from livery.teacher.asking import ask, ask_each
from livery.teacher.plan import Plan, make_plan
from livery.teacher.question import Fault, Parameters, Question, Result
from livery.teacher.settings import DEFAULT_MODEL, Teacher, find_teacher

__all__ = [
    "DEFAULT_MODEL",
    "Fault",
    "Parameters",
    "Plan",
    "Question",
    "Result",
    "Teacher",
    "ask",
    "ask_each",
    "find_teacher",
    "make_plan",
]
