#include <algorithm>
#include <filesystem>
#include <set>

#include "core/bytes.h"
#include "formats/printable.h"
#include "formats/safetensors.h"

namespace pith {
namespace {

constexpr uint64_t kMaxConfig = 16u << 20;
constexpr uint64_t kMaxIndex = 64u << 20;
constexpr const char* kWeights = "model.safetensors";
constexpr const char* kIndex = "model.safetensors.index.json";

SafetensorsHeader read_header(const File& file) {
  const uint64_t size = file.size();
  std::vector<std::byte> head(std::min<uint64_t>(size, 9));
  file.read(0, head);
  if (looks_like_safetensors(head, size)) {
    const auto length = ByteReader(head, file.path()).read<uint64_t>("header length");
    // Where the header goes beyond the file, the parser says so.
    head.resize(std::min(size, 8 + length));
    file.read(0, head);
  }
  return parse_safetensors(head, size, file.path());
}

void add_tensors(Checkpoint& c, std::vector<TensorInfo> tensors, uint32_t file) {
  for (auto& t : tensors) {
    t.file = file;
    if (!c.by_name.emplace(t.name, c.tensors.size()).second) {
      fail(ErrorKind::kCorrupt, "{}: tensor {} is also in another shard", c.files[file].path(),
           printable(t.name));
    }
    c.tensors.push_back(std::move(t));
  }
}

void add_single(Checkpoint& c, const std::string& path) {
  c.files.push_back(File::open_read(path));
  add_tensors(c, read_header(c.files[0]).tensors, 0);
}

void add_shards(Checkpoint& c, const std::string& folder) {
  const std::string index_path = join_path(folder, kIndex);
  const auto shard_of = parse_safetensors_index(read_text_file(index_path, kMaxIndex), index_path);
  std::set<std::string> shards;
  for (const auto& [tensor, shard] : shard_of) shards.insert(shard);
  std::vector<std::string> names(shards.begin(), shards.end());
  for (const auto& shard : names) {
    const std::string path = join_path(folder, shard);
    if (!file_exists(path))
      fail(ErrorKind::kIo, "{}: shard {} is missing", index_path, printable(shard));
    c.files.push_back(File::open_read(path));
    add_tensors(c, read_header(c.files.back()).tensors, static_cast<uint32_t>(c.files.size() - 1));
  }
  for (const auto& [tensor, shard] : shard_of) {
    const auto it = c.by_name.find(tensor);
    if (it == c.by_name.end() || names[c.tensors[it->second].file] != shard) {
      fail(ErrorKind::kCorrupt, "{}: tensor {} is not in {}", index_path, printable(tensor),
           printable(shard));
    }
  }
  for (const auto& t : c.tensors) {
    if (!shard_of.contains(t.name)) {
      fail(ErrorKind::kCorrupt, "{}: tensor {} of {} is not listed", index_path, printable(t.name),
           printable(names[t.file]));
    }
  }
}

std::vector<std::string> safetensors_files(const std::string& folder) {
  std::vector<std::string> found;
  std::error_code error;
  for (std::filesystem::directory_iterator it(folder, error), end; !error && it != end;
       it.increment(error)) {
    if (it->path().extension() == ".safetensors") found.push_back(it->path().string());
  }
  if (error) fail(ErrorKind::kIo, "{}: cannot list: {}", folder, error.message());
  std::sort(found.begin(), found.end());
  return found;
}

void add_folder(Checkpoint& c, const std::string& folder) {
  if (const auto path = join_path(folder, kWeights); file_exists(path)) return add_single(c, path);
  if (file_exists(join_path(folder, kIndex))) return add_shards(c, folder);
  const auto files = safetensors_files(folder);
  if (files.empty()) fail(ErrorKind::kCorrupt, "{}: no *.safetensors in this folder", folder);
  if (files.size() > 1) {
    fail(ErrorKind::kUsage, "{}: {} safetensors files and no {}; name one of them", folder,
         files.size(), kIndex);
  }
  add_single(c, files[0]);
}

}  // namespace

Checkpoint open_safetensors(const std::string& path) {
  Checkpoint c;
  c.kind = Checkpoint::Kind::kSafetensors;
  c.path = path;
  const bool folder = is_folder(path);
  if (folder) {
    add_folder(c, path);
  } else {
    add_single(c, path);
  }
  const std::string config = join_path(folder ? path : folder_of(path), "config.json");
  if (!file_exists(config)) {
    fail(ErrorKind::kCorrupt, "{}: no config.json beside the weights", path);
  }
  c.config = parse_json(read_text_file(config, kMaxConfig), config);
  if (!c.config.is_object()) {
    fail(ErrorKind::kCorrupt, "{}: is {} instead of an object", config, c.config.type_name());
  }
  return c;
}

}  // namespace pith
