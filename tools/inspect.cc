#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <vector>

#include "runtime/model/source.h"
#include "tools/command.h"
#include "tools/evaluation.h"
#include "tools/terminal.h"

namespace pith::tools {
namespace {

struct Options : Common, ModelOptions {
  bool tensors = false, recipe = false;
};

// One linear layer, as it is shown.
struct LinearRow {
  LinearInfo info;
  std::string encoding;
  uint64_t bytes = 0;
  InputEncoding input;
  const proto::LinearRecord* record = nullptr;  // of a packed file
};

struct Inspection {
  std::string path;
  const ModelSource& source;
  std::vector<LinearRow> linears;
  std::map<std::string, std::pair<int64_t, uint64_t>> encodings = {};  // layers, bytes
  std::map<std::string, int64_t> inputs = {};                          // layers that round them so
  double bits_per_weight = 0;

  const proto::Manifest* manifest() const { return source.manifest(); }
  // For a packed file: its errors add to those of its source.
  bool made_from_compressed() const {
    return manifest()->provenance().source_name().ends_with(".pith");
  }
};

Inspection collect(const std::string& path, const ModelSource& source) {
  Inspection out{.path = path, .source = source, .linears = {}};
  std::map<std::string, const proto::LinearRecord*> records;
  if (const auto* manifest = source.manifest()) {
    for (const auto& l : manifest->linears()) records[l.name()] = &l;
  }
  uint64_t weights = 0, bytes = 0;
  for (const auto& info : linears_of(source.spec())) {
    const LinearForm form = source.form(info);
    out.linears.push_back({.info = info,
                           .encoding = to_string(form),
                           .bytes = encoded_bytes(form, info.n, info.k),
                           .input = form.input,
                           .record = records.empty() ? nullptr : records.at(info.name)});
    const LinearRow& row = out.linears.back();
    auto& [count, total] = out.encodings[row.encoding];
    count += 1;
    total += row.bytes;
    if (row.input.rounds()) out.inputs[to_string(row.input)] += 1;
    weights += static_cast<uint64_t>(info.n * info.k);
    bytes += row.bytes;
  }
  if (weights > 0)
    out.bits_per_weight = 8.0 * static_cast<double>(bytes) / static_cast<double>(weights);
  return out;
}

Json json_of(const LinearRow& row) {
  Json j = {{"name", row.info.name},
            {"rows", row.info.n},
            {"columns", row.info.k},
            {"encoding", row.encoding},
            {"bytes", row.bytes}};
  if (row.input.rounds()) {
    j["inputs"] = to_string(row.input);
    if (row.input.scale == InputScale::kTensor) j["input_scale"] = row.input.value;
  }
  if (row.record != nullptr) {
    j["relative_error"] = row.record->relative_error();
    j["method"] = row.record->method();
  }
  return j;
}

Json values_of(const proto::Evaluation& e) {
  Json values = Json::object();
  for (const auto& [name, value] : e.values()) values[name] = value;
  return values;
}

Json json_of(const Inspection& i) {
  const auto& spec = i.source.spec();
  Json j = {{"path", i.path},
            {"format", i.source.kind()},
            {"file_bytes", bytes_on_disk(i.path)},
            {"parameters", parameter_count(spec)},
            {"bits_per_weight", i.bits_per_weight},
            {"architecture", spec.family()},
            {"layers", spec.layers_size()},
            {"hidden", spec.hidden()},
            {"vocabulary", spec.vocab()},
            {"context", spec.context()},
            {"tied_head", spec.tied_head()},
            {"tokenizer", !i.source.tokenizer().empty()},
            {"chat_template", !i.source.tokenizer().chat_template.empty()},
            {"encodings", Json::object()},
            {"linears", Json::array()}};
  for (const auto& [name, entry] : i.encodings)
    j["encodings"][name] = {{"linears", entry.first}, {"bytes", entry.second}};
  if (!i.inputs.empty()) j["inputs"] = i.inputs;
  for (const auto& row : i.linears) j["linears"].push_back(json_of(row));
  if (i.manifest() == nullptr) return j;
  const auto& p = i.manifest()->provenance();
  j["provenance"] = {{"tool", p.tool()},
                     {"source", p.source_name()},
                     {"source_hash", fmt::format("{:016x}", p.source_hash())},
                     {"source_bytes", p.source_bytes()},
                     {"recipe", p.recipe()},
                     {"calibration_hash", fmt::format("{:016x}", p.calibration_hash())},
                     {"seed", p.seed()},
                     {"source_was_compressed", i.made_from_compressed()}};
  j["files"] = Json::object();  // stored in it, byte for byte
  for (const auto& b : i.manifest()->blobs()) j["files"][b.name()] = b.plane().bytes();
  for (const auto& e : p.evaluations()) {
    j["provenance"]["evaluations"].push_back({{"what", e.what()},
                                              {"protocol", e.protocol()},
                                              {"text_hash", fmt::format("{:016x}", e.text_hash())},
                                              {"tokens", e.tokens()},
                                              {"values", values_of(e)}});
  }
  // Opening it has checked the header and the manifest.
  j["checksums"] = {{"manifest", "ok"}, {"weights", "not checked"}};
  return j;
}

void print_lines(std::string_view text, const char* indent) {
  while (!text.empty()) {
    const auto line = text.substr(0, text.find('\n'));
    say("{}{}\n", indent, one_line(line));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
  }
}

void print_provenance(const Inspection& i) {
  const auto& p = i.manifest()->provenance();
  say("  made by        {} from {} (hash of its weights {:016x})\n", one_line(p.tool()),
      one_line(p.source_name()), p.source_hash());
  for (const auto& b : i.manifest()->blobs())
    say("  file           {:<23} {:>9}\n", one_line(b.name()), human_bytes(b.plane().bytes()));
  say("  calibration    {}, seed {}\n",
      p.calibration_hash() == 0 ? "none"
                                : fmt::format("text with hash {:016x}", p.calibration_hash()),
      p.seed());
  for (const auto& e : p.evaluations()) {
    std::string values;
    for (const auto& [name, value] : std::map(e.values().begin(), e.values().end()))
      values += fmt::format(", {} {:.6g}", name, value);
    say("  evaluation     {} by {}, {} tokens of a text with hash {:016x}{}\n", one_line(e.what()),
        one_line(e.protocol()), e.tokens(), e.text_hash(), one_line(values));
  }
  say("  recipe\n");
  print_lines(p.recipe(), "    ");
  say("  checksums      header and manifest: ok; weights: not checked (pith verify {})\n",
      one_line(i.path));
}

void print(const Inspection& i) {
  const auto& spec = i.source.spec();
  say("{}: {}, {}\n", one_line(i.path), i.source.kind(), human_bytes(bytes_on_disk(i.path)));
  if (!spec.name().empty()) say("  name           {}\n", one_line(spec.name()));
  say("  architecture   {}, {} layers, hidden {}, vocabulary {}, context {}{}\n",
      one_line(spec.family()), spec.layers_size(), spec.hidden(), spec.vocab(), spec.context(),
      spec.tied_head() ? ", tied head" : "");
  say("  parameters     {:.1f} M, {:.3f} bits per weight\n",
      static_cast<double>(parameter_count(spec)) / 1e6, i.bits_per_weight);
  for (const auto& [name, entry] : i.encodings) {
    say("  encoding       {:<20} {:>4} linears {:>12}\n", name, entry.first,
        human_bytes(entry.second));
  }
  for (const auto& [name, layers] : i.inputs)
    say("  inputs         {:<20} {:>4} linears\n", name, layers);
  say("  tokenizer      {}\n", i.source.tokenizer().empty() ? "none" : "yes");
  if (i.manifest() != nullptr) print_provenance(i);
}

void print(const LinearRow& row) {
  say("  {:<28} {:>8} x {:<6} {:<16} {:>10}", one_line(row.info.name), row.info.n, row.info.k,
      row.encoding, human_bytes(row.bytes));
  if (row.input.rounds()) say("  inputs {}", to_string(row.input));
  if (row.record != nullptr)
    say("  error {:.2e}  {}", row.record->relative_error(), one_line(row.record->method()));
  say("\n");
}

void inspect(const Options& o) {
  o.apply();
  const auto source = open_model_for(o, false);
  const Inspection i = collect(o.model, *source);
  if (o.recipe) {
    if (i.manifest() == nullptr)
      fail(ErrorKind::kUsage, "{}: only a packed file has a recipe", one_line(o.model));
    const std::string& recipe = i.manifest()->provenance().recipe();
    if (!recipe.starts_with("steps:")) {
      fail(ErrorKind::kUnsupported,
           "{}: was made before recipes could be run again; pith inspect shows what was done",
           one_line(o.model));
    }
    o.write_json({{"recipe", recipe}});
    if (o.prints()) print_lines(recipe, "");
    return;
  }
  if (i.manifest() != nullptr && i.made_from_compressed()) {
    warn(
        fmt::format("made from {}, which was compressed already: the errors of both add up; the "
                    "original gives a better "
                    "file",
                    one_line(i.manifest()->provenance().source_name())));
  }
  o.write_json(json_of(i));
  if (!o.prints()) return;
  print(i);
  if (!o.tensors) return;
  for (const auto& row : i.linears) print(row);
}

}  // namespace

void add_inspect(CLI::App& app) {
  auto* c = app.add_subcommand(
      "inspect", "show the architecture, layers, encodings, sizes and provenance of a model");
  auto o = std::make_shared<Options>();
  o->ModelOptions::add_to(*c, "MODEL", kModelHelp);
  c->add_flag("--tensors", o->tensors, "list every linear layer")->group("What is shown");
  c->add_flag("--recipe", o->recipe, "the recipe alone, for pith compress")->group("What is shown");
  o->Common::add_to(*c);
  c->callback([o] { inspect(*o); });
}

}  // namespace pith::tools
