#include "formats/checkpoint.h"

#include <algorithm>
#include <cstring>
#include <filesystem>

#include "core/bytes.h"
#include "core/hash.h"
#include "formats/gguf.h"
#include "formats/llama2c.h"
#include "formats/printable.h"
#include "formats/safetensors.h"
#include "formats/stand_in.h"

namespace pith {
namespace {

constexpr uint64_t kMaxConfig = 16u << 20;

constexpr const char* kPickleRemedy =
    "is a pickle file, which can run code when it is loaded; convert it once with "
    "save_pretrained(..., "
    "safe_serialization=True) of Hugging Face transformers to safetensors";

// An unreadable generation_config.json is ignored, as transformers does.
void read_generation_config(const std::string& folder, Checkpoint* c) {
  const std::string path = join_path(folder, "generation_config.json");
  if (!file_exists(path)) return;
  try {
    std::string text = read_model_text(path, kMaxConfig);
    c->generation_config = parse_json(text, path, 64, &c->notes);
    c->config_files.generation_config = std::move(text);
  } catch (const Error& e) {
    if (e.kind() != ErrorKind::kCorrupt) throw;
    c->notes.push_back(std::string(e.what()) + "; it was ignored");
  }
}

bool has_pickled_weights(const std::string& folder) {
  bool found = false;
  std::error_code error;
  for (std::filesystem::directory_iterator it(folder, error), end; !error && it != end;
       it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (name.ends_with(".safetensors") || name == "model.safetensors.index.json") return false;
    found |= name.starts_with("pytorch_model") && name.ends_with(".bin");
  }
  return found;
}

// What torch.save writes: a zip archive with a data.pkl inside, or a bare pickle.
bool looks_like_pickle(std::string_view first, std::string_view last) {
  if (first.size() >= 2 && first[0] == '\x80' && first[1] >= 2 && first[1] <= 5) return true;
  constexpr std::string_view kEntry = "data.pkl";
  return first.starts_with("PK\x03\x04") &&
         (first.find(kEntry) != first.npos || last.find(kEntry) != last.npos);
}

Checkpoint open_file(const std::string& path) {
  constexpr uint64_t kLook = 4096, kLookBack = 65536;
  std::string first, last;
  uint64_t size = 0;
  {
    const File file = File::open_read(path);
    size = file.size();
    first.resize(std::min(size, kLook));
    file.read(0, std::as_writable_bytes(std::span(first)));
    last.resize(std::min(size, kLookBack));
    file.read(size - last.size(), std::as_writable_bytes(std::span(last)));
  }
  const auto head = as_bytes(first);
  if (looks_like_gguf(head)) return open_gguf(path);
  if (looks_like_pickle(first, last)) fail(ErrorKind::kUnsupported, "{}: {}", path, kPickleRemedy);
  if (looks_like_llama2c(head, size)) return open_llama2c(path);
  refuse_stand_in(first, path);
  // By its name as well: the parser says what is wrong with it.
  if (looks_like_safetensors(head, size) || path.ends_with(".safetensors"))
    return open_safetensors(path);
  const std::string_view shown = std::string_view(first).substr(0, 8);
  fail(ErrorKind::kCorrupt,
       "{}: neither safetensors, GGUF nor llama2.c; its first bytes are {} ({:02x})", path,
       printable(shown), fmt::join(std::vector<uint8_t>(shown.begin(), shown.end()), " "));
}

}  // namespace

const TensorInfo* Checkpoint::find(std::string_view name) const {
  const auto it = by_name.find(std::string(name));
  if (it != by_name.end()) return &tensors[it->second];
  const auto other = unreadable.find(name);
  if (other == unreadable.end()) return nullptr;
  fail(other->second.kind, "{}: tensor {} {}", path, printable(name), other->second.why);
}

const TensorInfo& Checkpoint::require(std::string_view name) const {
  if (const TensorInfo* t = find(name)) return *t;
  for (const char* codes : {".qweight", ".weight_packed", ".weight_quant"}) {
    const size_t dot = name.rfind('.');
    if (dot == name.npos || !name.ends_with(".weight")) continue;
    const std::string packed = std::string(name.substr(0, dot)) + codes;
    if (find(packed) != nullptr) {
      fail(ErrorKind::kUnsupported,
           "{}: already quantized (it has {} for {}); give the original checkpoint", path,
           printable(packed), printable(name));
    }
  }
  fail(ErrorKind::kCorrupt, "{}: tensor {} is missing", path, printable(name));
}

void Checkpoint::read(const TensorInfo& t, int64_t row, int64_t rows,
                      std::span<std::byte> to) const {
  const int64_t n = t.shape.empty() ? 1 : t.shape[0];
  if (row < 0 || rows < 0 || row > n || rows > n - row) {
    fail(ErrorKind::kUsage, "{}: rows {} + {} of tensor {}, which has {}", path, row, rows,
         printable(t.name), n);
  }
  const bool whole = row == 0 && rows == n;
  const auto count = static_cast<uint64_t>(n);
  if (!whole && t.bytes % count != 0) {
    fail(ErrorKind::kUsage, "{}: tensor {} cannot be cut into its {} rows", path, printable(t.name),
         n);
  }
  const uint64_t row_bytes = n == 0 ? 0 : t.bytes / count;
  const uint64_t begin = whole ? 0 : row_bytes * static_cast<uint64_t>(row);
  const uint64_t bytes = whole ? t.bytes : row_bytes * static_cast<uint64_t>(rows);
  if (to.size() != bytes) {
    fail(ErrorKind::kUsage, "{}: {} rows of tensor {} are {} bytes, not {}", path, rows,
         printable(t.name), bytes, to.size());
  }
  if (!t.f64) return files.at(t.file).read(t.offset + begin, to);
  constexpr uint64_t kFloat = sizeof(float), kAtOnce = 65536;
  std::vector<double> doubles(std::min(kAtOnce, bytes / kFloat));
  std::vector<float> floats(doubles.size());
  for (uint64_t at = 0; at < bytes;) {
    const auto some = std::span(doubles).first(std::min(kAtOnce, (bytes - at) / kFloat));
    files.at(t.file).read(t.offset + 2 * (begin + at), std::as_writable_bytes(some));
    std::ranges::transform(some, floats.begin(), [](double v) { return static_cast<float>(v); });
    std::memcpy(to.data() + at, floats.data(), some.size() * kFloat);
    at += some.size() * kFloat;
  }
}

uint64_t Checkpoint::hash() const {
  Hasher hasher;
  const auto add = [&](auto... values) {
    const uint64_t all[] = {static_cast<uint64_t>(values)...};
    hasher.add(std::as_bytes(std::span(all)));
  };
  for (const auto& file : files) add(file.size(), file.modified_ns());
  for (const auto& t : tensors) {
    add(t.name.size(), t.encoding.kind, t.encoding.dtype, t.encoding.ggml, t.file, t.offset,
        t.bytes, t.f64, t.shape.size());
    hasher.add(as_bytes(t.name));
    hasher.add(std::as_bytes(std::span(t.shape)));
  }
  return hasher.value();
}

Checkpoint open_checkpoint(const std::string& path) {
  const bool folder = is_folder(path);
  if (folder && has_pickled_weights(path)) {
    fail(ErrorKind::kUnsupported, "{}: pytorch_model*.bin {}", path, kPickleRemedy);
  }
  Checkpoint c = folder ? open_safetensors(path) : open_file(path);
  if (c.kind == Checkpoint::Kind::kSafetensors) {
    read_generation_config(folder ? path : folder_of(path), &c);
  }
  return c;
}

}  // namespace pith
