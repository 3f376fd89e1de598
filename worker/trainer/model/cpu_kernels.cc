#include "worker/trainer/model/cpu_kernels.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <vector>

// One binary for all: the loader picks the widest instructions that the machine has.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define STUDIO_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default"), noinline))
#else
#define STUDIO_CLONES
#endif
#define STUDIO_INLINE static inline __attribute__((always_inline))

namespace studio::cpu {
namespace {

STUDIO_INLINE float Get(float value) { return value; }
STUDIO_INLINE float Get(Bfloat16 value) { return std::bit_cast<float>(static_cast<uint32_t>(value.bits) << 16); }

template <typename T>
inline T Put(float value);
template <>
inline __attribute__((always_inline)) float Put<float>(float value) {
  return value;
}
// To nearest even; NaN stays NaN.
template <>
inline __attribute__((always_inline)) Bfloat16 Put<Bfloat16>(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  const uint32_t nan = (bits >> 16) | 0x40;
  return {static_cast<uint16_t>((bits & 0x7fffffff) > 0x7f800000 ? nan : rounded)};
}

// exp by 2^n * polynomial (Cephes' expf, 2 ulp): plain arithmetic, so that the compiler vectorises the loops around it.
STUDIO_INLINE float Exp(float x) {
  constexpr float kMagic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to a whole number
  x = x < -87.0f ? -87.0f : x;
  x = x > 88.0f ? 88.0f : x;
  const float n = (x * 1.44269504088896341f + kMagic) - kMagic;
  const float r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  const int32_t exponent = static_cast<int32_t>(n) + 127;
  return p * std::bit_cast<float>(exponent << 23);
}

// Sums run in so many lanes, whatever the machine's width: the order is part of the result.
constexpr int64_t kLanes = 32;

STUDIO_INLINE float SumLanes(const float* lanes) {
  float sum[kLanes];
  std::memcpy(sum, lanes, sizeof(sum));
  for (int64_t step = kLanes / 2; step > 0; step /= 2) {
    for (int64_t i = 0; i < step; ++i) sum[i] += sum[i + step];
  }
  return sum[0];
}

template <typename T>
STUDIO_INLINE void AddRmsNormRow(const T* x, const T* delta, const T* weight, float eps, int64_t width, T* residual,
                                 T* normed, float* rstd) {
  if (delta != nullptr) {
    for (int64_t i = 0; i < width; ++i) residual[i] = Put<T>(Get(x[i]) + Get(delta[i]));
    x = residual;
  }
  float lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= width; i += kLanes) {
    for (int64_t j = 0; j < kLanes; ++j) lanes[j] += Get(x[i + j]) * Get(x[i + j]);
  }
  for (int64_t j = 0; i < width; ++i, ++j) lanes[j] += Get(x[i]) * Get(x[i]);
  const float scale = 1.0f / std::sqrt(SumLanes(lanes) / static_cast<float>(width) + eps);
  *rstd = scale;
  for (i = 0; i < width; ++i) normed[i] = Put<T>(Get(Put<T>(Get(x[i]) * scale)) * Get(weight[i]));
}

template <typename T>
STUDIO_INLINE void RmsNormBackwardRow(const T* dn, const T* dr, const T* x, const T* weight, float scale, int64_t width,
                                      T* dx, float* dw) {
  float lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= width; i += kLanes) {
    for (int64_t j = 0; j < kLanes; ++j) lanes[j] += Get(dn[i + j]) * Get(weight[i + j]) * Get(x[i + j]);
  }
  for (int64_t j = 0; i < width; ++i, ++j) lanes[j] += Get(dn[i]) * Get(weight[i]) * Get(x[i]);
  const float pull = SumLanes(lanes) / static_cast<float>(width) * scale * scale * scale;
  if (dw != nullptr) {
    for (i = 0; i < width; ++i) dw[i] += Get(dn[i]) * Get(Put<T>(Get(x[i]) * scale));
  }
  if (dr != nullptr) {
    for (i = 0; i < width; ++i) {
      dx[i] = Put<T>(Get(dr[i]) + Get(dn[i]) * Get(weight[i]) * scale - Get(x[i]) * pull);
    }
  } else {
    for (i = 0; i < width; ++i) dx[i] = Put<T>(Get(dn[i]) * Get(weight[i]) * scale - Get(x[i]) * pull);
  }
}

