"""What one pod asks for."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from dcod.config.base import Section

Cpu = Annotated[str, Field(pattern=r"^\d+(\.\d+|m)?$")]
Memory = Annotated[str, Field(pattern=r"^\d+(Mi|Gi|Ti)$")]


class PodConfig(Section):
    """What one pod asks for; it gets no more memory than that, and as many CPUs as ``cpu_limit``."""

    cpu: Cpu = Field("1", description="CPUs that are reserved.", examples=["500m"])
    cpu_limit: Cpu = Field("4", description="CPUs that it may use.", examples=["8"])
    memory: Memory = Field("4Gi", description="Memory, reserved and at most.", examples=["16Gi"])
