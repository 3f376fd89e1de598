#include "worker/trainer/model/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace studio {
namespace {

std::vector<float> Powers(double base, int64_t dim) {
  std::vector<float> powers;
  for (int64_t i = 0; i < dim; i += 2) {
    powers.push_back(std::pow(static_cast<float>(base), static_cast<float>(i) / static_cast<float>(dim)));
  }
  return powers;
}

std::vector<float> Plain(double base, int64_t dim) {
  std::vector<float> inverse = Powers(base, dim);
  for (float& f : inverse) f = 1.0f / f;
  return inverse;
}

// Long waves are stretched, short ones kept, those between interpolated.
void StretchLlama3(const RopeOptions& rope, std::vector<float>& inverse) {
  const double low_wavelength = rope.original_max_positions / rope.low_freq_factor;
  const double high_wavelength = rope.original_max_positions / rope.high_freq_factor;
  for (float& f : inverse) {
    const float wavelength = static_cast<float>(2 * std::numbers::pi) / f;
    if (wavelength < high_wavelength) continue;
    if (wavelength > low_wavelength) {
      f = f / static_cast<float>(rope.factor);
      continue;
    }
    const float smooth =
        (static_cast<float>(rope.original_max_positions) / wavelength - static_cast<float>(rope.low_freq_factor)) /
        static_cast<float>(rope.high_freq_factor - rope.low_freq_factor);
    f = (1 - smooth) * f / static_cast<float>(rope.factor) + smooth * f;
  }
}

double Mscale(double scale, double mscale) { return scale <= 1 ? 1.0 : 0.1 * mscale * std::log(scale) + 1.0; }

// arXiv:2309.00071.
RopeFrequencies Yarn(const RopeOptions& rope, int64_t dim) {
  RopeFrequencies result;
  if (rope.attention_factor > 0) {
    result.scale = static_cast<float>(rope.attention_factor);
  } else if (rope.mscale > 0 && rope.mscale_all_dim > 0) {
    result.scale = static_cast<float>(Mscale(rope.factor, rope.mscale) / Mscale(rope.factor, rope.mscale_all_dim));
  } else {
    result.scale = static_cast<float>(Mscale(rope.factor, 1));
  }
  // The dimension that turns so many times over the original context.
  const auto correction = [&](double rotations) {
    return dim * std::log(rope.original_max_positions / (rotations * 2 * std::numbers::pi)) /
           (2 * std::log(rope.theta));
  };
  double low = correction(rope.beta_fast);
  double high = correction(rope.beta_slow);
  if (rope.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, static_cast<double>(dim - 1));
  if (low == high) high += 0.001;
  const std::vector<float> powers = Powers(rope.theta, dim);
  for (size_t i = 0; i < powers.size(); ++i) {
    const float ramp =
        std::clamp((static_cast<float>(i) - static_cast<float>(low)) / static_cast<float>(high - low), 0.0f, 1.0f);
    const float keep = 1 - ramp;
    const float extrapolated = 1.0f / powers[i];
    const float interpolated = 1.0f / (static_cast<float>(rope.factor) * powers[i]);
    result.inverse.push_back(interpolated * (1 - keep) + extrapolated * keep);
  }
  return result;
}

}  // namespace

RopeFrequencies InverseFrequencies(const Architecture& arch, int64_t length) {
  const RopeOptions& rope = arch.rope;
  const int64_t dim = arch.head_dim;
  RopeFrequencies result;
  switch (rope.kind) {
    case RopeKind::kDefault:
      result.inverse = Plain(rope.theta, dim);
      break;
    case RopeKind::kLinear:
      result.inverse = Plain(rope.theta, dim);
      for (float& f : result.inverse) f /= static_cast<float>(rope.factor);
      break;
    case RopeKind::kDynamic: {
      const double longest = static_cast<double>(std::max(length, arch.max_positions));
      const double grown = rope.factor * longest / static_cast<double>(arch.max_positions) - (rope.factor - 1);
      const double exponent = static_cast<double>(dim) / static_cast<double>(dim - 2);
      result.inverse = Plain(dim == 2 ? rope.theta : rope.theta * std::pow(grown, exponent), dim);
      break;
    }
    case RopeKind::kLlama3:
      result.inverse = Plain(rope.theta, dim);
      StretchLlama3(rope, result.inverse);
      break;
    case RopeKind::kYarn:
      return Yarn(rope, dim);
  }
  return result;
}

}  // namespace studio
