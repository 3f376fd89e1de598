#include "common/status/check.h"
#include "worker/trainer/parallel/nccl_backend.h"

namespace studio {

absl::Status CheckNccl() {
  return absl::UnimplementedError(
      "resources.devices: several CUDA ranks need NCCL, and this trainer was built without it; run "
      "studio-trainer-cuda, "
      "or ask for one device");
}

c10::intrusive_ptr<c10d::Backend> MakeNccl(const c10::intrusive_ptr<c10d::Store>&, int, int, absl::Duration,
                                           at::Device) {
  STUDIO_CHECK(false) << "CheckNccl refused";
  return nullptr;
}

}  // namespace studio