template <typename T>
STUDIO_INLINE void RotateRow(T* row, int64_t heads, int64_t dim, const float* cosine, const float* sine, float sign) {
  const int64_t half = dim / 2;
  for (int64_t h = 0; h < heads; ++h) {
    T* a = row + h * dim;
    T* b = a + half;
    for (int64_t i = 0; i < half; ++i) {
      const float x = Get(a[i]);
      const float y = Get(b[i]);
      const float s = sine[i] * sign;
      a[i] = Put<T>(x * cosine[i] - y * s);
      b[i] = Put<T>(y * cosine[i] + x * s);
    }
  }
}

template <typename T>
STUDIO_INLINE void SwigluRow(const T* gate, const T* up, int64_t width, T* out) {
  for (int64_t i = 0; i < width; ++i) {
    const float g = Get(gate[i]);
    out[i] = Put<T>(g / (1.0f + Exp(-g)) * Get(up[i]));
  }
}

// The outputs overlap nothing. Said, since the compiler does not vectorise behind checks of seven pairs of pointers.
template <typename T>
STUDIO_INLINE void SwigluBackwardRow(const T* d_out, const T* gate, const T* up, int64_t width, T* __restrict d_gate,
                                     T* __restrict d_up) {
  for (int64_t i = 0; i < width; ++i) {
    const float g = Get(gate[i]);
    const float s = 1.0f / (1.0f + Exp(-g));
    const float d = Get(d_out[i]);
    d_up[i] = Put<T>(d * g * s);
    d_gate[i] = Put<T>(d * Get(up[i]) * s * (1.0f + g * (1.0f - s)));
  }
}

STUDIO_INLINE float Tanh(float x) { return 1.0f - 2.0f / (Exp(2.0f * x) + 1.0f); }

template <typename T>
STUDIO_INLINE float CrossEntropyRow(T* logits, int64_t label, int64_t vocab, float soft_cap, bool gradient) {
  const float inverse = soft_cap > 0 ? 1.0f / soft_cap : 0.0f;
  if (soft_cap > 0) {
    for (int64_t k = 0; k < vocab; ++k) logits[k] = Put<T>(soft_cap * Tanh(Get(logits[k]) * inverse));
  }
  float lanes[kLanes];
  std::fill_n(lanes, kLanes, -INFINITY);
  int64_t i = 0;
  for (; i + kLanes <= vocab; i += kLanes) {
    for (int64_t j = 0; j < kLanes; ++j) {
      const float value = Get(logits[i + j]);
      lanes[j] = value > lanes[j] ? value : lanes[j];
    }
  }
  for (; i < vocab; ++i) lanes[0] = std::max(lanes[0], Get(logits[i]));
  const float top = *std::max_element(lanes, lanes + kLanes);
  std::fill_n(lanes, kLanes, 0.0f);
  for (i = 0; i + kLanes <= vocab; i += kLanes) {
    for (int64_t j = 0; j < kLanes; ++j) lanes[j] += Exp(Get(logits[i + j]) - top);
  }
  for (int64_t j = 0; i < vocab; ++i, ++j) lanes[j] += Exp(Get(logits[i]) - top);
  const float log_sum = top + std::log(SumLanes(lanes));
  const float loss = log_sum - Get(logits[label]);
  if (gradient) {
    const float label_logit = Get(logits[label]), label_share = label_logit * inverse;
    const float correct = (Exp(label_logit - log_sum) - 1.0f) * (1.0f - label_share * label_share);
    if (soft_cap > 0) {
      for (i = 0; i < vocab; ++i) {
        const float y = Get(logits[i]), share = y * inverse;
        logits[i] = Put<T>(Exp(y - log_sum) * (1.0f - share * share));
      }
    } else {
      for (i = 0; i < vocab; ++i) logits[i] = Put<T>(Exp(Get(logits[i]) - log_sum));
    }
    logits[label] = Put<T>(correct);
  }
  return loss;
}

