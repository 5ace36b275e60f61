#!/usr/bin/env python3
"""Shows that the tests of the ten rules (docs/data-file.md) catch what the rules are for.

Runs each rule's tests twice: with the rule (they must pass) and with the rule taken out (at least one must fail).
usage: tools/rules.py [path of rules_test]
"""
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RULES = 10
TIMEOUT_S = 300


def run(program, rule, taken_out):
    """True when the rule's tests passed; a crash, an assert or a hang is a failure like any other."""
    command = [program, f"--gtest_filter=Rule{rule:02}*", "--gtest_brief=1"]
    if taken_out:
        command.append(f"--take-out={rule}")
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return False, f"no end within {TIMEOUT_S} s"
    output = done.stdout + done.stderr
    return done.returncode == 0 and "0 tests from" not in output, output


def main():
    program = sys.argv[1] if len(sys.argv) > 1 else str(ROOT / "build/release/tests/rules_test")
    if not Path(program).exists():
        sys.exit(f"rules: {program} is not there: build it first (./dev build release --target rules_test)")
    caught = 0
    for rule in range(1, RULES + 1):
        passes, output = run(program, rule, taken_out=False)
        survives, _ = run(program, rule, taken_out=True)
        good = passes and not survives
        caught += good
        print(f"rule {rule:2}: {'passes' if passes else 'FAILS'} with it, {'PASSES' if survives else 'fails'} without it")
        if not passes:
            print(output)
    print(f"{caught} of {RULES} caught")
    sys.exit(caught != RULES)


if __name__ == "__main__":
    main()
