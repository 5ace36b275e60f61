#!/usr/bin/env python3
"""CPU time of servers for gets of small blocks in batches: MemKV beside redis (pipelined) and memcached (multiget).

Each server has one thread for requests; all are asked over loopback TCP by
one client with four batches under way, by turns. A line shows the median over all rounds of the user and system time
that a server took a get, and of the other server's time over MemKV's in the same round. CPU time says little of rates,
but a busy machine changes it less.
"""
import argparse
import glob
import os
import socket
import statistics
import subprocess
import tempfile
import time

DEPTH = 4


def cpu_ns(pid):
    """User and system time of all threads of the process."""
    total = 0
    for path in glob.glob(f"/proc/{pid}/task/*/schedstat"):
        with open(path) as stat:
            total += int(stat.read().split()[0])
    return total


class Stream:
    """A connection whose replies are only counted."""

    def __init__(self, port):
        for _ in range(200):
            try:
                self.socket = socket.create_connection(("127.0.0.1", port))
                break
            except ConnectionRefusedError:
                time.sleep(0.05)
        else:
            raise SystemExit("a server does not answer within 10 seconds")
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = bytearray(1 << 20)

    def take(self, count):
        while count > 0:
            got = self.socket.recv_into(self.buffer, min(count, len(self.buffer)))
            if got == 0:
                raise SystemExit("the server closed the connection")
            count -= got

    def run(self, requests, reply_bytes):
        """All requests, DEPTH of them under way."""
        for i, request in enumerate(requests):
            self.socket.sendall(request)
            if i >= DEPTH:
                self.take(reply_bytes)
        self.take(reply_bytes * min(DEPTH, len(requests)))


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def measure_redis(args, keys, batches):
    port = free_port()
    server = subprocess.Popen(["redis-server", "--port", str(port), "--save", "", "--appendonly", "no"],
                              stdout=subprocess.DEVNULL)
    try:
        stream = Stream(port)
        value = b"v" * args.block
        stream.run([b"".join(b"*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n" % (len(k), k, len(value), value) for k in b)
                    for b in batches], args.batch * len(b"+OK\r\n"))
        gets = [b"".join(b"*2\r\n$3\r\nGET\r\n$%d\r\n%s\r\n" % (len(k), k) for k in b) for b in batches]
        before = cpu_ns(server.pid)
        stream.run(gets, args.batch * (len(b"$%d\r\n" % args.block) + args.block + 2))
        return (cpu_ns(server.pid) - before) / len(keys)
    finally:
        server.terminate()
        server.wait()


def measure_memcached(args, keys, batches):
    port = free_port()
    server = subprocess.Popen(["memcached", "-u", "root", "-t", "1", "-m", "2048", "-R", "1000", "-p", str(port), "-U", "0"])
    try:
        stream = Stream(port)
        value = b"v" * args.block
        stream.run([b"".join(b"set %s 0 0 %d\r\n%s\r\n" % (k, len(value), value) for k in b) for b in batches],
                   args.batch * len(b"STORED\r\n"))
        reply = sum(len(b"VALUE %s 0 %d\r\n" % (k, args.block)) + args.block + 2 for k in batches[0]) + len(b"END\r\n")
        gets = [b"get " + b" ".join(b) + b"\r\n" for b in batches]
        before = cpu_ns(server.pid)
        stream.run(gets, reply)
        return (cpu_ns(server.pid) - before) / len(keys)
    finally:
        server.terminate()
        server.wait()


def measure_memkv(args, keys, _):
    with tempfile.TemporaryDirectory() as folder:
        ready = os.path.join(folder, "ready")
        server = subprocess.Popen([os.path.join(args.bin, "memkv"), "start", "--mode", "memory", "--memory", "1GiB",
                                   "--address", "127.0.0.1:0", "--workers", "1", "--ready-file", ready],
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            while not os.path.exists(ready) or os.path.getsize(ready) == 0:
                if server.poll() is not None:
                    raise SystemExit("memkv did not start")
                time.sleep(0.05)
            with open(ready) as text:
                address = text.read().strip()
            bench = subprocess.Popen([os.path.join(args.bin, "memkv-bench"), "sweep", "--servers", address, "--transport",
                                      "tcp", "--sizes", f"{args.block}B", "--bytes", f"{len(keys) * args.block}B",
                                      "--threads", "1", "--depth", str(DEPTH), "--batch", str(args.batch), "--verify",
                                      "off", "--no-ceiling"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            times = {}
            for line in bench.stdout:
                for op in ("write", "read"):
                    if f" {op} " in line and op not in times:
                        times[op] = cpu_ns(server.pid)
            if bench.wait() != 0 or len(times) != 2:
                raise SystemExit("memkv-bench failed")
            return (times["read"] - times["write"]) / len(keys)
        finally:
            server.terminate()
            server.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bin", help="folder with memkv and memkv-bench, such as build/release/bin")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--block", type=int, default=4096)
    parser.add_argument("--keys", type=int, default=65536)
    args = parser.parse_args()

    keys = [b"bench/0123456789abcdef/4096/%08x" % i for i in range(args.keys)]
    batches = [keys[i:i + args.batch] for i in range(0, len(keys), args.batch)]
    servers = {"memkv": measure_memkv, "redis": measure_redis, "memcached": measure_memcached}
    times = {name: [] for name in servers}
    for turn in range(args.rounds):
        names = list(servers)
        for name in names[turn % 3:] + names[:turn % 3]:
            times[name].append(servers[name](args, keys, batches))
    for name, of in times.items():
        ratio = statistics.median(a / b for a, b in zip(of, times["memkv"]))
        print(f"{name:10} {statistics.median(of) / 1000:6.2f} us of CPU a get; over MemKV's {ratio:.2f}")


if __name__ == "__main__":
    main()