// target_clones does not apply to templates: each loop over rows is written out for both types.
#define STUDIO_ROWS(NAME, T)                                                                                           \
  STUDIO_CLONES void NAME##AddRmsNorm(const T* x, const T* delta, const T* weight, float eps, int64_t begin,           \
                                      int64_t end, int64_t width, T* residual, T* normed, float* rstd) {               \
    for (int64_t r = begin; r < end; ++r) {                                                                            \
      AddRmsNormRow<T>(x + r * width, delta ? delta + r * width : nullptr, weight, eps, width,                         \
                       delta ? residual + r * width : nullptr, normed + r * width, rstd + r);                          \
    }                                                                                                                  \
  }                                                                                                                    \
  STUDIO_CLONES void NAME##RmsNormBackward(const T* dn, const T* dr, const T* x, const T* weight, const float* rstd,   \
                                           int64_t begin, int64_t end, int64_t width, T* dx, float* dw) {              \
    for (int64_t r = begin; r < end; ++r) {                                                                            \
      RmsNormBackwardRow<T>(dn + r * width, dr ? dr + r * width : nullptr, x + r * width, weight, rstd[r], width,      \
                            dx + r * width, dw);                                                                       \
    }                                                                                                                  \
  }                                                                                                                    \
  STUDIO_CLONES void NAME##Rotate(T* data, int64_t begin, int64_t end, int64_t stride, int64_t heads, int64_t dim,     \
                                  const float* cosine, const float* sine, float sign) {                                \
    for (int64_t r = begin; r < end; ++r) {                                                                            \
      RotateRow<T>(data + r * stride, heads, dim, cosine + r * (dim / 2), sine + r * (dim / 2), sign);                 \
    }                                                                                                                  \
  }                                                                                                                    \
  STUDIO_CLONES void NAME##Swiglu(const T* gate_up, int64_t begin, int64_t end, int64_t width, T* out) {               \
    for (int64_t r = begin; r < end; ++r) {                                                                            \
      SwigluRow<T>(gate_up + 2 * r * width, gate_up + 2 * r * width + width, width, out + r * width);                  \
    }                                                                                                                  \
  }                                                                                                                    \
  STUDIO_CLONES void NAME##SwigluBackward(const T* d_out, const T* gate_up, int64_t begin, int64_t end, int64_t width, \
                                          T* d_gate_up) {                                                              \
    for (int64_t r = begin; r < end; ++r) {                                                                            \
      SwigluBackwardRow<T>(d_out + r * width, gate_up + 2 * r * width, gate_up + 2 * r * width + width, width,         \
                           d_gate_up + 2 * r * width, d_gate_up + 2 * r * width + width);                              \
    }                                                                                                                  \
  }                                                                                                                    \
  STUDIO_CLONES void NAME##CrossEntropy(T* logits, const int64_t* labels, int64_t begin, int64_t end, int64_t vocab,   \
                                        float soft_cap, float* losses, bool gradient) {                                \
    for (int64_t r = begin; r < end; ++r) {                                                                            \
      losses[r] = CrossEntropyRow<T>(logits + r * vocab, labels[r], vocab, soft_cap, gradient);                        \
    }                                                                                                                  \
  }

STUDIO_ROWS(Float, float)
STUDIO_ROWS(Half, Bfloat16)
#undef STUDIO_ROWS

// Rows for one task: about 16k elements.
int64_t Grain(int64_t width) { return std::max<int64_t>(1, 16384 / std::max<int64_t>(1, width)); }

}  // namespace

