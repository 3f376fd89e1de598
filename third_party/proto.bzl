"""C++ protos and gRPC services, by the distribution's protoc."""

def cc_proto(name, src, deps = [], grpc = False, visibility = ["//visibility:public"]):
    """A cc_library of one .proto. Imports are written from the workspace's root.

    Args:
      name: of the library.
      src: the .proto.
      deps: cc_proto libraries that it imports.
      grpc: it has services. Then `name`_messages holds the messages alone, for what must not see gRPC.
      visibility: of the library.
    """
    stem = src[:-len(".proto")]
    kinds = ["pb"] + (["grpc.pb"] if grpc else [])
    headers = [stem + "." + kind + ".h" for kind in kinds]
    sources = [stem + "." + kind + ".cc" for kind in kinds]
    native.filegroup(
        name = name + "_src",
        srcs = [src] + [dep + "_src" for dep in deps],
        visibility = visibility,
    )
    native.genrule(
        name = name + "_gen",
        srcs = [
            src,
            name + "_src",
        ],
        outs = headers + sources,
        cmd = "protoc -I. --cpp_out=$(GENDIR) " + (
            "--grpc_out=$(GENDIR) --plugin=protoc-gen-grpc=`command -v grpc_cpp_plugin` " if grpc else ""
        ) + "$(location " + src + ")",
    )
    messages = name + "_messages" if grpc else name
    native.cc_library(
        name = messages,
        srcs = [stem + ".pb.cc"],
        hdrs = [stem + ".pb.h"],
        copts = ["-w"],
        visibility = visibility,
        deps = deps + ["@system//:protobuf"],
    )
    if grpc:
        # So that another proto can depend on the messages alone.
        native.filegroup(
            name = messages + "_src",
            srcs = [":" + name + "_src"],
            visibility = visibility,
        )
        native.cc_library(
            name = name,
            srcs = [stem + ".grpc.pb.cc"],
            hdrs = [stem + ".grpc.pb.h"],
            copts = ["-w"],
            visibility = visibility,
            deps = [
                ":" + messages,
                "@system//:grpc",
            ],
        )
