#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "core/buffer.h"
#include "core/error.h"
#include "core/parallel.h"
#include "formats/packed_file.h"
#include "formats/tokenizer/tokenizer.h"
#include "runtime/compress/check.h"
#include "runtime/model/source.h"
#include "tools/command.h"
#include "tools/terminal.h"

namespace pith::tools {
namespace {

struct Options : Common {
  std::vector<std::string> files;
};

struct Verified {
  size_t linears = 0;
  uint64_t file_bytes = 0;
  std::vector<std::string> constant;  // linears whose weights are all the same
};

Verified verify_file(const std::string& path, Progress& progress) {
  const PackedFile file = PackedFile::open(path);  // header, manifest, layout of every plane
  file.check_planes();
  const auto source = open_model(path, "", false);
  const auto linears = linears_of(source->spec());
  Verified out{.linears = linears.size(), .file_bytes = file.file_bytes(), .constant = {}};
  progress.begin("decoding", static_cast<int64_t>(linears.size()));
  int64_t done = 0;
  for (const auto& info : linears) {
    const Linear linear = source->linear(info);
    if (check_linear(path, linear).constant) out.constant.push_back(info.name);
    for (const float v : linear.bias) {
      if (!std::isfinite(v))
        fail(ErrorKind::kNumeric, "{}: a bias of {} is {}", path, info.name, v);
    }
    progress.advance(++done, info.name);
  }
  for (const auto& info : vectors_of(source->spec())) {
    for (const float v : source->vector(info)) {
      if (!std::isfinite(v)) fail(ErrorKind::kNumeric, "{}: {} holds {}", path, info.name, v);
    }
  }
  progress.end();
  // Published models may have some layers of zeros, but never all of them.
  if (out.constant.size() == linears.size())
    fail(ErrorKind::kNumeric, "{}: in every linear layer all weights are the same", path);
  if (!source->tokenizer().empty()) load_tokenizer_for(*source);
  return out;
}

void verify(const Options& o) {
  o.apply();
  TerminalProgress progress(o.quiet);
  Json all = Json::array();
  std::optional<Error> first_error;
  for (const auto& path : o.files) {
    try {
      const Verified v = verify_file(path, progress);
      for (const auto& name : v.constant)
        warn(fmt::format("{}: all weights of {} are the same", path, name));
      all.push_back({{"path", path},
                     {"ok", true},
                     {"linears", v.linears},
                     {"constant", v.constant},
                     {"file_bytes", v.file_bytes}});
      if (o.prints())
        say("{}: ok, {} linear layers, {}\n", path, v.linears, human_bytes(v.file_bytes));
    } catch (const Error& e) {
      progress.end();
      if (o.files.size() == 1 || e.kind() == ErrorKind::kCancelled) throw;
      warn(e.what());
      all.push_back({{"path", path}, {"ok", false}, {"error", e.what()}});
      if (!first_error) first_error = e;
    }
  }
  o.write_json(all.size() == 1 ? all[0] : Json{{"files", all}});
  if (first_error) {
    const auto bad = std::ranges::count_if(all, [](const Json& j) { return !j["ok"]; });
    fail(first_error->kind(), "{} of {} files failed", bad, o.files.size());
  }
}

}  // namespace

void add_verify(CLI::App& app) {
  auto* c =
      app.add_subcommand("verify", "check packed files: checksums, decodes, finite, not constant");
  auto o = std::make_shared<Options>();
  c->add_option("FILE", o->files, ".pith files")->required();
  o->Common::add_to(*c);
  c->callback([o] { verify(*o); });
}

}  // namespace pith::tools
