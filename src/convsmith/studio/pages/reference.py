"""The REST interface, documented from its own description."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from convsmith.studio.rendering import page

router = APIRouter()


@router.get("/api")
def reference(request: Request) -> Response:
    """Show every address with its arguments."""
    described = request.app.openapi()
    groups: dict[str, list[dict[str, Any]]] = {}
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            groups.setdefault((operation.get("tags") or ["more"])[0], []).append(
                {
                    "method": method.upper(),
                    "path": path,
                    "about": operation.get("description", ""),
                    "parameters": operation.get("parameters", []),
                    "body": _body(operation, described),
                }
            )
    return page(request, "reference.html", about=described["info"]["description"], groups=groups, base=str(request.base_url))


def _body(operation: dict[str, Any], described: dict[str, Any]) -> list[dict[str, str]]:
    content = (operation.get("requestBody") or {}).get("content") or {}
    found = []
    for kind, media in content.items():
        name = str(media.get("schema", {}).get("$ref", "")).rpartition("/")[2]
        schema = described.get("components", {}).get("schemas", {}).get(name, media.get("schema", {}))
        found += [
            {"name": key, "kind": kind, "about": str(value.get("description", ""))} for key, value in schema.get("properties", {}).items()
        ]
    return found
