"""Names for KV cache that may be shared: other weights, dtype or layout is a miss, never wrong KV (docs/engines/keys.md).

An engine's own keys say which tokens a block holds, and little about what computed it. An adapter puts prefix() in front:

    weights = naming.weights_identity("/models/llama", override=None)
    name = naming.prefix(engine="vllm", weights=weights, dtype="bfloat16", kv_dtype="auto", layout="...", block_bytes=65536)
    key = name + engine_key  # both are bytes
"""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import re
import struct
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO, Union

from .errors import InvalidError

Plain = Union[str, int, float, bool, None, "list[Plain]", "dict[str, Plain]"]

VERSION = 1
"""Of the rules of this module. A new one makes all old blocks misses."""

SAMPLE_BYTES = 4096
SAMPLES_MAX = 4096
"""Of one model: a tensor each, spread evenly where there are more tensors."""

_SAMPLES_PER_PLAIN_FILE = 64
_WEIGHT_SUFFIXES = (".safetensors", ".gguf", ".bin", ".pt", ".pth", ".npz")
_NO_WEIGHTS = ("training_args.bin", "optimizer.bin", "optimizer.pt", "scheduler.pt")
_HEADER_BYTES_MAX = 256 << 20
_COMMIT = re.compile(r"[0-9a-f]{40}")
_CHANGES_WITHOUT_THE_MODEL = ("_name_or_path", "transformers_version", "_commit_hash")  # of config.json


def prefix(
    *,
    engine: str,
    weights: str,
    dtype: str,
    kv_dtype: str,
    layout: str,
    block_bytes: int,
    hash_scheme: str = "",
    salt: str = "",
    model: str = "",
    extra: Mapping[str, Plain] | None = None,
) -> bytes:
    """What goes in front of an engine's keys: `ENGINE/` and 32 hex digits and `/`, from all that must be alike.

    weights: of weights_identity(). layout: how a block's bytes are arranged, the sizes included. block_bytes: of one block.
    hash_scheme: how the engine made its keys. salt: what separates users of one store where the engine's key does not.
    extra: whatever else changes the bytes (quantization, rope scaling, a parallel rank whose bytes differ from the others').
    model: for people, no part of the name: the same weights in another folder are the same.
    InvalidError: a part is missing, or is no plain value."""
    parts: dict[str, Plain] = {
        "version": VERSION,
        "engine": _given("engine", engine),
        "weights": _given("weights", weights),
        "dtype": _given("dtype", dtype),
        "kv_dtype": _given("kv_dtype", kv_dtype),
        "layout": _given("layout", layout),
        "block_bytes": block_bytes,
        "hash_scheme": hash_scheme,
        "salt": salt,
        "extra": dict(extra or {}),
    }
    return f"{engine}/{digest(parts)}/".encode()


def digest(value: Plain) -> str:
    """32 hex digits of a plain value (text, numbers, lists, dictionaries with text keys), the same on every machine.

    >>> digest({"b": [1, "x"], "a": None})
    'c22cb7b0353770e2b38094af641143eb'
    """
    try:
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as e:
        raise InvalidError(f"a name is made of text, numbers, lists and dictionaries: {e}") from None
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def weights_identity(model: str | os.PathLike[str] | None, revision: str | None = None, override: str | None = None) -> str:
    """Text that differs when the weights differ.

    model: a folder or file with weights, or the name of a model of a hub, whose files are looked for in the hub's cache on
    this machine. override: the operator's own name for the weights, when they cannot be read or take too long; what
    config.json says still counts. Reads config.json and 4 KiB of each tensor, some megabytes in all.
    InvalidError: the weights cannot be told (also: a file is cut short, cannot be read, or is missing), and what to do."""
    folder = find(model, revision)
    try:
        if override:
            return f"named:{override}:{_config_digest(folder)}"
        if folder is not None:
            return _read_identity(folder)
    except OSError as e:
        raise InvalidError(f"{e.filename or folder} cannot be read: {e.strerror}") from None
    if revision and _COMMIT.fullmatch(revision):
        return f"commit:{model}:{revision}"
    raise InvalidError(
        f"cannot tell which weights {os.fspath(model) if model else 'this engine'!r} has: it is no folder, and the hub's cache on this machine "
        "does not hold it. Give the model as a folder, or a full commit as its revision, or a name of your own for the weights"
    )


def _given(name: str, value: str) -> str:
    if not isinstance(value, str) or not value:
        raise InvalidError(f"a name needs {name}: text that is not empty")
    return value


def find(model: str | os.PathLike[str] | None, revision: str | None) -> pathlib.Path | None:
    """The folder or file that holds a model; None: it is not on this machine."""
    if not model:
        return None
    path = pathlib.Path(model)
    try:
        if path.exists():
            return path
    except OSError:  # too long for a file's name
        return None
    return _in_hub_cache(os.fspath(model), revision or "main")


def _in_hub_cache(name: str, revision: str) -> pathlib.Path | None:
    """A snapshot of the Hugging Face hub's cache: models--ORG--NAME/snapshots/COMMIT, with branches in refs/."""
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name):
        return None
    home = os.environ.get("HF_HOME") or os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "huggingface")
    cache = pathlib.Path(os.environ.get("HF_HUB_CACHE") or os.path.join(home, "hub")) / ("models--" + name.replace("/", "--"))
    reference = cache / "refs" / revision
    commit = reference.read_text().strip() if reference.is_file() else revision
    snapshot = cache / "snapshots" / commit
    return snapshot if snapshot.is_dir() else None


