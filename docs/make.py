"""Write the parts of the documentation that the code knows best.

    python -m docs.make          # after changing a command, a flag or a setting

docs/cli.md is every command's --help; docs/configuration.md has the table of settings between two
marks. A test holds both to what this program writes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from livery.cli import cli
from livery.config.layers import defaults
from livery.config.options import Option
from livery.config.settings import OPTIONS
from livery.config.values import Switch

DOCS = Path(__file__).resolve().parent
WIDTH = 100
MARKS = ("<!-- settings: written by docs/make.py -->", "<!-- end of settings -->")


def cli_page() -> str:
    """docs/cli.md."""
    parts = [
        "# The command line",
        "",
        "Every command's `--help`, as `python -m docs.make` wrote it. `python -m mlx_train`,",
        "`python -m datagen`, `python -m eval` are the commands `train`, `data` and `eval`.",
        "",
        "Exit codes: 0 done, 1 your data or input is wrong, 2 usage, 3 a target was missed,",
        "70 a fault of Livery's own, 130 interrupted. With `--json` errors are JSON too:",
        '`{"error": {"message": …, "exit_code": …}}`.',
    ]
    for path, text in help_texts(cli, "livery"):
        parts += ["", f"## {path}", "", "```text", text.rstrip(), "```"]
    return "\n".join(parts) + "\n"


def help_texts(
    command: click.Command, name: str, parent: click.Context | None = None
) -> list[tuple[str, str]]:
    """(command, its help at a fixed width), depth first."""
    settings = {**command.context_settings, "max_content_width": WIDTH}
    context = click.Context(command, parent, info_name=name, terminal_width=WIDTH, **settings)
    found = [(context.command_path, command.get_help(context))]
    if isinstance(command, click.Group):
        for child_name in command.list_commands(context):
            child = command.get_command(context, child_name)
            if child is not None:
                found += help_texts(child, child_name, context)
    return found


def settings_table() -> str:
    """The table of docs/configuration.md, marks included."""
    lines = [MARKS[0], "", "| key | flags | variable | default | |", "|---|---|---|---|---|"]
    values: dict[str, Any] = {name: value.value for name, value in defaults().items()}
    for option in OPTIONS:
        flags = "<br>".join(f"`{flag.split('/')[0]}`" for flag in option.flags)
        if isinstance(option.kind, Switch):
            flags += f"<br>`{option.flags[0].split('/')[1]}`"
        variables = "<br>".join(f"`{name}`" for name in option.environment())
        lines.append(
            f"| {_keys(option)} | {flags} | {variables} | {_default(option, values)} "
            f"| {option.help} |"
        )
    return "\n".join([*lines, "", MARKS[1]])


def configuration_page(page: str) -> str:
    """docs/configuration.md with its table rewritten."""
    before, rest = page.split(MARKS[0])
    return before + settings_table() + rest.split(MARKS[1])[1]


def _keys(option: Option) -> str:
    return "<br>".join(f"`{key}`" for key in (option.key, *option.also))


def _default(option: Option, values: dict[str, Any]) -> str:
    if option.name not in values:
        return ""
    value = values[option.name]
    if option.name == "lora.dora":
        return "`lora`"
    if value is None or value == ():
        return "not set"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def main() -> None:
    """Write both pages."""
    (DOCS / "cli.md").write_text(cli_page(), encoding="utf-8")
    page = DOCS / "configuration.md"
    page.write_text(configuration_page(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
