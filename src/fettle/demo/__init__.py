"""The demo: a small real model that learns a skill, is trained past its best step, and is judged."""

from fettle.demo.run import run_demo

__all__ = ["run_demo"]
