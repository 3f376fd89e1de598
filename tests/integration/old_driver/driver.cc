// Stands in for NVIDIA's driver of CUDA 12.8 on a machine without one: a libcuda.so.1 that says its version and has no
// device, as a driver that is too old for LibTorch's CUDA.
extern "C" int cuDriverGetVersion(int* version) {
  *version = 12080;
  return 0;
}
