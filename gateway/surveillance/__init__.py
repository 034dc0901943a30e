"""Surveillance of trading (R14.3, R14.4, R6.7): deterministic detectors on events, alerts with evidence."""

from gateway.surveillance.alerts import Alert
from gateway.surveillance.thresholds import Thresholds
from gateway.surveillance.watch import Surveillance, warm_up

__all__ = ["Alert", "Surveillance", "Thresholds", "warm_up"]
