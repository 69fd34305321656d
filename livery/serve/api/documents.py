"""The API's documentation as a page: made of the OpenAPI document, without scripts or network."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response

router = APIRouter(include_in_schema=False)
STYLE = """\
:root { color-scheme: light dark; }
body { font: 1rem/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem; }
details { border: 1px solid #8886; border-radius: .4rem; margin: .5rem 0; padding: .4rem .8rem; }
summary { cursor: pointer; }
code, pre { font-family: ui-monospace, monospace; font-size: .9em; }
pre { overflow-x: auto; }
table { border-collapse: collapse; }
th, td { border-bottom: 1px solid #8884; padding: .2rem .8rem .2rem 0; text-align: left; }
.method { display: inline-block; font-weight: bold; min-width: 4.5rem; }
"""


@router.get("/docs", response_class=HTMLResponse)
def documentation(request: Request) -> HTMLResponse:
    """Every operation with its parameters, body and answer."""
    document = request.app.openapi()
    return HTMLResponse("".join(_page(document)))


@router.get("/docs/style.css", response_class=Response)
def style() -> Response:
    """How the page looks."""
    return Response(STYLE, media_type="text/css")


def _page(document: Mapping[str, Any]) -> Iterator[str]:
    info = document["info"]
    title = escape(f"{info['title']} {info['version']}")
    yield (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}: API</title>"
        f'<link rel="stylesheet" href="/docs/style.css"></head><body><main><h1>{title}: API</h1>'
    )
    for paragraph in info["description"].strip().split("\n\n"):
        yield f"<p>{escape(paragraph)}</p>"
    yield '<p>For programs: <a href="/openapi.json">openapi.json</a> (OpenAPI 3.1).</p>'
    groups: dict[str, list[tuple[str, str, Any]]] = {}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            tag = (operation.get("tags") or ["other"])[0]
            groups.setdefault(tag, []).append((method.upper(), path, operation))
    for tag, operations in groups.items():
        yield f"<h2>{escape(tag)}</h2>"
        for method, path, operation in operations:
            yield from _operation(document, method, path, operation)
    yield "</main></body></html>"


def _operation(
    document: Mapping[str, Any], method: str, path: str, operation: Mapping[str, Any]
) -> Iterator[str]:
    said = operation.get("description", operation.get("summary", ""))
    first = said.split("\n\n")[0]
    yield (
        f'<details><summary><span class="method">{method}</span> <code>{escape(path)}</code> '
        f"{escape(first)}</summary>"
    )
    for paragraph in said.split("\n\n")[1:]:
        yield f"<p>{escape(paragraph)}</p>"
    if parameters := operation.get("parameters"):
        yield "<h3>Parameters</h3><table><tr><th>name</th><th>in</th><th>value</th><th></th></tr>"
        for one in parameters:
            needed = "" if one.get("required") else ", optional"
            yield (
                f"<tr><td><code>{escape(one['name'])}</code></td><td>{escape(one['in'])}{needed}"
                f"</td><td>{escape(_type(one['schema']))}</td>"
                f"<td>{escape(one.get('description', ''))}</td></tr>"
            )
        yield "</table>"
    for kind, body in operation.get("requestBody", {}).get("content", {}).items():
        yield f"<h3>Body: {escape(kind)}</h3>{_schema(document, body.get('schema', {}))}"
    for status, answer in operation.get("responses", {}).items():
        if status in ("default", "422"):
            continue
        kinds = answer.get("content", {})
        yield f"<h3>Answer {escape(status)}: {escape(', '.join(kinds) or 'empty')}</h3>"
        for body in kinds.values():
            yield _schema(document, body.get("schema", {}))
    yield "</details>"


def _schema(document: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """The schema with the one it refers to in its place; those further in stay names."""
    name = str(schema.get("$ref", "")).rpartition("/")[2]
    if name:
        schema = document["components"]["schemas"][name]
    if not schema:
        return ""
    return f"<pre>{escape(json.dumps(schema, indent=1, ensure_ascii=False))}</pre>"


def _type(schema: Mapping[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(_type(one) for one in schema["anyOf"])
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    kind = str(schema.get("type", "value"))
    bounds = [f"{word} {schema[key]}" for word, key in
              (("from", "minimum"), ("to", "maximum")) if key in schema]  # fmt: skip
    default = [f"default {schema['default']}"] if schema.get("default") is not None else []
    return ", ".join([kind, *bounds, *default])
