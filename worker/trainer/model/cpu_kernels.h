// Element-wise work on the CPU in one pass each, where LibTorch needs five to ten: norms, rotary embedding, SwiGLU and
// cross entropy. Arithmetic is fp32 whatever the storage.
//
// Plain pointers, row-major. Rows are independent and shared among LibTorch's threads; sums within a row run in a
// fixed order, so that results do not depend on the number of threads.
#pragma once

#include <cstdint>

namespace studio::cpu {

// How 16 bits are read.
struct Bfloat16 {
  uint16_t bits;
};

// residual = x + delta (rounded to T), normed = round(residual / rms) * weight. delta null: residual is x, not written.
// rstd [rows] receives 1 / rms.
template <typename T>
void AddRmsNorm(const T* x, const T* delta, const T* weight, float eps, int64_t rows, int64_t width, T* residual,
                T* normed, float* rstd);

// Gradient of the residual: d_residual (null: 0) + that of the norm. d_weight [width] is added to where not null.
template <typename T>
void RmsNormBackward(const T* d_normed, const T* d_residual, const T* residual, const T* weight, const float* rstd,
                     int64_t rows, int64_t width, T* d_x, float* d_weight);

// Turns `heads` heads of each row (of `stride` elements) in place, Transformers' halves convention; sign -1 turns back.
// cosine, sine [rows, head_dim / 2].
template <typename T>
void Rotate(T* data, int64_t rows, int64_t stride, int64_t heads, int64_t head_dim, const float* cosine,
            const float* sine, float sign);

// out = silu(gate) * up, where a row of gate_up [rows, 2 * width] is gate, then up.
template <typename T>
void Swiglu(const T* gate_up, int64_t rows, int64_t width, T* out);
template <typename T>
void SwigluBackward(const T* d_out, const T* gate_up, int64_t rows, int64_t width, T* d_gate_up);

// losses[row] = log(sum(exp(y))) - y[label] for y = soft_cap * tanh(logits / soft_cap), or the logits where it is 0;
// where `gradient`, logits become their gradient. They are spent in either case.
template <typename T>
void CrossEntropy(T* logits, const int64_t* labels, int64_t rows, int64_t vocab, float soft_cap, float* losses,
                  bool gradient);

}  // namespace studio::cpu
