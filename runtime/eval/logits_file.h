// The next-token distributions of a base model, stored so that its KL divergence from many models
// can be computed later without running it again.
//
// Each distribution is stored as its logits relative to the largest, in 65535 equal steps between
// the largest and the smallest (logits more than 40 below the largest are raised to that): a logit
// is off by at most 3.1e-4, the divergence of a token by a share of that, and the mean over a text
// by some 1e-6. The log probability of the true next token and the top token are exact.
//
// The file, little-endian:
//   char magic[8] "PITHLOGP", u32 version, u32 vocab, u64 tokens, u64 windows, u64 hash of the
//   model, u64 hash of the text, u64 hash of the windows' tokens, u32 bytes of the protocol's name,
//   u32 zero, the name, u64 XXH3 of everything before
//   then for each token: f64 nll, i32 likeliest, f32 range, u16 codes[vocab], u64 XXH3 of the
//   record; logit = range * (code / 65535 - 1)
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/file.h"
#include "runtime/eval/protocol.h"
#include "runtime/forward/executor.h"

namespace pith {

struct LogitsHeader {
  uint32_t vocab = 0;
  uint64_t tokens = 0, windows = 0, model_hash = 0, text_hash = 0, windows_hash = 0;
  std::string protocol;
};

// A hash of windows: all their tokens and where scoring begins.
uint64_t hash_of(const std::vector<Window>& windows);

bool looks_like_logits_file(const std::string& path);

// The header of a file of `file_bytes` that begins with `head`, and its length in `header_bytes`.
// Error(kCorrupt) where the two do not fit.
LogitsHeader parse_logits_header(std::span<const std::byte> head, uint64_t file_bytes,
                                 const std::string& name, uint64_t* header_bytes);
uint64_t logits_record_bytes(uint64_t vocab);
// The scores of one token; its logits are [vocab].
struct StoredScore {
  double nll = 0;
  int32_t top = 0;
};
StoredScore decode_logits_record(std::span<const std::byte> record, std::span<float> logits,
                                 const std::string& name);
void encode_logits_record(std::span<const float> logits, const RowScore& score,
                          std::span<std::byte> record);

class LogitsWriter {
 public:
  // Reserves the disk space at once. The file appears under its name with finish().
  LogitsWriter(const std::string& path, const LogitsHeader& header);
  void add(std::span<const float> logits, std::span<const RowScore> scores);  // [rows, vocab]
  void finish();
  uint64_t bytes() const { return file_.size(); }

 private:
  LogitsHeader header_;
  NewFile file_;
  uint64_t rows_ = 0;
};

class LogitsReader {
 public:
  explicit LogitsReader(const std::string& path);
  const LogitsHeader& header() const { return header_; }
  const std::string& path() const { return file_.path(); }
  // The distributions of tokens [first, first + to.size()).
  void read(uint64_t first, std::span<float> logits, std::span<StoredScore> to) const;

 private:
  File file_;
  LogitsHeader header_;
  uint64_t header_bytes_ = 0;
};

}  // namespace pith
