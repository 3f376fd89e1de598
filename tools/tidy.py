#!/usr/bin/env python3
"""clang-tidy over C++ files, once for each state of them: what passed before is not looked at again.

    tools/tidy.py --all            every file that git tracks
    tools/tidy.py --since REV      those that changed since REV

Needs compile_commands.json (tools/compile_commands.py, after a build). A file's state is its text and that of every
project header it reaches. What passed is remembered in ${XDG_CACHE_HOME:-~/.cache}/studio/tidy.
"""

import argparse
import concurrent.futures
import functools
import hashlib
import os
import pathlib
import re
import subprocess
import sys

INCLUDE = re.compile(r'^#include "([^"]+)"', re.MULTILINE)
IMPORT = re.compile(r'^import "([^"]+)"', re.MULTILINE)


def git(*arguments):
    return subprocess.check_output(["git", *arguments], text=True).splitlines()


@functools.cache
def reaches(path):
    """The file and all project files that it includes, whatever the way."""
    found, waiting = set(), [path]
    while waiting:
        name = waiting.pop()
        # A generated header stands for the .proto that it is made of.
        name = re.sub(r"(\.grpc)?\.pb\.h$", ".proto", name)
        if name in found or not os.path.exists(name):
            continue
        found.add(name)
        text = pathlib.Path(name).read_text()
        waiting += (IMPORT if name.endswith(".proto") else INCLUDE).findall(text)
    return frozenset(found)


@functools.cache
def digest(path):
    return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()


def state(path, version):
    parts = [version, digest(".clang-tidy"), path] + [name + digest(name) for name in sorted(reaches(path))]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--all", action="store_true")
    which.add_argument("--since", metavar="REV")
    arguments = parser.parse_args()

    version = subprocess.check_output(["clang-tidy", "--version"], text=True)
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache"))) / "studio" / "tidy"
    cache.mkdir(parents=True, exist_ok=True)
    files = git("ls-files", "*.cc")
    if arguments.since:
        changed = set(git("diff", "--name-only", arguments.since))
        files = [path for path in files if path in changed]
    waiting = [path for path in files if not (cache / state(path, version)).exists()]

    def check(path):
        run = subprocess.run(["clang-tidy", "--quiet", "-p", ".", path], text=True, capture_output=True, check=False)
        if run.returncode == 0:
            (cache / state(path, version)).touch()
        return run

    failed = 0
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for path, run in zip(waiting, pool.map(check, waiting), strict=True):
            if run.returncode != 0:
                failed += 1
                print(f"{path}:\n{run.stdout}{run.stderr if not run.stdout else ''}")
    print(f"clang-tidy: {len(files)} files, {len(files) - len(waiting)} known, {failed} with findings")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
