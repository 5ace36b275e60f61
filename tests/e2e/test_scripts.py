"""Crash torture, and the installed library from another project."""

import re
import subprocess

from conftest import BIN, ROOT, clean_environment


def test_torture_twenty_kills():
    result = subprocess.run([str(BIN.parent / "tests/memkv-torture"), "--kills", "20"], capture_output=True, text=True, timeout=280)
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-4000:]
    verdict = re.fullmatch(r"torture: passed: seed \d+, (\d+) kills, .*", result.stdout.splitlines()[-1])
    assert verdict and int(verdict[1]) >= 20, result.stdout[-4000:]


PROGRAM = r"""
#include <memkv/client.h>
#include <cstdio>
#include <string>
int main() {
  auto client = memkv::Client::connect({.servers = {"127.0.0.1:1"}});
  if (!client) return 1;
  std::string buffer(10, 'x');
  memkv::Batch batch;
  batch.get("a", buffer).exists("c");
  for (auto& outcome : client->run(batch, std::chrono::milliseconds(50))) std::printf("%s\n", std::string(memkv::to_string(outcome.status)).c_str());
}
"""

C_PROGRAM = r"""
#include <memkv/memkv.h>
#include <stdio.h>
int main(void) {
  memkv_client* client;
  if (memkv_connect(NULL, &client) != MEMKV_OK) return 1;
  puts(memkv_error_name(memkv_exists(client, "k", 1, 0, NULL)));
  memkv_close(client);
  return 0;
}
"""


def test_installed_library_with_cmake_and_pkg_config(tmp_path):
    build = BIN.parent
    prefix = tmp_path / "prefix"
    subprocess.run(["cmake", "--install", build, "--prefix", prefix], check=True, capture_output=True)
    (tmp_path / "main.cc").write_text(PROGRAM)
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.25)\nproject(user CXX)\nset(CMAKE_CXX_STANDARD 20)\nfind_package(memkv REQUIRED)\n"
        "add_executable(user main.cc)\ntarget_link_libraries(user PRIVATE memkv::client)\n")
    subprocess.run(["cmake", "-S", tmp_path, "-B", tmp_path / "b", f"-DCMAKE_PREFIX_PATH={prefix}"], check=True, capture_output=True)
    built = subprocess.run(["cmake", "--build", tmp_path / "b"], capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    ran = subprocess.run([tmp_path / "b/user"], capture_output=True, text=True, env=clean_environment(), timeout=20)
    assert ran.returncode == 0 and len(ran.stdout.split()) == 2, ran
    config = next(prefix.rglob("memkv.pc")).parent
    flags = subprocess.run(["pkg-config", "--cflags", "--libs", "--static", "memkv"], check=True, capture_output=True, text=True,
                           env=clean_environment(PKG_CONFIG_PATH=config)).stdout.split()
    built = subprocess.run(["g++", "-std=c++20", tmp_path / "main.cc", "-o", tmp_path / "user2", *flags], capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    assert subprocess.run([tmp_path / "user2"], capture_output=True, env=clean_environment(), timeout=20).returncode == 0
    build_c_program(tmp_path, prefix, config)


def build_c_program(folder, prefix, config):
    """The same in C, where libmemkv.so is all there is."""
    source = folder / "c"
    source.mkdir()
    (source / "main.c").write_text(C_PROGRAM)
    (source / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.25)\nproject(user C CXX)\nfind_package(memkv REQUIRED)\n"
        "add_executable(user main.c)\ntarget_link_libraries(user PRIVATE memkv::c)\n")
    subprocess.run(["cmake", "-S", source, "-B", source / "b", f"-DCMAKE_PREFIX_PATH={prefix}"], check=True, capture_output=True)
    built = subprocess.run(["cmake", "--build", source / "b"], capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    flags = subprocess.run(["pkg-config", "--cflags", "--libs", "memkv-c"], check=True, capture_output=True, text=True,
                           env=clean_environment(PKG_CONFIG_PATH=config)).stdout.split()
    built = subprocess.run(["gcc", "-std=c11", source / "main.c", "-o", source / "user2", *flags], capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    for program in (source / "b/user", source / "user2"):
        env = clean_environment(LD_LIBRARY_PATH=config.parent, MEMKV_SERVERS="127.0.0.1:1")
        ran = subprocess.run([program], capture_output=True, text=True, env=env, timeout=20)
        assert ran.returncode == 0 and ran.stdout == "miss\n", ran