def _config_digest(folder: pathlib.Path | None) -> str:
    """Of config.json without what changes while the model stays the same; "" where there is none."""
    config = folder / "config.json" if folder is not None and folder.is_dir() else None
    if config is None or not config.is_file():
        return ""
    data = config.read_bytes()
    try:
        fields = json.loads(data)
        return digest({name: value for name, value in fields.items() if name not in _CHANGES_WITHOUT_THE_MODEL})
    except (ValueError, AttributeError):
        return hashlib.sha256(data).hexdigest()[:32]


def _read_identity(path: pathlib.Path) -> str:
    files = _weight_files(path)
    if not files:
        raise InvalidError(
            f"no weights in {path} ({', '.join('*' + suffix for suffix in _WEIGHT_SUFFIXES)}): give a name of your own for the weights"
        )
    if path.is_dir():
        _check_index(path, files[0].suffix)
    seen = hashlib.sha256(_config_digest(path).encode())
    ranges = {file: list(_ranges(file)) for file in files}
    if not any(ranges.values()):
        raise InvalidError(f"no weights in {', '.join(map(str, files[:3]))}: {'the file is' if len(files) == 1 else 'the files are'} empty")
    step = -(-sum(map(len, ranges.values())) // SAMPLES_MAX)
    place = 0
    for file in files:
        with open(file, "rb") as stream:
            for offset, size in ranges[file]:
                seen.update(struct.pack("<QQ", offset, size))
                if place % step == 0:
                    seen.update(_sample(file, stream, offset, size))
                place += 1
    return "read:" + seen.hexdigest()[:32]


def _weight_files(path: pathlib.Path) -> list[pathlib.Path]:
    """By name. Of a folder with safetensors only these: the same weights may lie beside them in other formats."""
    if path.is_file():
        return [path]
    files = sorted(file for file in path.iterdir() if file.name.endswith(_WEIGHT_SUFFIXES) and file.name not in _NO_WEIGHTS)
    return [file for file in files if file.suffix == ".safetensors"] or files


def _check_index(folder: pathlib.Path, suffix: str) -> None:
    """All files that the index names are there. Other files may lie beside them: the same weights in another form."""
    for index in (folder / f"{stem}{suffix}.index.json" for stem in ("model", "pytorch_model")):
        if not index.is_file():
            continue
        try:
            named = {str(name) for name in json.loads(index.read_bytes())["weight_map"].values()}
        except (ValueError, KeyError, TypeError, AttributeError) as e:
            raise InvalidError(f"{index} is no index of weights ({_reason(e)}): fetch it again") from None
        missing = sorted(name for name in named if not (folder / name).is_file())
        if missing:
            more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
            raise InvalidError(
                f"{index} names {len(named)} files, and {len(missing)} of them {'is' if len(missing) == 1 else 'are'} missing "
                f"({', '.join(missing[:3])}{more}): fetch the model again"
            )


def _ranges(file: pathlib.Path) -> Iterator[tuple[int, int]]:
    """Offset and size of each tensor, or of equal parts of a file whose tensors are not known."""
    size = file.stat().st_size
    if file.suffix == ".safetensors":
        yield from _tensor_ranges(file, size)
        return
    part = max(SAMPLE_BYTES, size // _SAMPLES_PER_PLAIN_FILE)
    for offset in range(0, size, part):
        yield offset, min(part, size - offset)


def _tensor_ranges(file: pathlib.Path, size: int) -> Iterator[tuple[int, int]]:
    """From the header of a safetensors file: its size as 8 bytes, then JSON with data_offsets."""
    with open(file, "rb") as stream:
        start = stream.read(8)
        header_bytes = int.from_bytes(start, "little")
        if len(start) < 8 or size < 8 + header_bytes <= _HEADER_BYTES_MAX:
            raise _cut_short(file, size, 8 + header_bytes if len(start) == 8 else 8)
        text = stream.read(header_bytes) if header_bytes <= _HEADER_BYTES_MAX else b""
    try:
        header = json.loads(text)
        places = sorted(_place(tensor["data_offsets"]) for name, tensor in header.items() if name != "__metadata__")
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise InvalidError(f"{file} is no safetensors file ({_reason(e)}): fetch it again") from None
    whole = 8 + header_bytes + max((end for _, end in places), default=0)
    if size < whole:
        raise _cut_short(file, size, whole)
    for begin, end in places:
        yield 8 + header_bytes + begin, end - begin


def _place(offsets: Any) -> tuple[int, int]:
    begin, end = offsets
    if type(begin) is not int or type(end) is not int or not 0 <= begin <= end:
        raise ValueError(f"data_offsets are {offsets}")
    return begin, end


def _cut_short(file: pathlib.Path, size: int, whole: int) -> InvalidError:
    return InvalidError(f"{file} is cut short: it has {size} bytes and should have {whole} at least: fetch it again")


def _reason(error: Exception) -> str:
    return f"it lacks {error}" if isinstance(error, KeyError) else str(error)


def _sample(file: pathlib.Path, stream: BinaryIO, offset: int, size: int) -> bytes:
    """From the middle of a range."""
    wanted = min(SAMPLE_BYTES, size)
    stream.seek(offset + (size - wanted) // 2)
    sample = stream.read(wanted)
    if len(sample) < wanted:
        raise _cut_short(file, stream.seek(0, os.SEEK_END), offset + size)
    return sample


def plain(value: Any) -> Plain:
    """A value of an engine's configuration as one that digest() takes: what it does not know becomes its text."""
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    if isinstance(value, (set, frozenset)):
        return [*sorted(str(entry) for entry in value)]
    return str(value)
