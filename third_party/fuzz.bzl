"""Fuzz targets: an ordinary test runs the corpus under any compiler; --config=fuzz makes a libFuzzer binary with clang."""

def cc_fuzz_test(name, srcs, corpus, deps = [], tags = []):
    """Declares one.

    Args:
      name: of the target; `make fuzz` runs every target tagged "fuzz".
      srcs: define LLVMFuzzerTestOneInput.
      corpus: label of a filegroup of inputs.
      deps: as of a cc_test.
      tags: as of a cc_test.
    """
    native.cc_test(
        name = name,
        size = "small",
        srcs = srcs,
        args = ["$(locations %s)" % corpus],
        data = [corpus],
        linkopts = select({
            "//tools:fuzzing": ["-fsanitize=fuzzer"],
            "//conditions:default": [],
        }),
        tags = tags + ["fuzz"],
        deps = deps + select({
            "//tools:fuzzing": [],
            "//conditions:default": ["//tools:fuzz_main"],
        }),
    )
