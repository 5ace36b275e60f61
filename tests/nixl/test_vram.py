"""VRAM by pointer, with the stand-in CUDA runtime (tests/support/fake_cudart): the device number is the GPU's."""

import pytest
from conftest import LIB

FAKE = LIB.parent / "tests/libcudart_fake.so"


class Vram:
    """`size` bytes of a device, registered with NIXL."""

    def __init__(self, agent, size, device):
        import ctypes
        import os

        self.cuda = ctypes.CDLL(os.environ["MEMKV_CUDART"])
        pointer = ctypes.c_void_p()
        assert self.cuda.cudaSetDevice(device) == 0
        assert self.cuda.cudaMalloc(ctypes.byref(pointer), ctypes.c_size_t(size)) == 0
        self.size, self.device, self.address = size, device, pointer.value
        self.descs = agent.nixl.register_memory([(self.address, size, device, "")], "VRAM", [agent.backend])

    def set(self, array):
        import ctypes

        self.cuda.fake_cudart_write(ctypes.c_void_p(self.address), ctypes.c_void_p(array.ctypes.data), ctypes.c_size_t(array.nbytes))

    def get(self):
        import ctypes

        import numpy

        array = numpy.empty(self.size, dtype=numpy.uint8)
        self.cuda.fake_cudart_read(ctypes.c_void_p(array.ctypes.data), ctypes.c_void_p(self.address), ctypes.c_size_t(self.size))
        return array


def moves(stage, sizes):
    """From one GPU to the store and to another GPU, and crosswise with host memory."""
    from agent import pattern

    agent = stage.agent()
    for size in sizes:
        first, second, host = Vram(agent, size, 0), Vram(agent, size, 1), agent.memory(size)
        first.set(pattern(size, size))
        agent.run("WRITE", [(first, 0, f"vram-{size}", 0, size)], local="VRAM")
        agent.run("READ", [(second, 0, f"vram-{size}", 0, size)], local="VRAM")
        assert (second.get() == pattern(size, size)).all(), size
        agent.read(host, f"vram-{size}")
        assert (host.bytes == pattern(size, size)).all(), size
        host.bytes[:] = pattern(size, size + 1)
        agent.write(host, f"vram-{size}")
        agent.run("READ", [(first, 0, f"vram-{size}", 0, size)], local="VRAM")
        assert (first.get() == pattern(size, size + 1)).all(), size


def test_vram_by_pointer(play, place, wheel):
    play(moves, place, wheel, sizes=[4096, 65536 + 4096, (2 << 20) + 512, 16 << 20], env={"MEMKV_CUDART": FAKE})


def fan_out(stage):
    """Sixteen reads of one block into VRAM: one fetch, the rest are copies on the device."""
    from agent import pattern

    size, agent = 1 << 20, stage.agent()
    host, vram = agent.memory(size), Vram(agent, 16 * size, 1)
    host.bytes[:] = pattern(size, 1)
    agent.write(host, "shared")
    agent.run("READ", [(vram, i * size, "shared", 0, size) for i in range(16)], local="VRAM")
    assert (vram.get().reshape(16, size) == pattern(size, 1)).all()
    return agent.close()


def test_fan_out_on_the_device(play, place):
    counts = play(fan_out, place, env={"MEMKV_CUDART": FAKE}).value
    assert (counts["read_wire_operations"], counts["copies"]) == (1, 15), counts


def without_a_runtime(stage):
    agent = stage.agent()
    try:
        agent.nixl.register_memory([(0x7F0000000000, 4096, 0, "")], "VRAM", [agent.backend])
    except Exception as error:
        return type(error).__name__
    return "registered"


@pytest.mark.parametrize("library", ["/no/such/libcudart.so", None])
def test_without_a_cuda_runtime_it_is_said_clearly(play, place, library):
    env = {"MEMKV_CUDART": library} if library else {"MEMKV_CUDART": FAKE, "FAKE_CUDART_DEVICES": 0}
    played = play(without_a_runtime, place, env=env)
    assert played.value.startswith("nixl") and "VRAM cannot be registered: CUDA is not at hand" in played.err, played.err
