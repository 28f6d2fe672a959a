"""Processes of one machine under one parent: started, listened to, restarted when they die, stopped together."""

from app.services.supervisor.back_off import BackOff
from app.services.supervisor.child import ChildSpec
from app.services.supervisor.supervisor import Supervisor, wire_signals

__all__ = ["BackOff", "ChildSpec", "Supervisor", "wire_signals"]
