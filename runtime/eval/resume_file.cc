#include "runtime/eval/resume_file.h"

#include <cstring>

#include "core/bytes.h"
#include "core/error.h"
#include "core/file.h"
#include "core/hash.h"
#include "formats/printable.h"

namespace pith {
namespace {

constexpr char kMagic[] = "PITHEVAL";
constexpr uint32_t kVersion = 1;
constexpr uint64_t kMaxBytes = uint64_t{8} << 30;
constexpr uint64_t kMaxSettings = 64 << 10;
constexpr auto kSaveEvery = std::chrono::seconds(30);

std::string text_of(const Json* j) { return j == nullptr ? "nothing" : printable(j->dump(), 300); }

void require_same(const Json& then, const Json& now, const std::string& path) {
  Json names = now;
  names.update(then);
  const Json *inputs_then = nullptr, *inputs_now = nullptr;
  for (const auto& [key, value] : names.items()) {
    const Json *before = json_find(then, key.c_str()), *after = json_find(now, key.c_str());
    if (before != nullptr && after != nullptr && *before == *after) continue;
    if (key == Measurements::kInputs && before != nullptr && after != nullptr) {
      inputs_then = before, inputs_now = after;  // said where nothing that can be read differs
      continue;
    }
    fail(ErrorKind::kUsage,
         "{}: an interrupted evaluation with other settings: {} was {} and is {}; finish that one, "
         "or remove the file",
         path, printable(key), text_of(before), text_of(after));
  }
  if (inputs_now == nullptr) return;
  std::string other = "inputs";
  for (const auto& [key, hash] : inputs_now->items()) {
    const Json* before = json_find(*inputs_then, key.c_str());
    if (before == nullptr || *before != hash) other = key;
  }
  fail(ErrorKind::kUsage,
       "{}: an interrupted evaluation of other inputs: not the same {}; finish that one, or remove "
       "the file",
       path, printable(other));
}

}  // namespace

ResumeContent parse_resume_file(std::span<const std::byte> bytes, const std::string& name) {
  ByteReader in(bytes, name);
  if (bytes.size() < 8 || std::memcmp(bytes.data(), kMagic, 8) != 0)
    fail(ErrorKind::kCorrupt, "{}: not the file of an interrupted evaluation", name);
  in.bytes(8, "magic");
  const auto version = in.read<uint32_t>("version");
  if (version != kVersion)
    fail(ErrorKind::kUnsupported, "{}: version {}, this program knows {}", name, version, kVersion);
  ResumeContent c;
  c.columns = in.read<uint32_t>("columns");
  const auto rows = in.read<uint64_t>("rows"), settings = in.read<uint64_t>("settings");
  const uint64_t body = checked_mul(checked_mul(rows, c.columns, name), sizeof(double), name);
  if (c.columns == 0 || settings > kMaxSettings ||
      in.remaining() != checked_add(checked_add(body, settings, name), 8, name))
    fail(ErrorKind::kCorrupt, "{}: {} rows do not fit its size", name, rows);
  uint64_t stored = 0;
  std::memcpy(&stored, bytes.data() + bytes.size() - 8, 8);
  if (stored != hash64(bytes.first(bytes.size() - 8)))
    fail(ErrorKind::kCorrupt, "{}: wrong checksum", name);
  const auto text = in.bytes(settings, "settings");
  c.settings = parse_json({reinterpret_cast<const char*>(text.data()), text.size()}, name);
  if (!c.settings.is_object()) fail(ErrorKind::kCorrupt, "{}: settings are no object", name);
  c.values.resize(rows * c.columns);
  if (body > 0) std::memcpy(c.values.data(), in.bytes(body, "values").data(), body);
  return c;
}

std::string resume_file_bytes(const ResumeContent& c) {
  const std::string settings = c.settings.dump();
  std::string out(kMagic, 8);
  append_value(&out, kVersion);
  append_value(&out, static_cast<uint32_t>(c.columns));
  append_value(&out, uint64_t{c.values.size() / c.columns});
  append_value(&out, uint64_t{settings.size()});
  out += settings;
  out.append(reinterpret_cast<const char*>(c.values.data()), c.values.size() * sizeof(double));
  append_value(&out, hash64(std::as_bytes(std::span(out))));
  return out;
}

Measurements::Measurements(size_t columns, std::string path, Json settings)
    : columns_(columns), path_(std::move(path)), settings_(std::move(settings)) {
  if (path_.empty() || !file_exists(path_)) return;
  const auto bytes = read_file(path_, kMaxBytes);
  if (bytes.empty()) return;  // as mktemp makes it: nothing was done
  ResumeContent c = parse_resume_file(bytes, path_);
  require_same(c.settings, settings_, path_);
  if (c.columns != columns_)
    fail(ErrorKind::kCorrupt, "{}: {} columns, {} are expected", path_, c.columns, columns_);
  values_ = std::move(c.values);
  restored_ = rows();
}

void Measurements::add(std::span<const double> row) {
  values_.insert(values_.end(), row.begin(), row.end());
}

void Measurements::cut(size_t rows) { values_.resize(rows * columns_); }

void Measurements::save_sometimes() {
  if (std::chrono::steady_clock::now() - saved_ > kSaveEvery) save();
}

void Measurements::save() {
  if (path_.empty()) return;
  const std::string bytes = resume_file_bytes({settings_, columns_, values_});
  write_file(path_, std::as_bytes(std::span(bytes)));
  saved_ = std::chrono::steady_clock::now();
}

void Measurements::remove() {
  if (!path_.empty()) remove_file(path_);
}

}  // namespace pith
