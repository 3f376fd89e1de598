// The memory of one planned training step: every buffer's place in one arena, known before step 1.
//
//   Layout layout = Plan({.hidden = 2048, …, .max_tokens = 16384});
//   allocate layout.total_bytes, once; out of memory shows here and not in the middle of a run.
//
// Kept from the forward to the backward pass are, for each layer, the norms' outputs (inputs of the products behind
// them), q, k, v, gate and up, and the adapters' narrow products. The residual stream exists once: 1 / rms and a norm's
// output suffice for the norm's gradient. Everything else is shared by all layers, and lies where something else lay
// in another phase of the step.
//
// Outside the arena are the weights, where all are trained their gradients and the optimizer's states (each as large as
// the weights, in their type), what attention returns (output and log-sum-exp: kept by LibTorch's allocator,
// KeptByAttentionBytes) and the libraries' workspaces. Pure.
#pragma once

#include <cstdint>
#include <vector>

namespace studio::planned {

// A group of linear layers that read the same input. `border`: columns that are kept for the products with its
// adapters' A; 0: it has none.
struct GroupShape {
  int64_t in = 0;
  int64_t out = 0;
  int64_t border = 0;
};

struct LayoutInput {
  struct Layer {
    GroupShape qkv, o, gate_up, down;
  };
  int64_t hidden = 0;
  int64_t vocab = 0;
  std::vector<Layer> layers;
  // Tokens of the largest micro batch, and rows of logits that exist at once.
  int64_t max_tokens = 0;
  int64_t loss_rows = 0;
  // Of the compute type.
  int64_t element_bytes = 2;
  // Every weight is trained: no adapters, and gradients of the norms' weights.
  bool full = false;
};

// A matrix in the arena. Fewer rows than there is room for begin at the same offset.
struct Matrix {
  int64_t offset = 0;  // bytes
  int64_t rows = 0;
  int64_t width = 0;  // elements of a row, which is its stride
  bool fp32 = false;  // else the compute type
};

struct Layout {
  struct Layer {
    Matrix attention_input;  // [T, hidden + border of qkv]: the norm's output | its product with A
    Matrix attention_rstd;   // [T, 1]
    Matrix qkv;              // [T, out of qkv]
    Matrix o_low;            // [T, border of o]: attention's output times A
    Matrix mlp_input;        // [T, hidden + border of gate_up]
    Matrix mlp_rstd;         // [T, 1]
    Matrix gate_up;          // [T, out of gate_up + border]: becomes its gradient | that times B
    Matrix down_low;         // [T, border of down]
  };
  std::vector<Layer> layers;
  Matrix stream;         // [T, hidden]
  Matrix activation;     // [T, in of down + border]
  Matrix attended_rows;  // [T, in of o]: the last attention's output at rows that have a label
  Matrix final_normed;   // [T, hidden]
  Matrix final_rstd;     // [T, 1]
  Matrix logits;         // [loss_rows, vocab]
  Matrix losses;         // [T, 1]
  Matrix d_stream;       // [T, hidden + the larger border of o and down]
  Matrix d_normed;       // [T, the larger of hidden and in of o]
  Matrix d_activation;   // [T, in of down]: then the activation, made again
  Matrix d_qkv;          // [T, out of qkv + border]
  // Of a micro batch, fp32: [2 layers + 1, hidden], each layer's two norms and the last. Empty unless all is trained.
  Matrix norm_gradients;
  int64_t total_bytes = 0;
};

Layout Plan(const LayoutInput& input);

// Attention's output in the compute type and its log-sum-exp in fp32, of all layers.
int64_t KeptByAttentionBytes(const LayoutInput& input, int64_t heads);

}  // namespace studio::planned
