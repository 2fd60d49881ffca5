"""What the machine is doing."""

from __future__ import annotations

from fastapi import APIRouter

from convsmith.studio import hardware
from convsmith.studio.state import Here, Json

router = APIRouter(tags=["machine"])


@router.get("/machine")
def machine(here: Here) -> Json:
    """Tell the load of processors, memory, disk and GPUs."""
    return Json(hardware.now(here.root))
