#include <fmt/format.h>

#include <cmath>
#include <set>

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
  std::string file;
};

void verify(const Options& o) {
  o.apply();
  TerminalProgress progress(o.quiet);
  const PackedFile file = PackedFile::open(o.file);  // header, manifest, layout of every plane
  file.check_planes();
  const auto source = open_model(o.file, "", false);
  const auto linears = linears_of(source->spec());
  progress.begin("decoding", static_cast<int64_t>(linears.size()));
  int64_t done = 0;
  for (const auto& info : linears) {
    const Linear linear = source->linear(info);
    check_linear(o.file, linear);
    for (const float v : linear.bias) {
      if (!std::isfinite(v))
        fail(ErrorKind::kNumeric, "{}: a bias of {} is {}", o.file, info.name, v);
    }
    progress.advance(++done, info.name);
  }
  for (const auto& info : vectors_of(source->spec())) {
    for (const float v : source->vector(info)) {
      if (!std::isfinite(v)) fail(ErrorKind::kNumeric, "{}: {} holds {}", o.file, info.name, v);
    }
  }
  progress.end();
  if (!source->tokenizer().empty()) make_tokenizer(source->tokenizer());
  o.write_json({{"path", o.file},
                {"ok", true},
                {"linears", linears.size()},
                {"file_bytes", file.file_bytes()}});
  if (o.prints())
    say("{}: ok, {} linear layers, {}\n", o.file, linears.size(), human_bytes(file.file_bytes()));
}

}  // namespace

void add_verify(CLI::App& app) {
  auto* c =
      app.add_subcommand("verify", "check a packed file: checksums, decodes, finite, not constant");
  auto o = std::make_shared<Options>();
  c->add_option("FILE", o->file, "a .pith file")->required();
  o->Common::add_to(*c);
  c->callback([o] { verify(*o); });
}

}  // namespace pith::tools
