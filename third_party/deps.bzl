"""Repositories made of folders that are already on this machine: nothing is fetched by a build."""

def _workspace_folder(ctx):
    return ctx.path(Label("//:BUILD.bazel")).dirname

def _link_children(ctx, folder):
    for child in folder.readdir():
        if child.basename not in ["WORKSPACE", "BUILD", "BUILD.bazel", "WORKSPACE.bazel"]:
            ctx.symlink(child, child.basename)

def _deps_folder(ctx):
    folder = _workspace_folder(ctx).get_child(".deps")
    for part in ctx.attr.folder.split("/"):
        folder = folder.get_child(part)
    if not folder.exists:
        fail(".deps/%s is not there: run tools/setup.sh first" % ctx.attr.folder)
    _link_children(ctx, folder)
    ctx.symlink(ctx.path(ctx.attr.build_file), "BUILD.bazel")
    ctx.file("WORKSPACE", "")

# A folder below .deps, with a BUILD file of ours.
deps_folder = repository_rule(
    implementation = _deps_folder,
    attrs = {
        "folder": attr.string(mandatory = True),
        "build_file": attr.label(allow_single_file = True, mandatory = True),
    },
    local = True,
)

def _system_folder(ctx):
    root = ctx.path(ctx.attr.path)
    if root.exists:
        _link_children(ctx, root)
        for name in ["BUILD", "BUILD.bazel"]:
            if root.get_child(name).exists:
                ctx.symlink(root.get_child(name), name)
    else:  # not Debian (Bazelisk): these repositories are built in or not needed there
        ctx.file("BUILD.bazel", "")
    ctx.file("WORKSPACE", "")

# A folder of the distribution's that is a Bazel repository already.
system_folder = repository_rule(
    implementation = _system_folder,
    attrs = {"path": attr.string(mandatory = True)},
    local = True,
)

_MACHINE_FLAGS = ["-l" + name for name in ["rt", "atomic", "pthread", "dl", "m"]]

def _pkg_config_words(ctx, modules):
    result = ctx.execute(["pkg-config", "--cflags", "--libs"] + modules.split(" "))
    if result.return_code != 0:
        fail("pkg-config %s: %s (run tools/setup.sh)" % (modules, result.stderr))
    return [word for word in result.stdout.replace("\n", " ").split(" ") if word]

def _pkg_config(ctx):
    """One cc_library per name, so that no list of Abseil's sixty libraries is written by hand."""
    out = ['package(default_visibility = ["//visibility:public"])']
    for name, modules in ctx.attr.modules.items():
        libs = []
        defines = []
        for word in _pkg_config_words(ctx, modules):
            if word.startswith("-D"):
                defines.append(word[2:])
            elif word.startswith("-l") and word not in libs:
                libs.append(word)
        libs = ctx.attr.extra.get(name, []) + libs
        static_defines = ctx.attr.header_only.get(name, defines)
        dynamic = ["-Wl,--push-state,--as-needed"] + libs + ["-Wl,--pop-state"]

        # For `make dist`: Debian's .a files, so that nothing but glibc must be on the other machine.
        archives = [word for word in libs if word not in _MACHINE_FLAGS]
        if name == "grpc":
            archives.append("-lprotobuf")
        static = ["-Wl,-Bstatic,--start-group"] + archives + ["-Wl,--end-group,-Bdynamic", "-lpthread", "-ldl"]
        if name in ctx.attr.header_only:
            static = ["-lpthread"]
        out.append("""
cc_library(
    name = %r,
    defines = select({
        "@studio//tools:static": %r,
        "//conditions:default": %r,
    }),
    linkopts = select({
        "@studio//tools:static": %r,
        "//conditions:default": %r,
    }),
)""" % (name, static_defines, defines, static, dynamic))
    ctx.file("BUILD.bazel", "\n".join(out) + "\n")
    ctx.file("WORKSPACE", "")

