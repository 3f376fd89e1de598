// Dropout of adapters' inputs (model/dropout.h has the formula). A mask is drawn where the tensor cores' factor lies in
// registers, so that none is ever in memory; the factor 1 / (1 - p) is applied to the sums.

struct DropoutNumbers {  // as the host's
  const unsigned long long* step_key;
  const unsigned long long* ids;  // [rows]
  unsigned long long sites[3];
  unsigned threshold;  // of 2^15, in both halves
  float kept;
};

// RandomKey(step key, site), and of all draws of one token for an adapter.
__device__ __forceinline__ unsigned long long SiteKey(const DropoutNumbers& dropout, unsigned long long site) {
  return Mix(Mix(*dropout.step_key + GOLDEN) ^ site);
}
__device__ __forceinline__ unsigned long long TokenKeyOf(const DropoutNumbers& dropout, unsigned long long site_key,
                                                         long long row) {
  return Mix(site_key ^ Mix(dropout.ids[row] + GOLDEN));
}
__device__ __forceinline__ unsigned long long TokenKey(const DropoutNumbers& dropout, unsigned long long site,
                                                       long long row) {
  return TokenKeyOf(dropout, SiteKey(dropout, site), row);
}

// DropoutBits of model/dropout.h, and two of them: 16 bits, of which 15 count, for each of 8 channels from `column`, a
// multiple of 8, in the order in which bf16 lie in 16 bytes.
__device__ __forceinline__ uint2 DropoutBits(unsigned long long key, unsigned index) {
  unsigned x = static_cast<unsigned>(key) + index * 0x9e3779b9u, y = static_cast<unsigned>(key >> 32);
#pragma unroll
  for (unsigned round = 0; round < 3; ++round) {
    const unsigned long long product = static_cast<unsigned long long>(x) * 0xd256d193u;
    x = static_cast<unsigned>(product >> 32) ^ y ^ (round * 0x9e3779b9u);
    y = static_cast<unsigned>(product);
  }
  return make_uint2(x, y);
}
__device__ __forceinline__ uint4 DrawEight(unsigned long long key, int column) {
  const uint2 low = DropoutBits(key, column / 4), high = DropoutBits(key, column / 4 + 1);
  return make_uint4(low.x, low.y, high.x, high.y);
}
// The highest bit of each half: whether its 15 bits below are at least the threshold, so that it is kept.
__device__ __forceinline__ unsigned KeptBits(unsigned draws, unsigned threshold) {
  return ((draws & 0x7fff7fffu) | 0x80008000u) - threshold;  // nothing is borrowed from the other half
}
__device__ __forceinline__ unsigned KeptHalves(unsigned pair, unsigned draws, unsigned threshold) {
  unsigned mask;  // each half's highest bit in all of its bits
  asm("prmt.b32 %0, %1, 0, 0xbb99;" : "=r"(mask) : "r"(KeptBits(draws, threshold)));
  return pair & mask;
}
__device__ __forceinline__ uint4 DropEight(uint4 x, unsigned long long key, int column, unsigned threshold) {
  const uint4 draws = DrawEight(key, column);
  return make_uint4(KeptHalves(x.x, draws.x, threshold), KeptHalves(x.y, draws.y, threshold),
                    KeptHalves(x.z, draws.z, threshold), KeptHalves(x.w, draws.w, threshold));
}
