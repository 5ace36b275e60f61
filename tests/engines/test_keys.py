"""What the engines' own keys know, by their own functions: the table of docs/engines/keys.md. What they leave out is in our prefix, or in the warnings."""

import os
import subprocess
import sys

import pytest

TOKENS = list(range(1000, 1064))
BLOCK = 16


def vllm_hashes(algorithm="sha256", tokens=TOKENS, **request):
    from vllm.sampling_params import SamplingParams
    from vllm.utils.hashing import get_hash_fn_by_name
    from vllm.v1.core import kv_cache_utils
    from vllm.v1.request import Request

    function = get_hash_fn_by_name(algorithm)
    kv_cache_utils.init_none_hash(function)
    hasher = kv_cache_utils.get_request_block_hasher(BLOCK, function)
    made = Request("r", list(tokens), SamplingParams(max_tokens=1), None, block_hasher=hasher, **request)
    return made.block_hashes


def lora(name="adapter", path="/adapters/a", number=1):
    from vllm.lora.request import LoRARequest

    return LoRARequest(name, number, path)


def image(identifier, offset=4):
    from vllm.multimodal.inputs import MultiModalFeatureSpec, PlaceholderRange

    return MultiModalFeatureSpec(data=None, modality="image", identifier=identifier, mm_position=PlaceholderRange(offset=offset, length=8))


def in_another_process():
    """Without PYTHONHASHSEED, whatever this process has."""
    script = f"import sys; sys.path.insert(0, {os.path.dirname(__file__)!r}); import test_keys; print('hash', test_keys.vllm_hashes()[0].hex())"
    env = {name: value for name, value in os.environ.items() if name != "PYTHONHASHSEED"}
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-2000:]
    return next(line for line in done.stdout.splitlines() if line.startswith("hash ")).split()[1]


class TestVllm:
    def test_a_key_covers_all_tokens_before_it(self):
        other = vllm_hashes(tokens=[7, *TOKENS[1:]])
        assert not set(vllm_hashes()) & set(other)

    @pytest.mark.parametrize(
        "request_a, request_b",
        [
            ({}, {"cache_salt": "tenant"}),
            ({"cache_salt": "tenant"}, {"cache_salt": "other"}),
            ({}, {"lora_request": "a"}),
            ({"lora_request": "a"}, {"lora_request": "b"}),
            ({"mm_features": ["x"]}, {"mm_features": ["y"]}),
        ],
    )
    def test_salts_adapters_and_images_are_in_every_key(self, request_a, request_b):
        def made(parts):
            parts = dict(parts)
            if "lora_request" in parts:
                parts["lora_request"] = lora(path=f"/adapters/{parts['lora_request']}")
            if "mm_features" in parts:
                parts["mm_features"] = [image(name) for name in parts["mm_features"]]
            return vllm_hashes(**parts)

        assert len(made(request_a)) == 4 and not set(made(request_a)) & set(made(request_b))

    def test_the_place_of_an_image_is_in_the_key(self):
        assert vllm_hashes(mm_features=[image("x", 4)])[0] != vllm_hashes(mm_features=[image("x", 5)])[0]

    def test_an_empty_salt_is_none_and_an_adapters_number_does_not_count(self):
        assert vllm_hashes(cache_salt="") == vllm_hashes()
        assert vllm_hashes(lora_request=lora(number=1)) == vllm_hashes(lora_request=lora(number=2))

    def test_processes_agree_without_pythonhashseed_and_any_value_of_it_changes_all(self, monkeypatch):
        monkeypatch.delenv("PYTHONHASHSEED", raising=False)
        assert in_another_process() == vllm_hashes()[0].hex()
        monkeypatch.setenv("PYTHONHASHSEED", "0")
        with_zero = vllm_hashes()
        monkeypatch.setenv("PYTHONHASHSEED", "")
        with_nothing = vllm_hashes()
        monkeypatch.delenv("PYTHONHASHSEED")
        assert len({keys[0] for keys in (vllm_hashes(), with_zero, with_nothing)}) == 3

    def test_xxhash_draws_another_start_each_time(self, monkeypatch):
        monkeypatch.delenv("PYTHONHASHSEED", raising=False)
        assert vllm_hashes("xxhash") != vllm_hashes("xxhash") and len(vllm_hashes("xxhash")[0]) == 16
        monkeypatch.setenv("PYTHONHASHSEED", "0")
        assert vllm_hashes("xxhash") == vllm_hashes("xxhash")

    def test_equal_requests_differ_by_identity_with_sha256_and_not_with_cbor(self):
        name = "adapter"
        same_object, equal_text = lora(name, name), lora(name, "".join(list(name)))
        assert vllm_hashes("sha256", lora_request=same_object) != vllm_hashes("sha256", lora_request=equal_text)
        assert vllm_hashes("sha256_cbor", lora_request=same_object) == vllm_hashes("sha256_cbor", lora_request=equal_text)


class TestLmcache:
    def test_a_chunks_hash_is_of_tokens_alone(self):
        import inspect

        from lmcache.v1.multiprocess.token_hasher import TokenHasher

        hasher = TokenHasher(chunk_size=BLOCK)
        first = hasher.compute_chunk_hashes(TOKENS)
        assert len(first) == 4 and not set(first) & set(hasher.compute_chunk_hashes([7, *TOKENS[1:]]))
        assert not {"lora", "salt"} & {word for name in inspect.signature(hasher.compute_chunk_hashes).parameters for word in name.split("_")}

    def test_the_salt_is_in_the_key_and_no_adapter_is(self):
        import dataclasses

        from lmcache.v1.distributed.api import ObjectKey

        names = {field.name for field in dataclasses.fields(ObjectKey)}
        assert names == {"chunk_hash", "model_name", "kv_rank", "object_group_id", "cache_salt"}
