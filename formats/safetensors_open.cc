#include <algorithm>
#include <filesystem>
#include <set>

#include "core/bytes.h"
#include "formats/printable.h"
#include "formats/safetensors.h"
#include "formats/stand_in.h"

namespace pith {
namespace {

constexpr uint64_t kMaxConfig = 16u << 20;
constexpr uint64_t kMaxIndex = 64u << 20;
constexpr const char* kWeights = "model.safetensors";
constexpr const char* kIndex = "model.safetensors.index.json";

SafetensorsHeader read_header(const File& file) {
  const uint64_t size = file.size();
  constexpr uint64_t kLook = 512;
  std::string look(std::min<uint64_t>(size, kLook), '\0');
  file.read(0, std::as_writable_bytes(std::span(look)));
  refuse_stand_in(look, file.path());
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

// A note about several tensors names the first.
struct Noted {
  size_t count = 0;
  std::string first;
  void add(const std::string& name) {
    if (count++ == 0) first = name;
  }
  void tell(Checkpoint& c, const std::string& where, const char* what) const {
    if (count == 0) return;
    const std::string others = count > 1 ? fmt::format(" and {} more", count - 1) : "";
    c.notes.push_back(fmt::format("{}: {}{} {}", where, printable(first), others, what));
  }
};

// The tensors of all shards; those of a later shard replace earlier ones of the same name.
class Tensors {
 public:
  explicit Tensors(Checkpoint& c) : c_(c) {}

  void add(const std::string& path) {
    const auto file = static_cast<uint32_t>(c_.files.size());
    c_.files.push_back(File::open_read(path));
    SafetensorsHeader header = read_header(c_.files.back());
    for (auto& t : header.tensors) {
      t.file = file;
      if (t.f64) f64_.add(t.name);
      c_.unreadable.erase(t.name);
      const auto [it, is_new] = c_.by_name.try_emplace(t.name, c_.tensors.size());
      if (!is_new) {
        twice_.add(t.name);
        it->second = c_.tensors.size();
      }
      c_.tensors.push_back(std::move(t));
    }
    for (const auto& [name, type] : header.other_types) {
      other_.add(name);
      c_.by_name.erase(name);
      c_.unreadable[name] = {ErrorKind::kUnsupported,
                             fmt::format("has dtype {}, which is not supported", type)};
    }
  }
  void finish() {
    const auto is_current = [&](size_t i) {
      const auto it = c_.by_name.find(c_.tensors[i].name);
      return it != c_.by_name.end() && it->second == i;
    };
    std::vector<TensorInfo> current;
    for (size_t i = 0; i < c_.tensors.size(); ++i) {
      if (is_current(i)) current.push_back(c_.tensors[i]);
    }
    c_.tensors = std::move(current);
    for (size_t i = 0; i < c_.tensors.size(); ++i) c_.by_name[c_.tensors[i].name] = i;
    twice_.tell(c_, c_.path, "in more than one shard: the last one counts");
    f64_.tell(c_, c_.path, "in F64: read as f32");
    other_.tell(c_, c_.path, "of an element type that is not read: ignored");
  }

 private:
  Checkpoint& c_;
  Noted twice_, f64_, other_;
};

void add_single(Checkpoint& c, const std::string& path) {
  Tensors tensors(c);
  tensors.add(path);
  tensors.finish();
}

void add_shards(Checkpoint& c, const std::string& folder) {
  const std::string index_path = join_path(folder, kIndex);
  const auto shard_of = parse_safetensors_index(read_model_text(index_path, kMaxIndex), index_path);
  std::set<std::string> names;
  for (const auto& [tensor, shard] : shard_of) names.insert(shard);
  Tensors tensors(c);
  std::vector<std::string> file_names;
  Noted absent, elsewhere, nowhere, unlisted;
  for (const auto& shard : names) {
    const std::string path = join_path(folder, shard);
    if (file_exists(path)) {
      tensors.add(path);
      file_names.push_back(shard);
    } else {
      absent.add(shard);
    }
  }
  if (file_names.empty())
    fail(ErrorKind::kIo, "{}: shard {} is missing", index_path, printable(absent.first));
  tensors.finish();
  for (const auto& [tensor, shard] : shard_of) {
    const auto it = c.by_name.find(tensor);
    if (it != c.by_name.end()) {
      if (file_names[c.tensors[it->second].file] != shard) elsewhere.add(tensor);
    } else if (!c.unreadable.contains(tensor)) {
      nowhere.add(tensor);
      const bool there = file_exists(join_path(folder, shard));
      c.unreadable[tensor] = {ErrorKind::kCorrupt,
                              fmt::format("should be in the shard {}, which {}", printable(shard),
                                          there ? "does not have it" : "is missing")};
    }
  }
  for (const auto& t : c.tensors) {
    if (!shard_of.contains(t.name)) unlisted.add(t.name);
  }
  absent.tell(c, index_path, "missing: no matter where the model needs nothing of it");
  elsewhere.tell(c, index_path, "in another shard than it says");
  nowhere.tell(c, index_path, "listed and in no shard");
  unlisted.tell(c, index_path, "not listed, read all the same");
}

// Whether these are model-00001-of-0000N.safetensors, all of them.
bool is_whole_set(const std::vector<std::string>& paths) {
  for (size_t i = 0; i < paths.size(); ++i) {
    if (std::filesystem::path(paths[i]).filename() !=
        fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, paths.size()))
      return false;
  }
  return true;
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
  if (files.size() > 1 && is_whole_set(files)) {
    Tensors tensors(c);
    for (const auto& path : files) tensors.add(path);
    tensors.finish();
    c.notes.push_back(
        fmt::format("{}: no {}; read all of its {} shards", folder, kIndex, files.size()));
    return;
  }
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
  c.config_files.config = read_model_text(config, kMaxConfig);
  c.config = parse_json(c.config_files.config, config, 64, &c.notes);
  if (!c.config.is_object()) {
    fail(ErrorKind::kCorrupt, "{}: is {} instead of an object", config, c.config.type_name());
  }
  return c;
}

}  // namespace pith
