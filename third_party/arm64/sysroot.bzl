"""What --config=arm64 compiles against: the folder that `tools/setup.sh arm64` laid, as the repository @arm64."""

def _arm64(ctx):
    root = ctx.path(Label("//:BUILD.bazel")).dirname.get_child(".deps").get_child("arm64")
    if not root.exists:
        fail(".deps/arm64 is not there: run tools/setup.sh arm64 first")
    paths = {
        "%{sysroot}": str(root.get_child("sysroot").realpath),
        "%{qemu}": str(ctx.which("qemu-aarch64-static") or ""),
    }
    ctx.template("BUILD.bazel", ctx.attr.build_file, substitutions = paths)
    ctx.template("run.sh", ctx.attr.runner, substitutions = paths, executable = True)
    ctx.template("cargo_env.sh", ctx.attr.cargo_env, substitutions = paths)
    ctx.file("WORKSPACE", "")

arm64 = repository_rule(
    implementation = _arm64,
    attrs = {
        "build_file": attr.label(allow_single_file = True, mandatory = True),
        "cargo_env": attr.label(allow_single_file = True, mandatory = True),
        "runner": attr.label(allow_single_file = True, mandatory = True),
    },
    local = True,
)
