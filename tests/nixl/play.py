"""Runs one scenario: play.py FILE NAME CONTEXT ARGUMENTS; what it returns goes to stdout as JSON.

A scenario is `def name(stage, **arguments)`; the Stage makes agents and asks the test to do things.
"""

import importlib.util
import json
import os
import pathlib
import sys

from agent import Agent

# Only our messages go to the real stdout.
OUT = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)


def say(**message):
    OUT.write(json.dumps(message) + "\n")
    OUT.flush()


class Stage:
    def __init__(self, parameters, folder, prefix):
        self.parameters = parameters
        self.folder = pathlib.Path(folder)
        self.prefix = prefix
        self.agents = 0

    def agent(self, sync=None, backend="MEMKV", progress=True, **parameters):
        """An agent with a backend; parameters of the test's server and prefix unless given (None leaves one out)."""
        self.agents += 1
        name = f"agent{self.agents}"
        chosen = {"prefix": self.prefix, **self.parameters, "metrics_file": str(self.folder / f"{name}.prom"), **parameters}
        chosen = {k: str(v) for k, v in chosen.items() if v is not None}
        return Agent(name, backend, chosen, sync=sync, progress=progress)

    def ask(self, name):
        """Asks the test to do what it calls `name`, and returns when that is done."""
        say(ask=name)
        sys.stdin.readline()


def load(path):
    spec = importlib.util.spec_from_file_location("scenarios", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main():
    path, name, context, arguments = sys.argv[1:]
    value = getattr(load(path), name)(Stage(**json.loads(context)), **json.loads(arguments))
    say(value=value)


if __name__ == "__main__":
    main()