#define STUDIO_KERNELS(NAME, T)                                                                                        \
  template <>                                                                                                          \
  void AddRmsNorm<T>(const T* x, const T* delta, const T* weight, float eps, int64_t rows, int64_t width, T* residual, \
                     T* normed, float* rstd) {                                                                         \
    at::parallel_for(0, rows, Grain(width), [&](int64_t begin, int64_t end) {                                          \
      NAME##AddRmsNorm(x, delta, weight, eps, begin, end, width, residual, normed, rstd);                              \
    });                                                                                                                \
  }                                                                                                                    \
  template <>                                                                                                          \
  void RmsNormBackward<T>(const T* dn, const T* dr, const T* x, const T* weight, const float* rstd, int64_t rows,      \
                          int64_t width, T* dx, float* dw) {                                                           \
    if (dw == nullptr) {                                                                                               \
      at::parallel_for(0, rows, Grain(width), [&](int64_t begin, int64_t end) {                                        \
        NAME##RmsNormBackward(dn, dr, x, weight, rstd, begin, end, width, dx, nullptr);                                \
      });                                                                                                              \
      return;                                                                                                          \
    }                                                                                                                  \
    /* Sums over fixed blocks of rows, added in order: the same whatever the number of threads. */                     \
    constexpr int64_t kBlock = 64;                                                                                     \
    const int64_t blocks = (rows + kBlock - 1) / kBlock;                                                               \
    std::vector<float> sums(blocks* width, 0.0f);                                                                      \
    at::parallel_for(0, blocks, 1, [&](int64_t first, int64_t last) {                                                  \
      for (int64_t b = first; b < last; ++b) {                                                                         \
        NAME##RmsNormBackward(dn, dr, x, weight, rstd, b* kBlock, std::min(rows, (b + 1) * kBlock), width, dx,         \
                              sums.data() + b * width);                                                                \
      }                                                                                                                \
    });                                                                                                                \
    for (int64_t b = 0; b < blocks; ++b) {                                                                             \
      for (int64_t i = 0; i < width; ++i) dw[i] += sums[b * width + i];                                                \
    }                                                                                                                  \
  }                                                                                                                    \
  template <>                                                                                                          \
  void Rotate<T>(T * data, int64_t rows, int64_t stride, int64_t heads, int64_t head_dim, const float* cosine,         \
                 const float* sine, float sign) {                                                                      \
    at::parallel_for(0, rows, Grain(heads* head_dim), [&](int64_t begin, int64_t end) {                                \
      NAME##Rotate(data, begin, end, stride, heads, head_dim, cosine, sine, sign);                                     \
    });                                                                                                                \
  }                                                                                                                    \
  template <>                                                                                                          \
  void Swiglu<T>(const T* gate_up, int64_t rows, int64_t width, T* out) {                                              \
    at::parallel_for(0, rows, Grain(width),                                                                            \
                     [&](int64_t begin, int64_t end) { NAME##Swiglu(gate_up, begin, end, width, out); });              \
  }                                                                                                                    \
  template <>                                                                                                          \
  void SwigluBackward<T>(const T* d_out, const T* gate_up, int64_t rows, int64_t width, T* d_gate_up) {                \
    at::parallel_for(0, rows, Grain(width), [&](int64_t begin, int64_t end) {                                          \
      NAME##SwigluBackward(d_out, gate_up, begin, end, width, d_gate_up);                                              \
    });                                                                                                                \
  }                                                                                                                    \
  template <>                                                                                                          \
  void CrossEntropy<T>(T * logits, const int64_t* labels, int64_t rows, int64_t vocab, float soft_cap, float* losses,  \
                       bool gradient) {                                                                                \
    at::parallel_for(0, rows, Grain(vocab), [&](int64_t begin, int64_t end) {                                          \
      NAME##CrossEntropy(logits, labels, begin, end, vocab, soft_cap, losses, gradient);                               \
    });                                                                                                                \
  }

STUDIO_KERNELS(Float, float)
STUDIO_KERNELS(Half, Bfloat16)
#undef STUDIO_KERNELS

}  // namespace studio::cpu
