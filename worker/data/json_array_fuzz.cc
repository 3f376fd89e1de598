// Any bytes are rows or an error, for the reader of JSON lists and what makes conversations of its rows.
#include "worker/data/fuzz_rows.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  studio::FuzzRows(&studio::NewJsonArrayReader, data, size);
  return 0;
}
