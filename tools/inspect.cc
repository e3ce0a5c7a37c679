#include <fmt/format.h>

#include <map>

#include "runtime/model/source.h"
#include "tools/command.h"
#include "tools/evaluation.h"
#include "tools/terminal.h"

namespace pith::tools {
namespace {

struct Options : Common, ModelOptions {
  bool tensors = false;
};

void inspect(const Options& o) {
  o.apply();
  const auto source = open_model_for(o, false);
  const auto& spec = source->spec();
  std::map<std::string, std::pair<int64_t, uint64_t>> encodings;  // layers, bytes
  std::map<std::string, int64_t> inputs;                          // layers that round them so
  uint64_t weights = 0, bytes = 0;
  Json linears = Json::array();
  for (const auto& info : linears_of(spec)) {
    const LinearForm form = source->form(info);
    const uint64_t b = encoded_bytes(form, info.n, info.k);
    auto& entry = encodings[to_string(form)];
    entry.first += 1;
    entry.second += b;
    weights += static_cast<uint64_t>(info.n * info.k);
    bytes += b;
    linears.push_back({{"name", info.name},
                       {"rows", info.n},
                       {"columns", info.k},
                       {"encoding", to_string(form)},
                       {"bytes", b}});
    const InputEncoding& input = form.input;
    if (!input.rounds()) continue;
    inputs[to_string(input)] += 1;
    linears.back()["inputs"] = to_string(input);
    if (input.scale == InputScale::kTensor) linears.back()["input_scale"] = input.value;
  }
  const proto::Manifest* manifest = source->manifest();
  if (manifest != nullptr) {
    std::map<std::string, const proto::LinearRecord*> records;
    for (const auto& l : manifest->linears()) records[l.name()] = &l;
    for (auto& l : linears) {
      const auto* r = records.at(l["name"]);
      l["relative_error"] = r->relative_error();
      l["method"] = r->method();
    }
  }
  const double bits = weights ? 8.0 * static_cast<double>(bytes) / static_cast<double>(weights) : 0;
  Json j = {{"path", o.model},
            {"format", source->kind()},
            {"file_bytes", bytes_on_disk(o.model)},
            {"parameters", parameter_count(spec)},
            {"bits_per_weight", bits},
            {"architecture", spec.family()},
            {"layers", spec.layers_size()},
            {"hidden", spec.hidden()},
            {"vocabulary", spec.vocab()},
            {"context", spec.context()},
            {"tied_head", spec.tied_head()},
            {"tokenizer", !source->tokenizer().empty()},
            {"chat_template", !source->tokenizer().chat_template.empty()}};
  Json by_encoding = Json::object();
  for (const auto& [name, entry] : encodings)
    by_encoding[name] = {{"linears", entry.first}, {"bytes", entry.second}};
  j["encodings"] = by_encoding;
  if (!inputs.empty()) j["inputs"] = inputs;
  j["linears"] = linears;
  if (manifest != nullptr) {
    const auto& p = manifest->provenance();
    j["provenance"] = {{"tool", p.tool()},
                       {"source", p.source_name()},
                       {"source_hash", fmt::format("{:016x}", p.source_hash())},
                       {"source_bytes", p.source_bytes()},
                       {"recipe", p.recipe()},
                       {"calibration_hash", fmt::format("{:016x}", p.calibration_hash())},
                       {"seed", p.seed()}};
  }
  if (manifest != nullptr) {
    const std::string& from = manifest->provenance().source_name();
    const bool twice = from.ends_with(".pith");
    j["provenance"]["source_was_compressed"] = twice;
    if (twice) {
      warn(fmt::format("made from {}, which was compressed already: the errors of both add up",
                       one_line(from)));
    }
  }
  // Opening it has checked the header and the manifest.
  if (manifest != nullptr) j["checksums"] = {{"manifest", "ok"}, {"weights", "not checked"}};
  o.write_json(j);
  if (!o.prints()) return;
  say("{}: {}, {}\n", one_line(o.model), source->kind(), human_bytes(j["file_bytes"]));
  if (!spec.name().empty()) say("  name           {}\n", one_line(spec.name()));
  say("  architecture   {}, {} layers, hidden {}, vocabulary {}, context {}{}\n",
      one_line(spec.family()), spec.layers_size(), spec.hidden(), spec.vocab(), spec.context(),
      spec.tied_head() ? ", tied head" : "");
  say("  parameters     {:.1f} M, {:.3f} bits per weight\n",
      static_cast<double>(parameter_count(spec)) / 1e6, bits);
  for (const auto& [name, entry] : encodings) {
    say("  encoding       {:<20} {:>4} linears {:>12}\n", name, entry.first,
        human_bytes(entry.second));
  }
  for (const auto& [name, layers] : inputs)
    say("  inputs         {:<20} {:>4} linears\n", name, layers);
  say("  tokenizer      {}\n", source->tokenizer().empty() ? "none" : "yes");
  if (manifest != nullptr) {
    const auto& p = manifest->provenance();
    say("  made by        {} from {} (hash of its weights {:016x})\n  recipe\n", one_line(p.tool()),
        one_line(p.source_name()), p.source_hash());
    std::string_view recipe = p.recipe();
    while (!recipe.empty()) {
      const auto line = recipe.substr(0, recipe.find('\n'));
      say("    {}\n", one_line(line));
      recipe.remove_prefix(std::min(recipe.size(), line.size() + 1));
    }
  }
  if (manifest != nullptr) {
    say("  checksums      header and manifest: ok; weights: not checked (pith verify {})\n",
        one_line(o.model));
  }
  if (!o.tensors) return;
  for (const auto& l : linears) {
    say("  {:<28} {:>8} x {:<6} {:<16} {:>10}", one_line(l["name"].get<std::string>()),
        l["rows"].get<int64_t>(), l["columns"].get<int64_t>(), l["encoding"].get<std::string>(),
        human_bytes(l["bytes"]));
    if (l.contains("inputs")) say("  inputs {}", l["inputs"].get<std::string>());
    if (l.contains("relative_error"))
      say("  error {:.2e}  {}", l["relative_error"].get<double>(),
          one_line(l["method"].get<std::string>()));
    say("\n");
  }
}

}  // namespace

void add_inspect(CLI::App& app) {
  auto* c = app.add_subcommand(
      "inspect", "show the architecture, layers, encodings, sizes and provenance of a model");
  auto o = std::make_shared<Options>();
  o->ModelOptions::add_to(*c, "MODEL", kModelHelp);
  c->add_flag("--tensors", o->tensors, "list every linear layer")->group("What is shown");
  o->Common::add_to(*c);
  c->callback([o] { inspect(*o); });
}

}  // namespace pith::tools
