"""The wheel as users get it: one file, installed where nothing of ours and no compiler is, by the oldest and newest Python that Debian has."""

import email
import os
import pathlib
import re
import subprocess
import sys
import zipfile

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))

from processes import ROOT, clean_environment  # noqa: E402

BYTES_MAX = 30 << 20
# What a user does, from nothing: everything by the names that pip put on the path.
TOUR = """
set -e
memkv --version
memkv start --mode memory --memory 128MiB --io auto --ready-file ready > server.log 2>&1 &
server=$!
until [ -s ready ]; do kill -0 $server || { cat server.log; exit 1; }; sleep 0.1; done
echo 'what was put' | memkv put prefix/key -
test "$(memkv get prefix/key)" = 'what was put'
cat > from_python.py <<'END'
import asyncio, hashlib, ssl
ssl.create_default_context()  # an OpenSSL of Python's own is in the process before ours
import memkv, memkv.aio
with memkv.connect() as kv:
    assert kv.get("prefix/key") == b"what was put\\n" and kv.get("none") is None
    kv.put("from/python", [b"two ", b"pieces"])
    target = bytearray(10)
    assert kv.get_into("from/python", target) == 10 and target == b"two pieces"
async def later():
    async with memkv.aio.connect() as kv:
        return await kv.get("from/python")
assert asyncio.run(later()) == b"two pieces"
assert hashlib.sha256(b"").hexdigest().startswith("e3b0c442")
END
python from_python.py
memkv status
memkv settings vllm | grep memkv.vllm
memkv settings nixl | grep site-packages/memkv/plugins
python -c 'from importlib.metadata import entry_points
(tier,) = entry_points(group="vllm.general_plugins", name="memkv")
tier.load()()'
memkv-bench sweep --servers 127.0.0.1:9900 --auth-key "@$MEMKV_SHM_DIR/local.key" --sizes 64KiB --bytes 8MiB --no-ceiling
kill $server
wait $server
python -c 'import memkv, memkv.nixl, os; print(memkv.__version__, sorted(os.listdir(memkv.nixl.plugin_dir())))'
"""


@pytest.fixture(scope="module")
def wheel():
    made = list((ROOT / "dist").glob("memkv-*.whl"))
    assert len(made) == 1, f"./dev wheel makes one file, not {made}"
    return made[0]


def sh(*argv, timeout=240, **kwargs):
    done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, timeout=timeout, **kwargs)
    assert done.returncode == 0, f"{argv}: exit {done.returncode}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def test_one_small_file_for_every_python(wheel):
    assert re.fullmatch(r"memkv-[0-9.]+-py3-none-manylinux_2_34_x86_64\.whl", wheel.name)
    assert wheel.stat().st_size < BYTES_MAX


def test_auditwheel_finds_nothing_newer_than_glibc_2_34(wheel):
    told = " ".join(sh(ROOT / ".venv/bin/auditwheel", "show", wheel).split())
    assert 'is consistent with the following platform tag: "manylinux_2_34_x86_64"' in told, told


