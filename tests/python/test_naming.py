"""What must differ has different names, and what is the same has one name on every machine."""

import doctest
import json
import shutil
import struct

import memkv
import pytest
from memkv import naming

PARTS = dict(engine="vllm", weights="read:0", dtype="bfloat16", kv_dtype="auto", layout="nhd/16x8x128", block_bytes=65536)


def model(folder, tensors, config=None, file="model.safetensors"):
    """A folder with config.json and a safetensors file of the given names and bytes."""
    folder.mkdir(exist_ok=True)
    header, data = {}, b""
    for name, content in tensors.items():
        header[name] = {"dtype": "U8", "shape": [len(content)], "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(header).encode()
    (folder / file).write_bytes(struct.pack("<Q", len(text)) + text + data)
    (folder / "config.json").write_text(json.dumps(config or {"hidden_size": 64}))
    return folder


TENSORS = {f"layer.{n}": bytes([n]) * 10000 for n in range(8)}


@pytest.fixture
def base(tmp_path):
    return model(tmp_path / "base", TENSORS)


@pytest.mark.parametrize("part", [*PARTS, "hash_scheme", "salt", "extra"])
def test_each_part_makes_another_name(part):
    other = {"block_bytes": 65537, "extra": {"quantization": "fp8"}}.get(part, "other")
    assert naming.prefix(**PARTS) != naming.prefix(**{**PARTS, part: other})


def test_a_name_is_short_stays_as_it_is_and_knows_no_folder():
    name = naming.prefix(**PARTS)
    assert name == naming.prefix(**PARTS, model="/models/llama", extra={}) == b"vllm/bc588ddec04891bcce660e00f71d0368/"


def test_parts_do_not_run_into_each_other():
    assert naming.prefix(**{**PARTS, "dtype": "a", "kv_dtype": "bc"}) != naming.prefix(**{**PARTS, "dtype": "ab", "kv_dtype": "c"})


@pytest.mark.parametrize("part", ["engine", "weights", "dtype", "kv_dtype", "layout"])
def test_an_empty_part_is_refused(part):
    with pytest.raises(memkv.InvalidError, match=f"needs {part}"):
        naming.prefix(**{**PARTS, part: ""})


def test_what_is_no_plain_value_is_refused():
    with pytest.raises(memkv.InvalidError, match="made of text, numbers"):
        naming.prefix(**PARTS, extra={"config": object()})
    with pytest.raises(memkv.InvalidError, match="made of text, numbers"):
        naming.prefix(**PARTS, extra={"scale": float("nan")})


def test_the_same_weights_in_another_folder_are_the_same(base, tmp_path):
    copy = shutil.copytree(base, tmp_path / "copy")
    (copy / "config.json").write_text(json.dumps({"_name_or_path": "elsewhere", "hidden_size": 64, "transformers_version": "9"}))
    assert naming.weights_identity(copy) == naming.weights_identity(str(base)) != ""


@pytest.mark.parametrize("tensor", TENSORS)
def test_one_changed_tensor_is_another_model(base, tmp_path, tensor):
    tuned = model(tmp_path / "tuned", {**TENSORS, tensor: b"\x99" * 10000})
    assert naming.weights_identity(tuned) != naming.weights_identity(base)


def test_another_configuration_is_another_model(base, tmp_path):
    other = model(tmp_path / "other", TENSORS, {"hidden_size": 64, "rope_theta": 5e5})
    assert naming.weights_identity(other) != naming.weights_identity(base)
    assert naming.weights_identity(other, override="mine") != naming.weights_identity(base, override="mine")


def test_formats_beside_the_safetensors_do_not_count(base, tmp_path):
    copy = shutil.copytree(base, tmp_path / "copy")
    (copy / "pytorch_model.bin").write_bytes(b"the same weights")
    assert naming.weights_identity(copy) == naming.weights_identity(base)


def test_a_file_alone_is_sampled_all_over(tmp_path):
    file = tmp_path / "model.gguf"
    content = bytearray(1 << 20)
    names = set()
    for part in range(64):
        content[part * 16384 + 8192] += 1
        file.write_bytes(content)
        names.add(naming.weights_identity(file))
    assert len(names) == 64


def test_of_very_many_tensors_some_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(naming, "SAMPLES_MAX", 4)
    tensors = {f"t{n:03}": bytes(16) for n in range(100)}
    first = naming.weights_identity(model(tmp_path / "a", tensors))
    assert first != naming.weights_identity(model(tmp_path / "b", {**tensors, "t050": b"\x01" * 16}))
    assert first == naming.weights_identity(model(tmp_path / "c", {**tensors, "t051": b"\x01" * 16}))


def test_a_models_name_is_looked_for_in_the_hubs_cache(tmp_path, monkeypatch, base):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    commit = "0123456789abcdef0123456789abcdef01234567"
    snapshots = tmp_path / "hub/models--org--name/snapshots"
    snapshots.mkdir(parents=True)
    shutil.copytree(base, snapshots / commit)
    (tmp_path / "hub/models--org--name/refs").mkdir()
    (tmp_path / "hub/models--org--name/refs/main").write_text(commit)
    assert naming.weights_identity("org/name") == naming.weights_identity("org/name", revision=commit) == naming.weights_identity(base)


def test_a_full_commit_is_enough_and_a_branch_is_not(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    commit = "0123456789abcdef0123456789abcdef01234567"
    assert naming.weights_identity("org/name", revision=commit) == f"commit:org/name:{commit}"
    for model_name, revision in [("org/name", "main"), ("org/name", None), (None, None), ("../x", "main")]:
        with pytest.raises(memkv.InvalidError, match="cannot tell which weights .* a name of your own"):
            naming.weights_identity(model_name, revision=revision)
    for name in ("org/name", "x" * 300):
        assert naming.weights_identity(name, override="v3") == "named:v3:"


def test_what_is_no_model_is_refused(tmp_path):
    with pytest.raises(memkv.InvalidError, match=r"no weights in .*\*\.safetensors"):
        naming.weights_identity(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"\xff" * 64)
    with pytest.raises(memkv.InvalidError, match="model.safetensors is no safetensors file"):
        naming.weights_identity(tmp_path)


def test_plain_values():
    assert naming.plain({"a": (1, None), "b": {3, 2}, 4: object}) == {"a": [1, None], "b": ["2", "3"], "4": "<class 'object'>"}


def test_the_examples_of_the_module():
    assert doctest.testmod(naming).failed == 0
