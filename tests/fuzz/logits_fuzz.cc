// The input is a file of stored logits or of an interrupted evaluation. Checksums are made to fit
// first, so that the parser gets past them. An accepted file must have the size that its header
// says, and its records decode to finite logits whose largest is 0, and encode to the same again.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "core/bytes.h"
#include "core/error.h"
#include "core/hash.h"
#include "runtime/eval/logits_file.h"
#include "runtime/eval/resume_file.h"

namespace {

using namespace pith;

void require(bool holds) {
  if (!holds) __builtin_trap();
}

void put_hash(std::string* bytes, size_t begin, size_t at) {
  if (at + 8 > bytes->size() || at < begin) return;
  const uint64_t hash = hash64(as_bytes(std::string_view(*bytes).substr(begin, at - begin)));
  std::memcpy(bytes->data() + at, &hash, 8);
}

void try_logits(std::string bytes) {
  constexpr size_t kProtocol = 56;  // where its length stands
  uint32_t name = 0;
  if (bytes.size() > kProtocol + 8) std::memcpy(&name, bytes.data() + kProtocol, 4);
  if (name < bytes.size()) put_hash(&bytes, 0, kProtocol + 8 + name);
  uint64_t begin = 0;
  const LogitsHeader h = parse_logits_header(as_bytes(bytes), bytes.size(), "fuzz", &begin);
  const uint64_t record = logits_record_bytes(h.vocab);
  require(begin + h.tokens * record == bytes.size());
  std::vector<float> logits(h.vocab);
  for (uint64_t t = 0; t < std::min<uint64_t>(h.tokens, 8); ++t) {
    const uint64_t at = begin + t * record;
    put_hash(&bytes, at, at + record - 8);
    const auto stored = as_bytes(bytes).subspan(at, record);
    const StoredScore s = decode_logits_record(stored, logits, "fuzz");
    require(std::isfinite(s.nll) && s.top >= 0 && static_cast<uint32_t>(s.top) < h.vocab);
    for (const float v : logits) require(v <= 0 && v >= -40.001f);
    std::vector<std::byte> again(record);
    encode_logits_record(logits, {.log_sum = s.nll, .target = 0, .top = s.top}, again);
    std::vector<float> other(h.vocab);
    decode_logits_record(again, other, "fuzz");
    const float shift = *std::max_element(logits.begin(), logits.end());
    for (size_t i = 0; i < logits.size(); ++i)
      require(std::fabs(logits[i] - shift - other[i]) < 1e-3f);
  }
}

void try_resume(std::string bytes) {
  if (bytes.size() >= 8) put_hash(&bytes, 0, bytes.size() - 8);
  const ResumeContent c = parse_resume_file(as_bytes(bytes), "fuzz");
  require(c.columns > 0 && c.values.size() % c.columns == 0);
  const std::string again = resume_file_bytes(c);
  const ResumeContent same = parse_resume_file(as_bytes(again), "fuzz");
  require(same.settings == c.settings && same.columns == c.columns &&
          same.values.size() == c.values.size());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string input(reinterpret_cast<const char*>(data), size);
  try {
    if (input.starts_with("PITHEVAL"))
      try_resume(input);
    else
      try_logits(input);
  } catch (const Error&) {
  }
  return 0;
}
