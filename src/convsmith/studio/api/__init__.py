"""Everything as JSON, below ``/api``."""

from __future__ import annotations

from fastapi import APIRouter

from convsmith.studio.api import files, jobs, machine, runs, verbs

router = APIRouter(prefix="/api")
for part in (runs, files, verbs, jobs, machine):
    router.include_router(part.router)
