// A decoder of the Llama family: weights, forward pass, loss and gradients on one device.
//
//   ASSIGN_OR_RETURN(std::unique_ptr<CausalLm> model, CausalLm::Load("smollm2", options));
//   for (const Batch& micro : micro_batches) {
//     sum += model->AccumulateGradients(micro, 1.0 / valid_tokens_of_the_global_batch).loss_sum;
//   }
//   for (NamedParameter& p : model->TrainableParameters()) …   // p.tensor.grad() is its gradient
//
// Methods that compute throw what LibTorch throws (c10::Error, out of memory): run a whole step inside CatchTorch of
// torch_status.h. Load returns a Status. One thread at a time; LibTorch's own threads work inside a call.
// Weights change in place only, by ATen's operations (they count versions, by which compute copies are refreshed).
#pragma once

#include <ATen/core/TensorBody.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "worker/trainer/model/architecture.h"
#include "worker/trainer/model/batch.h"
#include "worker/trainer/model/options.h"

namespace studio {

struct NamedParameter {
  // As the export writes it: PEFT's name for an adapter, Hugging Face's for a weight.
  std::string name;
  // A leaf, fp32 or where every weight is trained ModelOptions::trained_dtype, requires_grad. Its storage stays for the
  // model's lifetime.
  at::Tensor tensor;
  // A matrix: weight decay applies. Norms and biases are never decayed.
  bool decay = true;
};

struct NamedTensor {
  std::string name;
  at::Tensor tensor;
};

// Sums over the tokens that have a label.
struct LossValue {
  double loss_sum = 0;
  int64_t valid_tokens = 0;
};

// The same, with the graph attached. `loss_sum` is a fp32 scalar.
struct LossTensor {
  at::Tensor loss_sum;
  int64_t valid_tokens = 0;
};

// Keys and values of one sequence while it is generated.
struct KvCache {
  struct Layer {
    at::Tensor keys, values;  // [capacity, kv_heads, head_dim]
  };
  std::vector<Layer> layers;
  int64_t length = 0;
};

struct DecoderParts;
struct Pass;

class CausalLm {
 public:
  // Reads config.json and the weights of `dir`. InvalidArgument names the file and what is wrong with it.
  static absl::StatusOr<std::unique_ptr<CausalLm>> Load(const std::string& dir, const ModelOptions& options);
  ~CausalLm();

  const Architecture& architecture() const;
  const ModelOptions& options() const;
  // Folder that the model came from.
  const std::string& dir() const;

  // Output of the final norm, [T, hidden_size] in the compute type. With gradients where grad mode is on.
  at::Tensor Hidden(const Batch& batch);
  // [T, vocab_size], fp32, without gradients.
  at::Tensor Logits(const Batch& batch);
  // Sum of token losses: the head is multiplied at labelled rows alone, in chunks.
  LossTensor LossSum(const Batch& batch);
  // LossSum without gradients, dropout or noise.
  LossValue Evaluate(const Batch& batch);
  // LossSum, and its gradient times `scale` added to every parameter's grad().
  LossValue AccumulateGradients(const Batch& batch, double scale);

  // For the planned step, which computes the same with a schedule of its own: see decoder_parts.h and pass.h.
  DecoderParts Parts();
  std::shared_ptr<const Pass> TrainingPass(const Batch& batch);

  // In the order of the layers: the same list, in the same order, for the model's lifetime.
  std::vector<NamedParameter>& TrainableParameters();
  // Weights under Hugging Face's names (head left out where it is tied), each made when it is asked for.
  // `merged`: adapters are added into the weights they belong to (in fp32, rounded once to `dtype`).
  struct Weight {
    std::string name;
    std::vector<int64_t> shape;
    std::function<at::Tensor()> value;  // on the CPU, contiguous
  };
  std::vector<Weight> Weights(at::ScalarType dtype, bool merged) const;
  // A and B under PEFT's names. Empty without LoRA.
  std::vector<NamedTensor> Adapter() const;

  // Parameters stay the same tensors (their storage moves).
  void MoveTo(at::Device device);
  // Draw the masks of dropout anew from this seed.
  void set_seed(uint64_t seed);
  // Loss chunks and recomputation may change between steps (the out-of-memory ladder).
  void set_gradient_checkpointing(bool on);
  void set_loss_chunk_rows(int64_t rows);

  KvCache MakeCache(int64_t capacity) const;
  // Appends `tokens` [n] to the cached sequence; logits of the last one, [vocab_size] fp32.
  at::Tensor Extend(const at::Tensor& tokens, KvCache& cache);

 private:
  struct Impl;
  explicit CausalLm(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace studio
