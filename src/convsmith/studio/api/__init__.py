"""Everything as JSON, below ``/api``."""

from __future__ import annotations

from fastapi import APIRouter

from convsmith.studio.api import answers, files, images, jobs, machine, networks, runs, sweeps, uploads, verbs

router = APIRouter(prefix="/api")
for part in (runs, files, answers, images, uploads, networks, verbs, jobs, machine, sweeps):
    router.include_router(part.router)
