#include <algorithm>
#include <utility>

#include "core/bytes.h"
#include "core/file.h"
#include "formats/gguf.h"
#include "formats/gguf_internal.h"
#include "formats/stand_in.h"

namespace pith {

using namespace gguf;

namespace {

constexpr uint64_t kMaxHeaderBytes = uint64_t{256} << 20;
constexpr uint64_t kFirstRead = uint64_t{1} << 20;

// Reads as much of the file as its header needs: mostly vocabulary, up to tens of megabytes.
GgufHeader read_header(const File& file) {
  const uint64_t size = file.size();
  std::vector<std::byte> bytes(std::min(size, kFirstRead));
  file.read(0, bytes);
  constexpr size_t kLook = 512;
  refuse_stand_in(as_text(std::span(bytes).first(std::min(bytes.size(), kLook))), file.path());
  for (;;) {
    uint64_t needed;
    try {
      return parse_gguf(bytes, size, file.path());
    } catch (const ShortPrefix& e) {
      needed = e.needed;
    }
    if (needed > kMaxHeaderBytes) {
      fail(ErrorKind::kUnsupported, "{}: the header needs {} bytes, at most {} are read",
           file.path(), needed, kMaxHeaderBytes);
    }
    const uint64_t have = bytes.size();
    bytes.resize(std::min({size, kMaxHeaderBytes, std::max(needed, 4 * have)}));
    file.read(have, std::span(bytes).subspan(have));
  }
}

void append_shard(Checkpoint& c, File file, GgufHeader header) {
  const auto index = static_cast<uint32_t>(c.files.size());
  for (TensorInfo& t : header.tensors) {
    t.file = index;
    c.tensors.push_back(std::move(t));
  }
  for (const auto& [name, type] : header.other_types) {
    c.unreadable[name] = {ErrorKind::kUnsupported,
                          fmt::format("has type {}, which is not read", type)};
  }
  c.files.push_back(std::move(file));
}

// Appends the shards behind the first. Metadata come from the first alone; the others repeat the
// split.* keys.
void append_other_shards(Checkpoint& c, uint64_t shards) {
  const std::string suffix = fmt::format("-00001-of-{:05}.gguf", shards);
  if (!c.path.ends_with(suffix)) {
    fail(ErrorKind::kCorrupt, "{}: holds shard 1 of {} (split.count), so its name should end in {}",
         c.path, shards, suffix);
  }
  const std::string stem = c.path.substr(0, c.path.size() - suffix.size());
  for (uint64_t i = 1; i < shards; ++i) {
    File file = File::open_read(fmt::format("{}-{:05}-of-{:05}.gguf", stem, i + 1, shards));
    GgufHeader header = read_header(file);
    if (header.metadata.uint("split.no") != i || header.metadata.uint("split.count") != shards) {
      fail(ErrorKind::kCorrupt,
           "{}: holds shard {} of {} (split.no, split.count), expected {} of {}", file.path(),
           header.metadata.uint("split.no") + 1, header.metadata.uint("split.count"), i + 1,
           shards);
    }
    append_shard(c, std::move(file), std::move(header));
  }
  const uint64_t expected = c.gguf.uint("split.tensors.count");
  const uint64_t have = c.tensors.size() + c.unreadable.size();
  if (have != expected) {
    fail(ErrorKind::kCorrupt, "{}: split.tensors.count is {}, the {} files hold {} tensors", c.path,
         expected, shards, have);
  }
}

}  // namespace

Checkpoint open_gguf(const std::string& path) {
  Checkpoint c;
  c.kind = Checkpoint::Kind::kGguf;
  c.path = path;
  File file = File::open_read(path);
  GgufHeader header = read_header(file);
  c.gguf = std::move(header.metadata);
  append_shard(c, std::move(file), std::move(header));

  const uint64_t shards = c.gguf.uint("split.count", 0);
  if (shards > 1) {
    if (c.gguf.uint("split.no") != 0) {
      fail(ErrorKind::kUsage, "{}: is shard {} of {}; open the first one, *-00001-of-{:05}.gguf",
           path, c.gguf.uint("split.no") + 1, shards, shards);
    }
    append_other_shards(c, shards);
    check_unique_names(c.tensors, path);
  }
  c.by_name.reserve(c.tensors.size());
  for (size_t i = 0; i < c.tensors.size(); ++i) c.by_name.emplace(c.tensors[i].name, i);
  if (!c.unreadable.empty()) {
    const auto& [name, reason] = *c.unreadable.begin();
    c.notes.push_back(fmt::format("{}: {} tensors of types that are not read: {} {}", path,
                                  c.unreadable.size(), in_quotes(name), reason.why));
  }

  const std::string_view prefix = "tokenizer.";
  const auto first = c.gguf.values.lower_bound(prefix);
  if (first != c.gguf.values.end() && first->first.starts_with(prefix)) {
    c.tokenizer.gguf = write_gguf_metadata(c.gguf, prefix);
    c.tokenizer.chat_template = c.gguf.text("tokenizer.chat_template", "");
  }
  return c;
}

}  // namespace pith
