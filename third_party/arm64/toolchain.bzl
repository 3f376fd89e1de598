"""Debian's aarch64 cross-GCC as a Bazel toolchain.

The flags are those of Bazel's own Unix toolchain, so that a warning or an optimisation is the same on both.
"""

load("@bazel_tools//tools/build_defs/cc:action_names.bzl", "ACTION_NAMES")
load(
    "@bazel_tools//tools/cpp:cc_toolchain_config_lib.bzl",
    "feature",
    "flag_group",
    "flag_set",
    "tool_path",
    "with_feature_set",
)

_PREFIX = "/usr/bin/aarch64-linux-gnu-"

_COMPILE = [
    ACTION_NAMES.assemble,
    ACTION_NAMES.preprocess_assemble,
    ACTION_NAMES.c_compile,
    ACTION_NAMES.cpp_compile,
    ACTION_NAMES.linkstamp_compile,
]

_LINK = [
    ACTION_NAMES.cpp_link_executable,
    ACTION_NAMES.cpp_link_dynamic_library,
    ACTION_NAMES.cpp_link_nodeps_dynamic_library,
]

def _flags(actions, flags, modes = None):
    return flag_set(
        actions = actions,
        flag_groups = [flag_group(flags = flags)],
        with_features = [with_feature_set(features = [mode]) for mode in modes or []],
    )

def _config(ctx):
    return cc_common.create_cc_toolchain_config_info(
        ctx = ctx,
        toolchain_identifier = "cross-aarch64",
        host_system_name = "local",
        target_system_name = "aarch64-linux-gnu",
        target_cpu = "cross-aarch64",
        target_libc = "glibc",
        compiler = "gcc",
        abi_version = "aarch64",
        abi_libc_version = "glibc",
        builtin_sysroot = ctx.attr.sysroot,
        cxx_builtin_include_directories = [
            ctx.attr.sysroot,
            "/usr/lib/gcc-cross/aarch64-linux-gnu",
            "/usr/aarch64-linux-gnu/include",
        ],
        tool_paths = [
            tool_path(name = name, path = _PREFIX + tool)
            for name, tool in {
                "ar": "ar",
                "cpp": "cpp",
                "dwp": "dwp",
                "gcc": "gcc",
                "gcov": "gcov",
                "ld": "ld",
                "nm": "nm",
                "objcopy": "objcopy",
                "objdump": "objdump",
                "strip": "strip",
            }.items()
        ],
        features = [
            feature(name = "opt"),
            feature(name = "dbg"),
            feature(name = "fastbuild"),
            feature(name = "supports_pic", enabled = True),
            feature(name = "supports_dynamic_linker", enabled = True),
            feature(
                name = "default_compile_flags",
                enabled = True,
                flag_sets = [
                    _flags(_COMPILE, [
                        "-fstack-protector",
                        "-Wall",
                        "-Wno-free-nonheap-object",
                        "-fno-omit-frame-pointer",
                        "-no-canonical-prefixes",
                        "-fno-canonical-system-headers",
                        "-Wno-builtin-macro-redefined",
                        "-D__DATE__=\"redacted\"",
                        "-D__TIMESTAMP__=\"redacted\"",
                        "-D__TIME__=\"redacted\"",
                    ]),
                    _flags(_COMPILE, ["-g"], ["dbg"]),
                    _flags(_COMPILE, [
                        "-g0",
                        "-O2",
                        "-D_FORTIFY_SOURCE=1",
                        "-DNDEBUG",
                        "-ffunction-sections",
                        "-fdata-sections",
                    ], ["opt"]),
                ],
            ),
            feature(
                name = "default_link_flags",
                enabled = True,
                flag_sets = [
                    _flags(_LINK, [
                        "-Wl,-z,relro,-z,now",
                        "-no-canonical-prefixes",
                        "-pass-exit-codes",
                        # The sysroot's own libraries name others that stand beside them there.
                        "-Wl,-rpath-link,%s/usr/lib/aarch64-linux-gnu" % ctx.attr.sysroot,
                        "-lstdc++",
                        "-lm",
                    ]),
                    _flags(_LINK, ["-Wl,--gc-sections"], ["opt"]),
                ],
            ),
        ],
    )

arm64_cc_toolchain_config = rule(
    implementation = _config,
    attrs = {"sysroot": attr.string(mandatory = True)},
    provides = [CcToolchainConfigInfo],
)
