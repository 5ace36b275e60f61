"""The Python package with real tensors."""

import pytest
import torch

import memkv


@pytest.fixture(scope="module")
def kv(server):
    with memkv.connect(server.address) as client:
        yield client


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.int8, torch.float8_e4m3fn, torch.bool])
def test_tensors_of_each_type_come_back(kv, dtype):
    source = torch.randint(0, 2, (4, 16, 8)).to(dtype)
    assert kv.put("k", source)
    target = torch.zeros_like(source)
    assert kv.get_into("k", target) == source.numel() * source.element_size()
    assert torch.equal(target.view(torch.uint8), source.view(torch.uint8))


def test_rows_of_a_pool_are_pieces(kv):
    pool = torch.arange(8 * 64, dtype=torch.float32).reshape(8, 64)
    assert kv.put("rows", [pool[1], pool[5]])
    target = torch.zeros(2, 64)
    assert kv.get_into("rows", [target[1], target[0]]) == 512
    assert torch.equal(target, torch.stack([pool[5], pool[1]]))
    assert kv.put_pages(["a", "b"], pool, [0, 256], 256) == [True, True]
    assert kv.get_pages(["b", "none"], pool, [1792, 0], 256) == [256, None]
    assert torch.equal(pool[7], pool[1])


def test_what_is_not_contiguous_is_refused_with_what_to_do(kv):
    with pytest.raises(memkv.InvalidError, match=r"tensor\.contiguous\(\)"):
        kv.put("k", torch.zeros(4, 4).t())
    with pytest.raises(memkv.InvalidError, match=r"tensor\.cpu\(\)"):
        kv.put("k", torch.empty(4, device="meta"))


def test_a_parameter_is_memory_like_any_other(kv):
    weight = torch.nn.Parameter(torch.arange(4.0))
    assert kv.put("k", weight) and kv.get("k") == weight.detach().numpy().tobytes()


def test_a_tensor_is_held_until_its_bytes_have_left(kv):
    for n in range(50):
        kv.put(f"t{n}", torch.full((1 << 18,), float(n)))
    target = torch.empty(1 << 18)
    for n in range(50):
        assert kv.get_into(f"t{n}", target) == 1 << 20 and bool((target == n).all())
