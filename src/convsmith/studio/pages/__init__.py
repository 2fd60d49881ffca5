"""The pages a person looks at."""

from __future__ import annotations

from fastapi import APIRouter

from convsmith.studio.pages import compare, entrance, home, images, new, queue, reference, run, sweeps

router = APIRouter(include_in_schema=False)
for part in (compare, entrance, home, images, new, queue, reference, run, sweeps):
    router.include_router(part.router)
