"""What the studio is told when it starts: where it listens, who may come in, and what it may touch."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Settings(BaseModel):
    """The studio's settings: flags of `convsmith studio`, keys of its YAML file, arguments in Python."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    run: str = Field(
        "", json_schema_extra={"positional": True}, description="Run to open first: its name or the beginning of it, or 'last'"
    )
    root: Path | None = Field(None, description="Folder of runs; by default ./runs, or what CONVSMITH_RUNS names")
    host: str = Field("127.0.0.1", description="Address to listen on; one that others can reach needs a certificate, or --no-encryption")
    port: int = Field(8420, ge=0, le=65535, description="Port to listen on; 0 takes a free one")
    allow: tuple[Path, ...] = Field(
        (), description="More folders that images, weights and results may be in, besides this one and the runs"
    )
    names: tuple[str, ...] = Field((), description="More host names under which the studio may be asked for")
    password_file: Path | None = Field(None, description="File whose first line is a password, accepted beside the token")
    certificate: Path | None = Field(None, description="TLS certificate chain, PEM")
    key: Path | None = Field(None, description="TLS private key, PEM")
    encryption: bool = Field(True, description="Refuse to listen without TLS on an address that others can reach")
    upload_mb: int = Field(8192, ge=1, description="Largest upload of images, and most that an archive may hold, in MB")
    requests: int = Field(200, ge=1, description="Requests a second from one address, in the long run; twice as many at once")

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach the studio."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host.strip("[]")).is_loopback
        except ValueError:
            return False

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key belong together; give both, or neither")
        if not self.is_local and self.certificate is None and self.encryption:
            raise ValueError(
                f"others can reach {self.host}, and passwords and images would travel unencrypted: give certificate and key, "
                "or encryption=false where something else encrypts (--no-encryption)"
            )
        return self
