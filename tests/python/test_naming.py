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


def test_a_file_that_is_cut_short_is_refused(base):
    file = base / "model.safetensors"
    whole = file.read_bytes()
    for size in (0, 7, 8, 100, len(whole) - 70000, len(whole) - 1):
        file.write_bytes(whole[:size])
        with pytest.raises(memkv.InvalidError, match=rf"model.safetensors is cut short: it has {size} bytes and should have \d+ at least"):
            naming.weights_identity(base)
    file.write_bytes(whole)
    assert naming.weights_identity(base).startswith("read:")


@pytest.mark.parametrize(
    "header",
    [b"[]", b'{"a": 1}', b'{"a": {}}', b'{"a": {"data_offsets": [1]}}', b'{"a": {"data_offsets": [4, 2]}}', b'{"a": {"data_offsets": ["0", "4"]}}', b"{" * 20],
)
def test_a_header_that_makes_no_sense_is_refused(tmp_path, header):
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(64))
    with pytest.raises(memkv.InvalidError, match="model.safetensors is no safetensors file .*: fetch it again"):
        naming.weights_identity(tmp_path)


@pytest.mark.parametrize("name, content", [("model.gguf", b""), ("pytorch_model.bin", b""), ("model.safetensors", struct.pack("<Q", 2) + b"{}")])
def test_an_empty_file_is_no_model(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(memkv.InvalidError, match=f"no weights in .*{name}: the file is empty"):
        naming.weights_identity(tmp_path)


def test_a_file_that_cannot_be_read_is_refused(base):
    (base / "model.safetensors").unlink()
    (base / "model.safetensors").symlink_to(base / "blobs/gone")  # a hub's cache whose blob was deleted
    with pytest.raises(memkv.InvalidError, match="model.safetensors cannot be read: No such file"):
        naming.weights_identity(base)
    (base / "model.safetensors").unlink()
    (base / "model.safetensors").mkdir()
    with pytest.raises(memkv.InvalidError, match="model.safetensors cannot be read: Is a directory"):
        naming.weights_identity(base)


@pytest.mark.parametrize("form", ["model{}.safetensors", "pytorch_model{}.bin"])
def test_all_shards_that_the_index_names_must_be_there(tmp_path, form):
    shards = [form.format(f"-{n:05}-of-00005") for n in range(1, 6)]
    for n, shard in enumerate(shards):
        model(tmp_path, {f"layer.{n}": bytes([n]) * 5000}, file=shard)
    index = tmp_path / (form.format("") + ".index.json")
    index.write_text(json.dumps({"weight_map": {f"layer.{n}": shard for n, shard in enumerate(shards)}}))
    whole = naming.weights_identity(tmp_path)
    (tmp_path / shards[2]).rename(tmp_path / "elsewhere")
    with pytest.raises(memkv.InvalidError, match=rf"index.json names 5 files, and 1 of them is missing \({shards[2]}\): fetch the model again"):
        naming.weights_identity(tmp_path)
    assert naming.weights_identity(tmp_path, override="mine").startswith("named:mine:")
    (tmp_path / "elsewhere").rename(tmp_path / shards[2])
    assert naming.weights_identity(tmp_path) == whole
    index.write_text("{")
    with pytest.raises(memkv.InvalidError, match="index.json is no index of weights .*: fetch it again"):
        naming.weights_identity(tmp_path)


def test_plain_values():
    assert naming.plain({"a": (1, None), "b": {3, 2}, 4: object}) == {"a": [1, None], "b": ["2", "3"], "4": "<class 'object'>"}


def test_the_examples_of_the_module():
    assert doctest.testmod(naming).failed == 0
