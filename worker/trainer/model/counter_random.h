// Random numbers by counter: a number is a function of its place, so that splitting a batch, the number of threads or a
// restart changes none. Never LibTorch's global generator.
//
//   const uint64_t key = RandomKey(seed, "model.layers.0.mlp.up_proj.lora_A");
//   float u = Uniform(key, index);           // [0, 1)
//
// The mixer is SplitMix64's (Steele, Lea, Flood 2014), taken at counter `key + index * golden`.
#pragma once

#include <cmath>
#include <cstdint>
#include <numbers>
#include <string_view>

namespace studio {

inline uint64_t Mix(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
  return z ^ (z >> 31);
}

inline constexpr uint64_t kGolden = 0x9e3779b97f4a7c15ull;

inline uint64_t RandomBits(uint64_t key, uint64_t index) { return Mix(key + (index + 1) * kGolden); }

// FNV-1a.
inline uint64_t NameHash(std::string_view name) {
  uint64_t hash = 0xcbf29ce484222325ull;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3ull;
  return hash;
}

inline uint64_t RandomKeyOfHash(uint64_t seed, uint64_t name_hash) { return Mix(Mix(seed + kGolden) ^ name_hash); }

inline uint64_t RandomKey(uint64_t seed, std::string_view name) { return RandomKeyOfHash(seed, NameHash(name)); }

inline uint64_t RandomKey(uint64_t key, uint64_t part) { return Mix(key ^ Mix(part + kGolden)); }

// In [0, 1), a multiple of 2^-53.
inline double Uniform(uint64_t key, uint64_t index) {
  return static_cast<double>(RandomBits(key, index) >> 11) * 0x1p-53;
}

// Standard normal, by Box and Muller.
inline double Normal(uint64_t key, uint64_t index) {
  const double u = 1.0 - Uniform(key, 2 * index);  // (0, 1]
  const double v = Uniform(key, 2 * index + 1);
  return std::sqrt(-2.0 * std::log(u)) * std::cos(2.0 * std::numbers::pi * v);
}

}  // namespace studio
