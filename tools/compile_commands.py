#!/usr/bin/env python3
"""Writes compile_commands.json for clang-tidy and clangd out of `bazel aquery` (Bazel 4 and later)."""

import json
import os
import subprocess
import sys

BAZEL = os.environ.get("BAZEL", "bazel")
# GCC's own flags, which clang refuses, and OpenMP, whose header clang has in a package of its own.
DROP = {
    "-fopenmp",
    "-fno-canonical-system-headers",
    "-Wno-free-nonheap-object",
    "-Wunused-but-set-parameter",
    "-Wno-maybe-uninitialized",
}


def output(*arguments):
    return subprocess.check_output([BAZEL, *arguments], text=True, stderr=subprocess.DEVNULL)


def main():
    targets = sys.argv[1] if len(sys.argv) > 1 else "//..."
    root = output("info", "execution_root").strip()
    query = f"mnemonic('CppCompile', {targets})"
    actions = json.loads(output("aquery", query, "--output=jsonproto", "--include_artifacts=false"))["actions"]
    seen, commands = set(), []
    for action in actions:
        arguments = [word for word in action["arguments"] if word not in DROP]
        source = arguments[arguments.index("-c") + 1]
        if source.startswith(("external/", "bazel-out/")) or source in seen:
            continue
        seen.add(source)
        path = os.path.abspath(source)
        arguments = [path if word == source else word for word in arguments]
        # The execution root links only what the last build named: our own headers are found from here.
        arguments[1:1] = ["-iquote", os.getcwd()]
        commands.append({"directory": root, "file": path, "arguments": arguments})
    with open("compile_commands.json", "w") as file:
        json.dump(commands, file, indent=1)
    print(len(commands), "files")


if __name__ == "__main__":
    main()
