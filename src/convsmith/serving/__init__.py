"""An exported file behind HTTP: requests batched, worker processes supervised, KServe v2 spoken. No torch here."""

from convsmith.serving.limits import Batching, Limits
from convsmith.serving.server import Server, Service

__all__ = ["Batching", "Limits", "Server", "Service"]
