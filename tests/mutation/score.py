#!/usr/bin/python3
"""Mutation score of `waveq vectors`: which share of realistic kernel bugs its vectors expose, beside the share that
equally many uniformly random vectors of the same kernels expose.

Every operator of the dialect has a plain C implementation with switchable bugs in kernels/ (harness.h says how), compiled
with the generated vectors.h of each instance in instances.py and run. A bug counts as exposed where an output of any
instance differs. The right kernel must pass everywhere. Exit code: 0 where every bug that can be exposed is, 1 else,
77 without a C compiler.
"""
import argparse
import concurrent.futures
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from instances import NOT_HERE, NOT_HERE_EXACTLY, all_instances

HERE = Path(__file__).resolve().parent
KERNELS = HERE / "kernels"
TEXT = r'((?:"[^"]*"\s*)+)'  # C joins neighbouring literals
BUG = re.compile(r'\bM\(\s*(\d+),\s*' + TEXT)
EQUIVALENT = re.compile(r'\bE\(\s*(\d+),\s*' + TEXT + r',\s*' + TEXT)


class Failure(Exception):
    """A tool did not do what it should."""


def source_text(path):
    """A kernel file with the local headers it includes, harness.h left out."""
    text = path.read_text()
    for name in re.findall(r'#include "([a-z_]+\.h)"', text):
        if name != "harness.h":
            text += source_text(path.parent / name)
    return text


def literal(text):
    return "".join(re.findall('"([^"]*)"', text))


def bugs_of(path):
    """(texts of all bugs by number, reasons of those that no input can show)."""
    text = source_text(path)
    bugs = {}
    for number, what in BUG.findall(text):
        bugs[int(number)] = bugs.get(int(number)) or literal(what)
    reasons = {}
    for number, what, reason in EQUIVALENT.findall(text):
        bugs[int(number)], reasons[int(number)] = literal(what), literal(reason)
    if sorted(bugs) != list(range(1, len(bugs) + 1)) or not all(bugs.values()):
        raise Failure(f"{path.name}: bugs are not numbered 1..{len(bugs)}, each with a text")
    return bugs, reasons


