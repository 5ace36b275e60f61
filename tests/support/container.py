"""container.py [OPTION...] -- PROGRAM [ARGUMENT...]: runs a program as a container runtime would: a root of its own, less rights, a seccomp filter.

It becomes the program (same process id), so signals reach it. Needs root, and libseccomp.so.2 for --seccomp and --deny.
"""

import argparse
import ctypes
import json
import os
import pathlib
import struct
import sys
import tempfile

CLONE_NEWNS, CLONE_NEWUSER = 0x20000, 0x10000000
MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE, MNT_DETACH = 1, 32, 4096, 16384, 1 << 18, 2
SYS_PIVOT_ROOT, SYS_CAPSET, SYS_MOUNT_SETATTR = 155, 126, 442
MOUNT_ATTR_RDONLY, AT_RECURSIVE = 1, 0x8000
PR_SET_DUMPABLE, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 4, 24, 38
ALLOW, ERRNO = 0x7FFF0000, 0x00050000
OPERATORS = {"NE": 1, "LT": 2, "LE": 3, "EQ": 4, "GE": 5, "GT": 6, "MASKED_EQ": 7}
IO_URING = ("io_uring_setup", "io_uring_enter", "io_uring_register")
ERRORS = {"EPERM": 1, "ENOENT": 2, "ENOMEM": 12, "EACCES": 13, "ENOSYS": 38}

libc = ctypes.CDLL(None, use_errno=True)


def check(result, what):
    if result < 0:
        error = ctypes.get_errno()
        sys.exit(f"container.py: {what}: {os.strerror(error)}")


def mount(source, target, kind=None, flags=0, data=None):
    encode = lambda text: None if text is None else str(text).encode()
    check(libc.mount(encode(source), encode(target), encode(kind), ctypes.c_ulong(flags), encode(data)), f"mount {target}")


def set_read_only(path):
    attributes = struct.pack("QQQQ", MOUNT_ATTR_RDONLY, 0, 0, 0)
    check(libc.syscall(SYS_MOUNT_SETATTR, -100, str(path).encode(), AT_RECURSIVE, attributes, len(attributes)), f"mount_setattr {path}")


def enter_root(args):
    """A read-only root on a tmpfs: /usr and /etc of this machine, /proc, /sys, /dev, an own /dev/shm, the programs at /app, and what --data names at /data."""
    check(libc.unshare(CLONE_NEWNS), "unshare")
    mount("none", "/", flags=MS_REC | MS_PRIVATE)
    root = pathlib.Path(tempfile.gettempdir())
    data, app = (os.open(path, os.O_PATH) for path in (args.data, args.app))
    mount("root", root, "tmpfs", data="mode=755,size=1m")
    for name in ("usr", "etc", "proc", "sys", "dev"):
        (root / name).mkdir()
        mount(f"/{name}", root / name, flags=MS_BIND | MS_REC)
    for name in ("usr", "etc"):
        set_read_only(root / name)
    for name in ("bin", "sbin", "lib", "lib32", "lib64"):
        if os.path.islink(f"/{name}"):
            (root / name).symlink_to(os.readlink(f"/{name}"))
    for name, folder in (("data", data), ("app", app)):
        (root / name).mkdir()
        mount(f"/proc/self/fd/{folder}", root / name, flags=MS_BIND)
        os.close(folder)
    set_read_only(root / "app")
    mount("shm", root / "dev/shm", "tmpfs", data=f"size={args.shm}")
    if args.tmp:
        (root / "tmp").mkdir()
        mount("tmp", root / "tmp", "tmpfs", data="mode=1777")
    mount(None, root, flags=MS_REMOUNT | MS_RDONLY, data="mode=755")
    os.chdir(root)
    check(libc.syscall(SYS_PIVOT_ROOT, b".", b"."), "pivot_root")
    check(libc.umount2(b".", MNT_DETACH), "umount")
    os.chdir("/data")


