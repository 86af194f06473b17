"""The OpenAPI document: every address for programs, read off the views themselves when the application is made."""

import re
from typing import Any

from flask import Flask
from werkzeug.routing import AnyConverter, IntegerConverter, Rule

from portal.web.guard import Kind, token

VERSION = "3.1.0"
PROBLEM = {
    "type": "object",
    "required": ["title", "status", "code"],
    "properties": {"title": {"type": "string"}, "status": {"type": "integer"}, "code": {"type": "string"}},
}
TEXT, WHOLE = {"type": "string"}, {"type": "integer", "minimum": 1}
# What an address reads from its query, where that is not all optional words.
QUERIES: dict[str, dict[str, dict[str, Any]]] = {
    "/api/decide": {"model": {**TEXT, "required": True}, "action": {"enum": ["download", "infer"]}},
    "/api/usage": {"limit": {**WHOLE, "maximum": 1000, "default": 100}, "before": WHOLE},
}
BODIES: dict[str, dict[str, Any]] = {
    "/api/credentials/revoke": {
        "type": "object",
        "required": ["credentials"],
        "properties": {"credentials": {"type": "array", "maxItems": 1000, "items": TEXT}},
    }
}


def mount(app: Flask, more: dict[str, Any]) -> None:
    """Answer `/api/openapi.json`; call it last, since it describes what is there.

    Args:
        more: addresses that others answer, described already.
    """

    @token()
    def openapi() -> dict[str, Any]:
        """Describe every address for programs as OpenAPI does."""
        return document

    app.add_url_rule("/api/openapi.json", "openapi", openapi)
    document = describe(app, more)


def describe(app: Flask, more: dict[str, Any]) -> dict[str, Any]:
    """Return the document."""
    paths: dict[str, Any] = {}
    for rule in sorted(app.url_map.iter_rules(), key=lambda each: each.rule):
        mark = getattr(app.view_functions[rule.endpoint], "portal_mark", None)
        if mark is not None and mark.kind is Kind.TOKEN:
            for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
                paths.setdefault(_path(rule), {})[method.lower()] = _operation(app, rule, mark.scope)
    return {
        "openapi": VERSION,
        "info": {"title": app.import_name.partition(".")[0], "version": "1"},
        "paths": paths | more,
        "components": {"securitySchemes": {"access token": {"type": "http", "scheme": "bearer"}}},
    }


def _path(rule: Rule) -> str:
    return re.sub(r"<(?:[^:<>]*:)?([^<>]*)>", r"{\1}", rule.rule)


def _part(rule: Rule, name: str) -> dict[str, Any]:
    """Describe what may stand in a variable part of an address."""
    converter = rule._converters[name]  # noqa: SLF001 - the library tells it nowhere else
    if isinstance(converter, AnyConverter):
        return {"enum": sorted(converter.items)}
    if isinstance(converter, IntegerConverter):
        return WHOLE | ({"maximum": converter.max} if converter.max else {})
    return TEXT


def _operation(app: Flask, rule: Rule, scope: str) -> dict[str, Any]:
    view = app.view_functions[rule.endpoint]
    summary = (view.__doc__ or "").strip().splitlines()[0]
    named = sorted(rule.arguments - set(rule.defaults or {}))
    parameters = [{"name": name, "in": "path", "required": True, "schema": _part(rule, name)} for name in named]
    for name, schema in QUERIES.get(rule.rule, {}).items():
        kept = {key: value for key, value in schema.items() if key != "required"}
        parameters.append({"name": name, "in": "query", "required": bool(schema.get("required")), "schema": kept})
    problem = {"application/problem+json": {"schema": PROBLEM}, "application/json": {"schema": {"type": "object"}}}
    described: dict[str, Any] = {
        "summary": f"{summary} Needs the scope {scope}." if scope else summary,
        "parameters": parameters,
        "responses": {
            "2XX": {"description": "done"},
            "4XX": {
                "description": "refused; the answer names the field or the reason, to Hub and OAuth clients in theirs",
                "content": problem,
            },
        },
        "security": [{"access token": []}] if scope else [{}, {"access token": []}],
    }
    if rule.rule in BODIES:
        content = {"application/json": {"schema": BODIES[rule.rule]}}
        described["requestBody"] = {"required": True, "content": content}
    return described
