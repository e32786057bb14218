"""The score of the mutants that were tried, by module; with --survivors, by name

A mutant is killed by a failing test or by running out of time.
"""

import json
import sys
from collections import Counter
from pathlib import Path

WORK = Path(__file__).parents[2] / "build" / "mutants" / "mutants"
SURVIVED, KILLED, NOT_COVERED = 0, (1, 3), 33
OUT_OF_TIME = (-24, 24, 36, 152, 255)  # SIGXCPU and its kin, as mutmut keeps them


def verdict(code: int | None) -> str:
    if code is None:
        return "not tried"
    if code == SURVIVED:
        return "survived"
    if code == NOT_COVERED:
        return "not covered"
    if code in KILLED:
        return "killed"
    return "timeout" if code in OUT_OF_TIME else f"exit {code}"


def main() -> None:
    total: Counter[str] = Counter()
    print(f"{'module':28}{'mutants':>8}{'killed':>8}{'survived':>9}{'untried':>8}{'score':>7}")
    for path in sorted(WORK.rglob("*.meta")):
        codes = json.loads(path.read_text())["exit_code_by_key"]
        if not codes:
            continue
        found = Counter(verdict(code) for code in codes.values())
        total += found
        row(str(path.relative_to(WORK)).removesuffix(".py.meta").replace("/", "."), found)
        if "--survivors" in sys.argv:
            for key, code in codes.items():
                if verdict(code) not in ("killed", "timeout", "not tried"):
                    print(f"    {key} {verdict(code)}")
    row("all", total)


def row(name: str, found: Counter[str]) -> None:
    killed, untried = found["killed"] + found["timeout"], found["not tried"]
    tried = found.total() - untried
    score = f"{killed / tried:.0%}" if tried else "-"
    print(f"{name:28}{found.total():8}{killed:8}{tried - killed:9}{untried:8}{score:>7}")


if __name__ == "__main__":
    main()