def drop_rights(args):
    for capability in range(64):
        libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)  # those that the kernel does not know fail
    os.setgroups([])
    os.setresgid(args.uid, args.uid, args.uid)
    os.setresuid(args.uid, args.uid, args.uid)
    if args.rootless:  # root, with all capabilities, in a namespace that maps it to the user
        check(libc.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0), "dumpable")  # else /proc/self is not ours
        check(libc.unshare(CLONE_NEWUSER), "unshare user")
        for name, text in (("setgroups", "deny"), ("uid_map", f"0 {args.uid} 1"), ("gid_map", f"0 {args.uid} 1")):
            pathlib.Path("/proc/self", name).write_text(text)
    else:
        header, nothing = struct.pack("Ii", 0x20080522, 0), bytes(24)
        check(libc.syscall(SYS_CAPSET, header, nothing), "capset")
    check(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")


class Compare(ctypes.Structure):
    _fields_ = [("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64)]


class Filter:
    """A seccomp filter by libseccomp, the library that container runtimes use."""

    def __init__(self, default):
        self.library = ctypes.CDLL("libseccomp.so.2", use_errno=True)
        self.library.seccomp_init.restype = ctypes.c_void_p
        self.context = ctypes.c_void_p(self.library.seccomp_init(ctypes.c_uint32(default)))

    def add(self, action, name, compares=()):
        number = self.library.seccomp_syscall_resolve_name(name.encode())
        if number < 0:
            return  # of another architecture, or newer than the library
        array = (Compare * len(compares))(*compares)
        code = self.library.seccomp_rule_add_array(self.context, ctypes.c_uint32(action), number, len(compares), array)
        if code < 0:
            sys.exit(f"container.py: seccomp rule for {name}: {os.strerror(-code)}")

    def load(self):
        code = self.library.seccomp_load(self.context)
        if code < 0:
            sys.exit(f"container.py: seccomp_load: {os.strerror(-code)}")


def matches(rule):
    """Docker's conditions, for amd64 and a container without capabilities."""
    includes, excludes = rule.get("includes") or {}, rule.get("excludes") or {}
    if includes.get("caps") or ("arches" in includes and "amd64" not in includes["arches"]):
        return False
    return "amd64" not in excludes.get("arches", ())


def docker_filter(without):
    profile = json.loads((pathlib.Path(__file__).parent / "seccomp/docker-20.10.24.json").read_text())
    result = Filter(ERRNO | profile.get("defaultErrnoRet", 1))
    for rule in filter(matches, profile["syscalls"]):
        action = ALLOW if rule["action"] == "SCMP_ACT_ALLOW" else ERRNO | rule.get("errnoRet", 1)
        compares = [Compare(a["index"], OPERATORS[a["op"].removeprefix("SCMP_CMP_")], a["value"], a.get("valueTwo", 0)) for a in rule["args"] or ()]
        for name in rule["names"]:
            if name not in without:
                result.add(action, name, compares)
    return result


def denying_filter(denied):
    """--deny NAME=ERRNO or NAME:ARGUMENT=VALUE=ERRNO (the argument by its index)."""
    result = Filter(ALLOW)
    for text in denied:
        call, *value, error = text.split("=")
        name, _, argument = call.partition(":")
        result.add(ERRNO | ERRORS[error], name, [Compare(int(argument), OPERATORS["EQ"], int(value[0]), 0)] if argument else ())
    return result


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--join", action="append", default=[], help="cgroup folder")
    parser.add_argument("--data", help="folder that is /data, the working folder; without it the root stays this machine's")
    parser.add_argument("--app", help="folder that is /app")
    parser.add_argument("--shm", default="64m")
    parser.add_argument("--tmp", action="store_true")
    parser.add_argument("--uid", type=int)
    parser.add_argument("--rootless", action="store_true")
    parser.add_argument("--seccomp", choices=["docker", "docker-25"])
    parser.add_argument("--deny", action="append", default=[])
    parser.add_argument("--close", action="append", type=int, default=[], help="descriptor")
    parser.add_argument("argv", nargs="+")
    args = parser.parse_args()
    for folder in args.join:
        pathlib.Path(folder, "cgroup.procs").write_text(str(os.getpid()))
    filters = []
    if args.seccomp:
        filters.append(docker_filter(IO_URING if args.seccomp == "docker-25" else ()))
    if args.deny:
        filters.append(denying_filter(args.deny))
    if args.data:
        enter_root(args)
    if args.uid is not None:
        drop_rights(args)
    environment = {k: v for k, v in os.environ.items() if k not in ("HOME", "TMPDIR", "XDG_RUNTIME_DIR")} if args.data else os.environ
    for descriptor in args.close:
        os.close(descriptor)
    for each in reversed(filters):  # the one that denies less first: it leaves the other's system calls alone
        each.load()
    os.execve(args.argv[0], args.argv, environment)


main()
