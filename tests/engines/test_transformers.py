"""examples/transformers_cache.py, in processes of its own: the second one goes on from what the first one stored."""

import json
import os
import pathlib
import subprocess
import sys

import pytest
from processes import ROOT
from tiny_llama import write_model


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    write_model(folder)
    return folder


def ask(server, model, prompt_tokens, *more):
    argv = [sys.executable, "-W", "ignore", ROOT / "examples/transformers_cache.py", "--model", model, "--prompt-tokens", prompt_tokens, *more]
    environment = {**os.environ, "MEMKV_SERVERS": server.address, "PYTHONPATH": str(pathlib.Path(ROOT, "bindings/python"))}
    done = subprocess.run(list(map(str, argv)), capture_output=True, text=True, env=environment, timeout=200)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_the_second_run_reads_the_prompt_from_the_store(server, model):
    first, second = ask(server, model, 400), ask(server, model, 400)
    assert (first["from_the_store"], first["pages_stored"]) == (0, 6)
    assert (second["from_the_store"], second["pages_stored"]) == (384, 0)
    assert second["generated"] == first["generated"]


def test_a_longer_prompt_reads_what_it_shares(server, model, tmp_path):
    alone = ask(server, model, 700, "--new-tokens", 4)
    assert alone["from_the_store"] == 384 and alone["pages_stored"] == 4
    write_model(tmp_path, seed=2)
    assert ask(server, tmp_path, 700, "--new-tokens", 4)["from_the_store"] == 0, "other weights, other keys"