def run(command):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Failure(f"{' '.join(map(str, command))}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


class Score:
    def __init__(self, waveq, compiler, folder, factor):
        self.waveq, self.compiler, self.folder, self.factor = waveq, compiler, Path(folder), factor

    def vectors(self, instance, name, *options):
        """Folder with vectors.h of an instance."""
        out = self.folder / name
        run([self.waveq, "vectors", *instance.arguments(), "--node", "kernel", "--format", "c", "-o", out, *options])
        return out / "kernel"

    def exposing_cases(self, instance, folder):
        """By bug number (0: none), how many cases differ."""
        kernel = KERNELS / f"{instance.kernel or instance.op.lower()}.c"
        program = folder / "run"
        defines = [f'-DVECTORS="{folder / "vectors.h"}"', f"-DMUTANTS={len(bugs_of(kernel)[0])}", *("-D" + d for d in instance.defines)]
        run([self.compiler, "-std=c99", "-Wall", "-Wextra", "-Werror", "-Wno-unused", "-fwrapv", "-O0", *defines, kernel, "-o", program])
        return {int(a): int(b) for a, b in (line.split() for line in run([program]).splitlines())}

    def measure(self, job):
        """(cases, exposed by the vectors, exposed by as many random ones) of one instance."""
        index, instance = job
        designed = self.vectors(instance, f"designed_{index}")
        cases = int(re.search(r"define WAVEQ_KERNEL_CASES (\d+)", (designed / "vectors.h").read_text())[1])
        random = self.vectors(instance, f"random_{index}", "--random-only", "--random", cases * self.factor)
        results = [self.exposing_cases(instance, folder) for folder in (designed, random)]
        for kind, result in zip(("designed", "random"), results):
            if result[0]:
                raise Failure(f"{kind} vectors of {instance.op} {instance.operands}: the right kernel fails {result[0]} cases")
        return cases, *({bug for bug, count in result.items() if count} for result in results)


def rows_of(instances, measured):
    """By table row: kernel file, instances, cases, exposed by designed and by random vectors."""
    rows = {}
    for instance, (cases, designed, random) in zip(instances, measured):
        row = rows.setdefault(instance.row or instance.op, {"kernel": instance.kernel or instance.op.lower(), "instances": 0,
                                                            "cases": 0, "designed": set(), "random": set()})
        row["instances"] += 1
        row["cases"] += cases
        row["designed"] |= designed
        row["random"] |= random
    return rows


def impossible(name):
    """Bugs that cannot show in a row, by number, with the reason."""
    listed = [entry for entry in NOT_HERE if name.startswith(entry[0])] + [entry for entry in NOT_HERE_EXACTLY if name == entry[0]]
    return {number: reason for _, numbers, reason in listed for number in numbers}


def print_table(rows):
    """Prints the table; returns whether every row is complete."""
    complete = True
    totals = [0, 0, 0]
    missed, equivalent = [], []
    print(f"{'operator':38} {'kernels':>7} {'cases':>6} {'bugs':>5} {'designed':>9} {'random':>8}")
    for name, row in rows.items():
        bugs, reasons = bugs_of(KERNELS / f"{row['kernel']}.c")
        reasons = reasons | impossible(name)
        real = set(bugs) - set(reasons)
        designed, random = real & row["designed"], real & row["random"]
        print(f"{name:38} {row['instances']:7} {row['cases']:6} {len(real):5} {len(designed) / len(real):9.1%} {len(random) / len(real):8.1%}")
        missed += [f"{name}: {n} {bugs[n]}" for n in sorted(real - designed)]
        missed += [f"{name}: {n} {bugs[n]} is listed as equivalent, but is exposed" for n in set(reasons) & row["designed"]]
        equivalent += [f"{name}: {bugs[n]}: {reason}" for n, reason in sorted(reasons.items())]
        totals = [a + b for a, b in zip(totals, (len(real), len(designed), len(random)))]
    print(f"{'all':38} {'':7} {sum(r['cases'] for r in rows.values()):6} {totals[0]:5} {totals[1] / totals[0]:9.1%} {totals[2] / totals[0]:8.1%}")
    print("\nleft out, because no input shows them:")
    for text in equivalent:
        print(f"  {text}")
    for text in missed:
        print(f"NOT EXPOSED {text}")
        complete = False
    return complete


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--waveq", default=os.environ.get("WAVEQ_BINARY", HERE.parents[1] / "build" / "cli" / "waveq"), help="the program")
    parser.add_argument("--compiler", default=shutil.which("gcc") or shutil.which("clang") or "", help="C compiler (default: gcc, else clang)")
    parser.add_argument("--only", default="", help="rows whose name contains this")
    parser.add_argument("--random-factor", type=int, default=1, help="how many times as many random vectors (default: 1)")
    parser.add_argument("--keep", help="folder for vectors and programs")
    parser.add_argument("--audit", action="store_true", help="also list, by instance, bugs that random vectors expose and designed ones do not")
    options = parser.parse_args()
    if not options.compiler:
        print("SKIPPED: no C compiler (gcc or clang)")
        return 77
    instances = [i for i in all_instances() if options.only.lower() in (i.row or i.op).lower()]
    with tempfile.TemporaryDirectory(prefix="waveq-mutation-") as scratch:
        folder = Path(options.keep or scratch)
        folder.mkdir(exist_ok=True)
        score = Score(options.waveq, options.compiler, folder, options.random_factor)
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            measured = list(pool.map(score.measure, enumerate(instances)))
    if options.audit:
        for index, (instance, (_, designed, random)) in enumerate(zip(instances, measured)):
            for bug in sorted(random - designed):
                print(f"AUDIT {index} {instance.op} {instance.operands}: {bug} {bugs_of(KERNELS / f'{instance.kernel or instance.op.lower()}.c')[0][bug]}")
    return 0 if print_table(rows_of(instances, measured)) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failure as failure:
        print(failure, file=sys.stderr)
        sys.exit(1)
