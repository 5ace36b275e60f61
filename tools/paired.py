#!/usr/bin/env python3
"""Two builds by turns on one machine: what the new one reaches of the old one, beside the old one against itself.

usage: tools/paired.py OLD_BIN NEW_BIN [--rounds N] [--sizes 4KiB,64KiB,1MiB] [--own memory,file] [--transport tcp,shm]

Each BIN is a folder with memkv and memkv-bench. One round runs `memkv-bench sweep` of the old build, of the new one
and of the old one again, in an order that turns with the round; each program drives a server of its own build. A line
shows the median over all rounds of new / old, and of old / old (the control): where the control is off by more than
0.03, the machine was too noisy for the rounds there were, and more of them are needed.
Exit code: 0 all lines at 0.95 or more, 1 a line with a valid control is below, 2 a control was off and none was below.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile


def sweep(folder, args, own, transport):
    """Operations a second by (operation, block bytes) of one run."""
    with tempfile.NamedTemporaryFile(suffix=".json") as out:
        command = [os.path.join(folder, "memkv-bench"), "sweep", "--own", own, "--transport", transport, "--sizes",
                   args.sizes, "--bytes", args.bytes, "--verify", "off", "--no-ceiling", "--deadline", "60s", "--json",
                   out.name]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600)
        if done.returncode:
            sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return {(run["op"], run["block_bytes"]): run["ops_per_s"] for run in json.load(out)["runs"]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", help="folder of the old build's programs")
    parser.add_argument("new", help="folder of the new build's programs")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--sizes", default="4KiB,64KiB,1MiB")
    parser.add_argument("--bytes", default="512MiB", help="written and read per size and run")
    parser.add_argument("--own", default="memory,file", help="storage of the servers")
    parser.add_argument("--transport", default="tcp,shm")
    args = parser.parse_args()

    print(f"{'storage':8} {'via':4} {'op':6} {'block':>9}  new/old  old/old   (medians of {args.rounds} rounds)", flush=True)
    below = noisy = 0
    for own in args.own.split(","):
        for transport in args.transport.split(","):
            ratios, controls = {}, {}
            for turn in range(args.rounds):
                order = [["old", "new", "again"], ["new", "again", "old"], ["again", "old", "new"]][turn % 3]
                got = {which: sweep(args.new if which == "new" else args.old, args, own, transport) for which in order}
                for line in got["new"]:
                    beside = (got["old"][line] + got["again"][line]) / 2
                    ratios.setdefault(line, []).append(got["new"][line] / beside)
                    controls.setdefault(line, []).append(got["again"][line] / got["old"][line])
            for op, block in sorted(ratios, key=lambda line: line[1]):
                ratio, control = (statistics.median(of[op, block]) for of in (ratios, controls))
                off = abs(control - 1) > 0.03
                noisy += off
                below += ratio < 0.95 and not off
                remark = "  control off: more rounds" if off else "  BELOW 0.95" if ratio < 0.95 else ""
                print(f"{own:8} {transport:4} {op:6} {block:9}  {ratio:7.3f}  {control:7.3f}{remark}", flush=True)
    sys.exit(1 if below else 2 if noisy else 0)


if __name__ == "__main__":
    main()
