"""What the description of the interface allows never brings the server down."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings

from convsmith.errors import UsageError


class Unwilling:
    """Stands for the process with torch and for the queue, whose own tests start them: here hundreds of requests would."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []

    def ask(self, kind: str, **task: Any) -> Any:
        raise UsageError(f"{kind} is not asked here")

    def submit(self, verb: str, arguments: Mapping[str, Any]) -> int:
        self.asked.append((verb, arguments))
        return len(self.asked)

    def jobs(self) -> list[Any]:
        return []

    def get(self, number: int) -> Any:
        raise UsageError(f"there is no job {number}")

    def prioritise(self, number: int, priority: int) -> Any:
        raise UsageError(f"job {number} is not waiting")

    abort = resume = get


@pytest.mark.slow
def test_no_request_of_the_documented_form_is_a_fault(made: FastAPI) -> None:
    made.state.studio.looker = made.state.studio.queue = Unwilling()
    headers = {"authorization": f"Bearer {made.state.studio.entry.token}", "host": "127.0.0.1:8420"}
    schema = schemathesis.openapi.from_asgi("/api/openapi.json", made, headers=headers)
    seen: dict[str, set[int]] = {}
    for found in schema.get_all_operations():
        operation = found.ok()

        @settings(max_examples=6, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy())
        def ask(case: Any) -> None:
            response = case.call(headers=headers)
            assert response.status_code < 500, (case.method, case.path, response.text)
            seen.setdefault(f"{case.method} {case.path}", set()).add(response.status_code)

        ask()
    assert set(seen) == {f"{method.upper()} {path}" for path, methods in made.openapi()["paths"].items() for method in methods}
    assert 429 not in set().union(*seen.values()), "no request was turned away unseen"
