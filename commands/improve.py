"""`livery promote`, `livery data review`, `livery data merge`: from a log to a better adapter."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import click

from commands.eval import TOKENS_EVAL, command_line, prepare, show, tell
from commands.options import Finite
from livery.engines.engine import DEFAULT_SHOWN, default_engine, engine_names
from livery.errors import TargetMissed, UserError, counted, printable, shown
from livery.files import CannotWrite


@click.command(name="promote", short_help="Use a new adapter in place of another, if it is better.")
@click.argument("skill", required=False)
@click.argument("new", required=False)
@click.option("--over", "current", metavar="DIR", help="The adapter in use, which NEW replaces.")
@click.option("--roll-back", metavar="DIR", help="Give this adapter's folder what it had before.")
@click.option("--data", metavar="FILE", help="Your own cases, JSON lines.")
@click.option(
    "--set", "cases", metavar="NAME", default="", help="One of the skill's sets of cases."
)
@click.option(
    "--no-worse", multiple=True, metavar="METRIC",
    help="A metric that must not get worse, beside the skill's safety metrics. May be repeated.",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Compare, and replace nothing.")
@click.option(
    "--engine", type=click.Choice([name for name in engine_names() if name != "http"]),
    default=default_engine, show_default=DEFAULT_SHOWN, help="What runs the model.",
)  # fmt: skip
@click.option("--model", metavar="ID_OR_PATH", help="Base model; by default each adapter's own.")
@click.option(
    "--max-tokens", type=int, default=TOKENS_EVAL, show_default=True, help="Longest answer."
)
@click.option("--threads", type=click.IntRange(min=1), help="Threads on a CPU; else measured.")
@click.option("--json", "as_json", is_flag=True, help="Print the verdict as one JSON object.")
def promote_command(
    skill: str | None,
    new: str | None,
    current: str | None,
    roll_back: str | None,
    as_json: bool,
    **options: Any,
) -> int:
    """Put the adapter NEW in the place of another one, if it is better at SKILL.

    Both answer the same cases. NEW is better if more of them are right, by McNemar's mid-p below
    0.05, and no safety metric of the skill got worse by a single case. Cases that stand in training
    data do not count. Otherwise nothing is replaced, the figures say why, and the exit code is 3.
    What is replaced is kept beside it (DIR.kept/0001) until you remove it.

    \b
    Examples:
      livery promote persona adapters/persona-2 --over adapters/persona
      livery promote persona adapters/persona-2 --over adapters/persona --set second --dry-run
      livery promote --roll-back adapters/persona
    """
    from eval import promotion, versions
    from eval.evaluate import Request
    from livery.engines.engine import Decoding

    if roll_back is not None:
        if skill or new or current:
            raise click.UsageError("--roll-back takes the folder alone.")
        kept = versions.roll_back(roll_back)
        if as_json:
            click.echo(json.dumps({"rolled_back": roll_back, "kept": str(kept)}))
        else:
            click.echo(f"{shown(roll_back)} is what it was before; the other is in {shown(kept)}.")
        return 0
    if skill is None or new is None or current is None:
        raise click.UsageError("Give SKILL, NEW and --over DIR; or --roll-back DIR.")
    if options["data"] and options["cases"]:
        raise click.UsageError("--data and --set each name the cases: choose one.")
    fresh, place = promotion.places(new, current)
    prepare(options["engine"], options["threads"])
    request = Request(
        skill=skill, engine=options["engine"], model=options["model"], data=options["data"],
        cases=options["cases"], threads=options["threads"], command=command_line(),
        decoding=Decoding(options["max_tokens"]),
    )  # fmt: skip
    verdict = promotion.compare_adapters(
        request, new, current, no_worse=options["no_worse"], show=show, tell=tell
    )
    done = verdict.better and not options["dry_run"]
    kept = versions.put(fresh, place, verdict.as_dict()) if done else None
    if as_json:
        said = {"promoted": done, "kept": kept and str(kept), **verdict.as_dict()}
        click.echo(json.dumps(said, ensure_ascii=False))
    else:
        _print_verdict(verdict)
        why = "; ".join(verdict.reasons)
        if not verdict.better:
            click.echo(printable(f"Not promoted: {why}."), err=True)
        elif done:
            click.echo(printable(f"Promoted: {why}."))
            click.echo(printable(f"{current} is now {new}; what it was before is in {kept}."))
            click.echo(printable(f"To go back: livery promote --roll-back {current}"))
        else:
            click.echo(printable(f"Would be promoted: {why}."))
    return 0 if verdict.better else TargetMissed.exit_code


def _print_verdict(verdict: Any) -> None:
    from livery.skills import CORRECT

    if verdict.leaked:
        click.echo(f"{counted(len(verdict.leaked), 'case')} of the training data left out.")
    for name, one in verdict.metrics.items():
        if one is None or (name != CORRECT.name and not one["difference"]):
            continue
        sure = {None: "within chance", True: "better", False: "worse"}[one["better"]]
        click.echo(
            f"{name:<28} {one['before']:>8.3f} -> {one['after']:<8.3f} "
            f"p = {one['p_value']:.2g}  {sure}"
        )


# -- review ----------------------------------------------------------------------------------------

_KEYS = {"a": "approve", "u": "correct", "c": "correct", "d": "drop", "s": "skip", "q": "quit"}
_LONGEST = 2_000  # signs of one turn that are shown


@click.command(name="review", short_help="Look through logged interactions, one at a time.")
@click.argument("log", type=click.Path(path_type=Path))
@click.option("--skill", required=True, help="Whose contract and scorer judge the answers.")
@click.option(
    "--all", "every", is_flag=True, help="Show every answer, not only weak and marked ones."
)
@click.option("--again", is_flag=True, help="Show answers that were decided before, too.")
@click.option(
    "--approve-marked", is_flag=True,
    help="Ask nothing: approve what the user marked good, correct what the user corrected, drop "
    "what was marked bad.",
)  # fmt: skip
@click.option(
    "--decide", "decided", metavar="ID", help="Decide on this interaction alone, without asking."
)
@click.option(
    "--choice",
    type=click.Choice(["approve", "correct", "drop"]),
    help="The decision, for --decide.",
)
@click.option("--answer", default="", help="For --choice correct: the right answer.")
@click.option(
    "--confidence", type=Finite(0, 1), default=0.9, show_default=True,
    help="A logged confidence below this makes an answer weak.",
)  # fmt: skip
@click.option("--by", default="", help="Who decides.  [default: your user name]")
@click.option("--json", "as_json", is_flag=True, help="Print them as one JSON object; ask nothing.")
def review_command(
    log: Path,
    skill: str,
    every: bool,
    again: bool,
    approve_marked: bool,
    decided: str | None,
    choice: Any,
    answer: str,
    confidence: float,
    by: str,
    as_json: bool,
) -> int:
    """Approve, correct or drop the interactions of LOG, the weak and the marked ones first of all.

    Weak is an answer that breaks the skill's contract, was cut off, repeats itself, or that the
    skill's scorer, post-processor or guard objects to. Decisions go to LOG.reviewed; give the same
    command again to go on where you stopped.

    \b
    Examples:
      livery data review interactions.jsonl --skill persona
      livery data review interactions.jsonl --skill persona --approve-marked
      livery data review interactions.jsonl --skill persona --json
      livery data review interactions.jsonl --skill persona --decide 3f9a0c61 --choice drop
    """
    from datagen import review
    from eval.weak import finder

    if (decided is None) is not (choice is None):
        raise click.UsageError("--decide and --choice go together.")
    found, notes = review.of_skill(log, skill)
    if decided is not None:
        one = next((one for one in found if one.id == decided), None)
        if one is None:
            raise UserError(f"{shown(log)}: has no interaction {shown(decided, 60)} of {skill}.")
        made_now = review.decide(log, one, choice, skill=skill, answer=answer, by=by)
        click.echo(json.dumps(vars(made_now)) if as_json else f"{made_now.id}: {made_now.choice}")
        return 0
    done = {} if again else review.decisions(log)
    weak_in = finder(skill, confidence)
    reasons = {one.id: weak_in(one) for one in found}
    wanted = [
        one for one in found
        if one.id not in done and (every or one.mark is not None or reasons[one.id])
    ]  # fmt: skip
    made: dict[str, str] = {}
    refused: dict[str, str] = {}
    if approve_marked:
        for one in wanted:
            try:
                decision = review.decide_marked(log, one, skill=skill, by=by)
            except UserError as error:
                refused[one.id] = str(error)
            else:
                made |= {one.id: decision.choice} if decision is not None else {}
    if as_json:
        items = [
            {**dataclasses.asdict(one), "weak": list(reasons[one.id]),
             "decision": made.get(one.id), "refused": refused.get(one.id)}
            for one in wanted
        ]  # fmt: skip
        click.echo(json.dumps({"interactions": items, "notes": notes}, ensure_ascii=False))
        return 0
    for note in notes:
        click.echo(printable(f"note: {note}"), err=True)
    if not approve_marked:
        _ask_each(log, wanted, reasons, made, skill=skill, by=by)
    for id, why in refused.items():
        click.echo(printable(f"note: {id} stays undecided: {why}"), err=True)
    each = ", ".join(f"{list(made.values()).count(c)} {said}" for c, said in (
        ("approve", "approved"), ("correct", "corrected"), ("drop", "dropped")))  # fmt: skip
    click.echo(f"{each}; {len(wanted) - len(made)} left to look at.")
    return 0


def _ask_each(
    log: Path, wanted: Any, reasons: Any, made: dict[str, str], *, skill: str, by: str
) -> None:
    from datagen import review

    for at, one in enumerate(wanted, start=1):
        click.echo(f"[{at}/{len(wanted)}] {_shown_interaction(one, reasons[one.id])}")
        corrected = one.mark.corrected if one.mark is not None else ""
        while True:
            asked = "[a]pprove [c]orrect [d]rop [s]kip [q]uit"
            said = _line(f"{asked} [u]ser's correction: " if corrected else f"{asked}: ")
            typed = "q" if said is None else said.strip().lower()[:1]
            key = _KEYS.get(typed, "")
            if key == "quit":
                return
            if key == "skip":
                break
            if not key or (typed == "u" and not corrected):
                continue
            answer = corrected if typed == "u" else ""
            if key == "correct" and not answer:
                answer = (_line("The right answer (\\n for a new line): ") or "").replace(
                    "\\n", "\n"
                )
            try:
                review.decide(log, one, key, skill=skill, answer=answer, by=by)  # pyright: ignore[reportArgumentType]
            except CannotWrite:
                raise
            except UserError as error:
                click.echo(printable(f"{error}"))
                continue
            made[one.id] = key
            break


def _line(prompt: str) -> str | None:
    """A line that the user types; None at the end of the input."""
    click.echo(prompt, nl=False)
    line = sys.stdin.readline()
    return line.rstrip("\n") if line else None


def _shown_interaction(one: Any, weak: tuple[str, ...]) -> str:
    """An interaction for a terminal: nothing in it moves the cursor or passes for our own words."""
    lines = [f"{shown(one.at, 40)}  {shown(one.id, 40)}"]
    lines += [f"  because: {shown('; '.join(weak), 400)}"] if weak else []
    turns = [(turn["role"], turn["content"]) for turn in one.messages]
    turns.append(("answer", one.answer))
    if one.mark is not None:
        turns.append((f"marked {one.mark.verdict}", one.mark.corrected))
    for role, text in turns:
        cut = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}… ({len(text):,} characters)"
        said = "\n".join(f"    | {shown(line, 10_000)}" for line in cut.split("\n"))
        lines.append(f"  {role}:\n{said}" if text else f"  {role}")
    return "\n".join(lines)


# -- merge -----------------------------------------------------------------------------------------


@click.command(name="merge", short_help="Add approved interactions to a folder of data.")
@click.argument("log", type=click.Path(path_type=Path))
@click.option("--skill", required=True, help="Whose data it is.")
@click.option(
    "--data", required=True, type=click.Path(path_type=Path), help="Folder of the skill's data."
)
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="New folder to write."
)  # fmt: skip
@click.option(
    "--replace", is_flag=True,
    help="Where a row of the data asks the same and answers otherwise, take the approved answer.",
)  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Replace what an earlier merge wrote to --out.")
@click.option("--json", "as_json", is_flag=True, help="Print what came of it as one JSON object.")
def merge_command(log: Path, as_json: bool, **options: Any) -> int:
    """Write a new folder of data with the approved interactions of LOG among its training rows.

    Rows that are there already, or that give away a validation or test case, are left out and
    named. Each row says which interaction it is from, and who approved it and when.

    \b
    Examples:
      livery data merge interactions.jsonl --skill persona --data data/persona --out data/persona-2
      livery train --data data/persona-2 --output-dir adapters/persona-2
    """
    from datagen.merge import merge

    found = merge(log, **options)
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(found), ensure_ascii=False))
        return 0
    for why in found.left_out:
        click.echo(printable(f"left out: {why}"), err=True)
    gave = f", {found.replaced} of the data replaced" if found.replaced else ""
    click.echo(f"{shown(found.out)}: {counted(len(found.added), 'interaction')} added{gave}.")
    return 0
