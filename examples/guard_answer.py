"""Which tags of an assistant's answer may run, from Python: python examples/guard_answer.py

Needs the extra `shell` (pip install 'livery[shell]'). Nothing is run here.
"""

from livery.skills.actions.guard import guard

answer = """I clean up. May I delete the build folder?
[SHELL]git status[/SHELL]
[SHELL]rm -r build[/SHELL]
[SHELL]rm -rf ~[/SHELL]"""

first = guard(answer)
for name in ("allowed", "to_confirm", "blocked"):
    for judged in getattr(first, name):
        print(f"{name}: {judged.tag.argument} ({judged.risk.level.name.lower()})")
        for reason in judged.risk.reasons:
            print(f"    {reason}")

# The user's yes releases exactly what was asked for, in the next turn.
then = guard("[SHELL]rm -r build[/SHELL]", asked=first, said="yes, go ahead")
print("after a yes, allowed:", [judged.tag.argument for judged in then.allowed])