# The distribution's libraries by pkg-config. `modules`: name → module names; `extra`: name → further -l flags;
# `header_only`: name → defines that make a static build need no archive of it (Debian has none of spdlog and fmt).
pkg_config = repository_rule(
    implementation = _pkg_config,
    attrs = {
        "modules": attr.string_dict(),
        "extra": attr.string_list_dict(),
        "header_only": attr.string_list_dict(),
    },
    local = True,
    environ = ["PKG_CONFIG_PATH"],
)

def _python_string(text, before):
    """The string literal, or the word, that follows `before` on its line; empty where `before` is not there."""
    parts = text.split(before)
    return parts[1].split("\n")[0].strip("'\"") if len(parts) > 1 else ""

def _link_cuda_headers(ctx, nvidia):
    """CUDA 13's wheels share one include folder, each of CUDA 12's has its own. Nothing where only the CPU's are."""
    folders = [nvidia.get_child("cu13")]
    if not folders[0].exists:
        folders = nvidia.readdir() if nvidia.exists else []
    headers = {}
    for folder in folders:
        include = folder.get_child("include")
        if folder.basename != "nccl" and include.exists:
            headers.update({child.basename: child for child in include.readdir() if not child.basename.startswith("__")})
    for name, path in headers.items():
        ctx.symlink(path, "cuda/" + name)

def _torch(ctx):
    """LibTorch out of the wheel.

    Only the wanted header folders are linked: include/google (an old protobuf) would shadow the system's wherever no
    sandbox hides it. The libraries are named by their real folder, because they find the CUDA wheels by
    $ORIGIN/../../nvidia/…, so no LD_LIBRARY_PATH is needed.
    """
    root = _workspace_folder(ctx).get_child(".deps")
    for part in ctx.attr.folder.split("/"):
        root = root.get_child(part)
    lib = root.get_child("lib")
    pythons = [p for p in lib.readdir() if p.basename.startswith("python3")] if lib.exists else []
    site = pythons[0].get_child("site-packages") if pythons else root
    if not site.get_child("torch").exists:
        fail(".deps/%s is not there: run tools/setup.sh %s first" % (ctx.attr.folder, ctx.attr.set_up))
    wheel = site.get_child("torch")
    for folder in ["ATen", "c10", "caffe2", "torch"]:
        ctx.symlink(wheel.get_child("include").get_child(folder), "include/" + folder)
    ctx.file("cuda/.keep", "")
    _link_cuda_headers(ctx, site.get_child("nvidia"))
    bitsandbytes = site.get_child("bitsandbytes")
    ctx.file("bitsandbytes/.keep", "")
    for name in ["libbitsandbytes_cpu.so", "libbitsandbytes_cuda126.so", "libbitsandbytes_cuda130.so"]:
        if bitsandbytes.get_child(name).exists:
            ctx.symlink(bitsandbytes.get_child(name), "bitsandbytes/" + name)
    nccl = site.get_child("nvidia").get_child("nccl").get_child("include").get_child("nccl.h")
    ctx.file("nccl/.keep", "")
    if nccl.exists:
        ctx.symlink(nccl, "nccl/nccl.h")
    facts = ctx.read(wheel.get_child("version.py"))
    cuda = _python_string(facts, "\ncuda: Optional[str] = ")
    ctx.template("BUILD.bazel", ctx.attr.build_file, substitutions = {
        "%{lib}": str(wheel.get_child("lib").realpath),
        "%{version}": _python_string(facts, "__version__ = "),
        "%{cuda}": "" if cuda == "None" else cuda,
    })
    ctx.file("WORKSPACE", "")

torch = repository_rule(
    implementation = _torch,
    attrs = {
        "build_file": attr.label(allow_single_file = True),
        # Below .deps: a virtual environment, or the folder that `pip install --target` filled.
        "folder": attr.string(mandatory = True),
        # What tools/setup.sh is asked for to lay it.
        "set_up": attr.string(),
    },
    # What tools/setup.sh laid, from .bazelrc.local: without it Bazel would take the headers of another version for those
    # that it knows.
    environ = ["STUDIO_LIBTORCH"],
    local = True,
)