def test_it_brings_programs_plugin_and_licences_and_no_cxx_library(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    for name in ("memkv/bin/memkv", "memkv/bin/memkv-bench", "memkv/lib/libmemkv.so.1", "memkv/plugins/libplugin_MEMKV.so", "memkv/plugins/obj/libplugin_OBJ.so", "memkv/licenses/libssl-dev.txt", "memkv/py.typed",
                 "memkv/vllm/__init__.py", "memkv/lmcache/__init__.py", "memkv/sglang/__init__.py"):
        assert name in names, names
    bundled = [n for n in names if n.startswith("memkv.libs/") and not n.endswith("/")]
    assert len(bundled) == 1 and re.fullmatch(r"memkv\.libs/libcrypto-[0-9a-f]+\.so\.3", bundled[0]), "OpenSSL alone, under a name of its own"


def test_its_metadata_tells_what_it_is_and_where_the_docs_are(wheel):
    packed = zipfile.ZipFile(wheel)
    (name,) = (n for n in packed.namelist() if n.endswith(".dist-info/METADATA"))
    told = email.message_from_bytes(packed.read(name))
    assert told["Name"] == "memkv" and told["Requires-Python"] == ">=3.10" and told["License-Expression"] == "Apache-2.0" and "KV cache" in told["Summary"]
    assert {"vLLM", "LMCache", "SGLang", "NIXL"} <= set(told["Keywords"].split(","))
    assert {"Operating System :: POSIX :: Linux", "Programming Language :: Python :: 3.13", "Typing :: Typed"} <= set(told.get_all("Classifier"))
    assert told["Description-Content-Type"] == "text/markdown" and not told.get_all("Project-URL") and not told["Home-page"]
    text = told.get_payload(decode=True).decode()
    for word in ("pip install", "memkv start", "memkv.connect()", "memkv settings vllm", '"/docs"'):
        assert word in text
    assert "](" not in text, "a link that leads nowhere outside of the repository"
    for page in re.findall(r"`([a-z-]+\.md)`", text):
        assert f"memkv/docs/{page}" in packed.namelist()


def test_the_docs_are_in_it_and_lead_to_each_other(wheel):
    packed = zipfile.ZipFile(wheel)
    docs = {name for name in packed.namelist() if name.startswith("memkv/docs/") and name.endswith((".md", ".svg"))}
    assert {"memkv/docs/python.md", "memkv/docs/operating.md", "memkv/docs/engines/vllm.md", "memkv/docs/decisions/0029-the-wheel.md", "memkv/docs/pictures/drive.svg"} <= docs
    assert {name.removeprefix("memkv/") for name in docs} == {str(path.relative_to(ROOT)) for pattern in ("*.md", "*.svg") for path in (ROOT / "docs").rglob(pattern)}
    for page in docs:
        for link in re.findall(r"\]\(([^)#:]+\.(?:md|svg))", packed.read(page).decode()):
            assert os.path.normpath(os.path.join(os.path.dirname(page), link)) in docs, f"{page} leads to {link}"


@pytest.fixture(scope="module")
def venv(wheel, tmp_path_factory):
    folder = tmp_path_factory.mktemp("venv")
    sh(sys.executable, "-m", "venv", folder)
    sh(folder / "bin/pip", "install", "--quiet", "--no-index", "--disable-pip-version-check", wheel)
    return folder


def test_a_user_s_tour(venv, tmp_path):
    """In a network namespace of its own: the default port is free there."""
    env = clean_environment(PATH=f"{venv}/bin:/usr/bin:/bin", MEMKV_SHM_DIR=tmp_path / "run")
    sh("unshare", "--net", "sh", "-c", "ip link set lo up\n" + TOUR, env=env, cwd=tmp_path)


def test_exit_codes_and_signals_are_the_program_s_own(venv):
    done = subprocess.run([venv / "bin/memkv", "start", "--io", "nonesuch"], capture_output=True, text=True, timeout=20)
    assert done.returncode == 2 and "nonesuch" in done.stderr


@pytest.mark.parametrize("name,folder", [("not (prepared_lists and OBJ)", "plugins"), ("prepared_lists and OBJ", "plugins/obj")])
def test_nixl_transfers_through_the_wheel_s_plugin(name, folder, venv):
    """The plugin's own tests of transfers, with the wheel's plugin and server in place of the build's."""
    package = next(venv.glob("lib/python3*/site-packages/memkv"))
    env = dict(os.environ, MEMKV_PLUGINS=package / folder, MEMKV_BIN=package / "bin", NIXL_WHEELS="1.5.1")
    told = sh(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", name, ROOT / "tests/nixl/test_transfers.py", env=env)
    assert re.search(r"\b[1-9]\d* passed", told) and "skipped" not in told, told


def test_a_link_among_nixl_s_own_plugins_works_in_one_site_packages(venv):
    """What docs/nixl.md says: the library that the plugin looks for is as far from NIXL's folder as from ours."""
    packages = next(venv.glob("lib/python3*/site-packages"))
    link = packages / ".nixl_cu12.mesonpy.libs/plugins/libplugin_MEMKV.so"
    link.parent.mkdir(parents=True)
    link.symlink_to(packages / "memkv/plugins/libplugin_MEMKV.so")
    sh(sys.executable, "-c", "import ctypes, os, sys; ctypes.CDLL(sys.argv[1], os.RTLD_NOW)", link)


@pytest.mark.parametrize("release,python", [("bookworm", "3.11"), ("trixie", "3.13")])
@pytest.mark.timeout(900)
def test_a_file_system_without_our_build_packages(release, python, wheel, tmp_path):
    """A bare Debian: no compiler, no OpenSSL headers, none of our libraries."""
    root = ROOT / "build" / f"bare-{release}"
    if not (root / "usr/bin/python3").exists():
        sh("rm", "-rf", root)
        mirror = sh("apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Codename: bookworm").splitlines()[0]
        sh("debootstrap", "--variant=minbase", "--include=python3-venv,iproute2", release, root, mirror, timeout=800)
    assert not list(root.glob("usr/lib/x86_64-linux-gnu/lib*fmt*")) and not (root / "usr/bin/cc").exists()
    place = root / "tmp/wheel"
    sh("rm", "-rf", place)
    place.mkdir()
    (place / wheel.name).write_bytes(wheel.read_bytes())
    (place / "tour").write_text(f"cd /tmp/wheel\nip link set lo up\nmount -t proc proc /proc\npython3 --version | grep -F {python}\npython3 -m venv venv\n"
                                f"venv/bin/pip install --quiet --no-index --disable-pip-version-check ./{wheel.name}\nPATH=/tmp/wheel/venv/bin:$PATH\n" + TOUR)
    env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "MEMKV_SHM_DIR": "/tmp/wheel/run"}
    told = sh("unshare", "--net", "--mount", "--pid", "--fork", "chroot", root, "sh", "-e", "/tmp/wheel/tour", env=env)
    assert "libplugin_MEMKV.so" in told
    sh("rm", "-rf", place)
