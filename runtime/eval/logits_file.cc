#include "runtime/eval/logits_file.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/bytes.h"
#include "core/error.h"
#include "core/hash.h"
#include "core/parallel.h"

namespace pith {
namespace {

constexpr char kMagic[] = "PITHLOGP";
constexpr uint32_t kVersion = 1;
constexpr uint64_t kMaxHeader = 4096;
constexpr uint64_t kFixed = 16;  // of a record before its codes
constexpr float kDeepest = 40;   // logits further below the largest than this count as that
constexpr float kSteps = 65535;

std::string bytes_of(const LogitsHeader& h) {
  std::string out(kMagic, 8);
  append_value(&out, kVersion);
  append_value(&out, h.vocab);
  for (const uint64_t v : {h.tokens, h.windows, h.model_hash, h.text_hash, h.windows_hash})
    append_value(&out, v);
  append_value(&out, static_cast<uint32_t>(h.protocol.size()));
  append_value(&out, uint32_t{0});
  out += h.protocol;
  append_value(&out, hash64(std::as_bytes(std::span(out))));
  return out;
}

uint64_t file_bytes(const LogitsHeader& h) {
  return checked_add(
      bytes_of(h).size(),
      checked_mul(h.tokens, logits_record_bytes(h.vocab), "the size of stored logits"),
      "the size of stored logits");
}

}  // namespace

uint64_t hash_of(const std::vector<Window>& windows) {
  Hasher h;
  for (const Window& w : windows) {
    const auto size = static_cast<int64_t>(w.tokens.size());
    h.add(std::as_bytes(std::span(&size, 1)));
    h.add(std::as_bytes(std::span(&w.first_scored, 1)));
    h.add(std::as_bytes(std::span(w.tokens)));
  }
  return h.value();
}

bool looks_like_logits_file(const std::string& path) {
  if (!is_regular_file(path)) return false;
  const File f = File::open_read(path);
  char magic[8];
  if (f.size() < sizeof(magic)) return false;
  f.read(0, std::as_writable_bytes(std::span(magic)));
  return std::memcmp(magic, kMagic, sizeof(magic)) == 0;
}

uint64_t logits_record_bytes(uint64_t vocab) { return kFixed + 2 * vocab + 8; }

LogitsHeader parse_logits_header(std::span<const std::byte> head, uint64_t size,
                                 const std::string& name, uint64_t* header_bytes) {
  ByteReader in(head, name);
  if (std::memcmp(in.bytes(8, "magic").data(), kMagic, 8) != 0)
    fail(ErrorKind::kCorrupt, "{}: these are no stored logits", name);
  const auto version = in.read<uint32_t>("version");
  if (version != kVersion)
    fail(ErrorKind::kUnsupported, "{}: version {}, this program knows {}", name, version, kVersion);
  LogitsHeader h;
  h.vocab = in.read<uint32_t>("vocabulary");
  for (uint64_t* v : {&h.tokens, &h.windows, &h.model_hash, &h.text_hash, &h.windows_hash})
    *v = in.read<uint64_t>("header");
  const auto protocol = in.read<uint32_t>("protocol");
  in.read<uint32_t>("reserved");
  const auto text = in.bytes(protocol, "protocol");
  h.protocol.assign(reinterpret_cast<const char*>(text.data()), text.size());
  const uint64_t hashed = in.offset();
  if (in.read<uint64_t>("checksum") != hash64(head.first(hashed)))
    fail(ErrorKind::kCorrupt, "{}: wrong checksum of the header", name);
  *header_bytes = in.offset();
  if (h.vocab == 0 || h.vocab > (1u << 28))
    fail(ErrorKind::kCorrupt, "{}: a vocabulary of {}", name, h.vocab);
  const uint64_t expected =
      checked_add(*header_bytes, checked_mul(h.tokens, logits_record_bytes(h.vocab), name), name);
  if (expected != size) {
    fail(ErrorKind::kCorrupt, "{}: {} bytes, its header says {}: was it copied whole?", name, size,
         expected);
  }
  return h;
}

void encode_logits_record(std::span<const float> logits, const RowScore& score,
                          std::span<std::byte> record) {
  const auto [low, high] = std::ranges::minmax(logits);
  const float range = std::min(high - low, kDeepest);
  const double nll = score.log_sum - static_cast<double>(score.target);
  std::memcpy(record.data(), &nll, 8);
  std::memcpy(record.data() + 8, &score.top, 4);
  std::memcpy(record.data() + 12, &range, 4);
  std::byte* to = record.data() + kFixed;
  const float steps = range > 0 ? kSteps / range : 0;
  for (const float v : logits) {
    const auto code =
        static_cast<uint16_t>(std::lround(kSteps - std::min(high - v, range) * steps));
    std::memcpy(to, &code, 2);
    to += 2;
  }
  const size_t hashed = record.size() - 8;
  const uint64_t hash = hash64(record.first(hashed));
  std::memcpy(record.data() + hashed, &hash, 8);
}

StoredScore decode_logits_record(std::span<const std::byte> record, std::span<float> logits,
                                 const std::string& name) {
  const size_t hashed = record.size() - 8;
  uint64_t hash = 0;
  std::memcpy(&hash, record.data() + hashed, 8);
  if (hash != hash64(record.first(hashed)))
    fail(ErrorKind::kCorrupt, "{}: a record with a wrong checksum", name);
  StoredScore s;
  float range = 0;
  std::memcpy(&s.nll, record.data(), 8);
  std::memcpy(&s.top, record.data() + 8, 4);
  std::memcpy(&range, record.data() + 12, 4);
  if (!std::isfinite(s.nll) || !(range >= 0 && range <= kDeepest) || s.top < 0 ||
      static_cast<size_t>(s.top) >= logits.size())
    fail(ErrorKind::kCorrupt, "{}: a record that makes no sense", name);
  const std::byte* from = record.data() + kFixed;
  for (float& v : logits) {
    uint16_t code = 0;
    std::memcpy(&code, from, 2);
    from += 2;
    v = range * (static_cast<float>(code) / kSteps - 1);
  }
  return s;
}

LogitsWriter::LogitsWriter(const std::string& path, const LogitsHeader& header)
    : header_(header), file_(path, file_bytes(header)) {
  const std::string head = bytes_of(header);
  file_.append(std::as_bytes(std::span(head)));
}

void LogitsWriter::add(std::span<const float> logits, std::span<const RowScore> scores) {
  const size_t vocab = header_.vocab, record = logits_record_bytes(vocab);
  std::vector<std::byte> bytes(scores.size() * record);
  parallel_for(static_cast<int64_t>(scores.size()), [&](int64_t r) {
    const auto i = static_cast<size_t>(r);
    encode_logits_record(logits.subspan(i * vocab, vocab), scores[i],
                         std::span(bytes).subspan(i * record, record));
  });
  file_.append(bytes);
  rows_ += scores.size();
}

void LogitsWriter::finish() {
  if (rows_ != header_.tokens)
    fail(ErrorKind::kUsage, "{} of {} tokens were stored", rows_, header_.tokens);
  file_.commit();
}

LogitsReader::LogitsReader(const std::string& path) : file_(File::open_read(path)) {
  std::vector<std::byte> head(std::min(kMaxHeader, file_.size()));
  file_.read(0, head);
  header_ = parse_logits_header(head, file_.size(), path, &header_bytes_);
}

void LogitsReader::read(uint64_t first, std::span<float> logits, std::span<StoredScore> to) const {
  const size_t vocab = header_.vocab, record = logits_record_bytes(vocab);
  std::vector<std::byte> bytes(to.size() * record);
  file_.read(header_bytes_ + first * record, bytes);
  for (size_t i = 0; i < to.size(); ++i) {
    to[i] = decode_logits_record(std::span(bytes).subspan(i * record, record),
                                 logits.subspan(i * vocab, vocab), path());
  }
}

}  // namespace pith
