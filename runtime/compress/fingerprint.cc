#include "runtime/compress/fingerprint.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>

#include "core/bytes.h"
#include "core/error.h"
#include "core/hash.h"
#include "core/utf8.h"
#include "formats/packed_file.h"
#include "runtime/compress/settings.h"
#include "runtime/cpu/cpu_algebra.h"

namespace pith {
namespace {

std::string hashed(uint64_t hash) { return fmt::format("#{:016x}", hash); }

std::string serialized(const google::protobuf::Message& m) {
  std::string bytes;
  google::protobuf::io::StringOutputStream stream(&bytes);
  google::protobuf::io::CodedOutputStream coded(&stream);
  coded.SetSerializationDeterministic(true);  // maps in order of their keys
  m.SerializeToCodedStream(&coded);
  coded.Trim();
  return bytes;
}

// Lines "  key: value" of a recipe, and lists "  - item" behind "key:", as keys and values.
void add_recipe(std::string_view recipe, Fingerprint* to) {
  std::string key = "recipe";
  int passes = 0;
  while (!recipe.empty()) {
    std::string_view line = recipe.substr(0, recipe.find('\n'));
    recipe.remove_prefix(std::min(recipe.size(), line.size() + 1));
    const size_t indent = line.find_first_not_of(' ');
    if (indent == std::string_view::npos) continue;
    line.remove_prefix(indent);
    if (indent == 0) passes = 0;
    if (indent == 2 && line.starts_with("- ")) {  // a step
      ++passes;
      line.remove_prefix(2);
    } else if (line.starts_with("- ")) {  // an item of a list
      std::string& value = (*to)[key];
      value += (value.empty() ? "" : " ") + std::string(line.substr(2));
      continue;
    }
    const size_t colon = line.find(':');
    key = std::string(line.substr(0, colon));
    if (passes > 1 && indent > 0) key += fmt::format(" of pass {}", passes);
    std::string_view value = colon == std::string_view::npos ? "" : line.substr(colon + 1);
    if (value.starts_with(' ')) value.remove_prefix(1);
    (*to)[key] = value;
  }
}

// Where the windows come from, an item a domain.
std::string recipe_of_text(const CompressOptions& options) {
  std::string text = fmt::format("calibration:\n  windows: {}\n  tokens: {}\n  texts:\n",
                                 options.calibration.size(), options.calibration.front().size());
  for (size_t d = 0; d < options.sources.size(); ++d) {
    const auto& s = options.sources[d];
    int64_t windows = 0;
    for (size_t w = 0; w < options.calibration.size(); ++w)
      windows += options.domain.empty() || options.domain[w] == static_cast<int>(d);
    text += fmt::format("    - {{{}: {}, weight: {}, windows: {}, {}}}\n",
                        s.file ? "file" : "source", to_setting(valid_utf8_or_replaced(s.name)),
                        s.weight, windows, text_hash_of_recipe(s.hash));
  }
  return text;
}

}  // namespace

std::string text_hash_of_recipe(uint64_t hash) { return fmt::format("hash: {:016x}", hash); }

const char* const kToolVersion = "pith " PITH_VERSION;

std::string recipe_of(const ModelSource& source, const Passes& passes,
                      const CompressOptions& options) {
  std::string text = "steps:\n" + source.recipe();
  for (const auto& p : passes) text += p->recipe();
  if (!options.calibration.empty() && !options.sources.empty()) text += recipe_of_text(options);
  text += fmt::format("seed: {}\n", options.seed);
  if (!options.sequential) text += "sequential: false\n";
  if (!options.propagate) text += "propagate: false\n";
  // Bits depend on it.
  if (options.executor != nullptr && !options.executor->algebra().on_host())
    text += fmt::format("device: {}\n", options.executor->algebra().device());
  if (valid_utf8_prefix(text) != text.size())
    fail(ErrorKind::kUsage, "the recipe is not UTF-8, as the text of a file has to be");
  return text;
}

proto::Provenance provenance_of(const ModelSource& source, const Passes& passes,
                                const CompressOptions& options) {
  proto::Provenance p;
  p.set_tool(kToolVersion);
  std::string name = source.path();
  while (name.size() > 1 && name.back() == '/') name.pop_back();
  p.set_source_name(valid_utf8_or_replaced(name.substr(name.rfind('/') + 1)));
  p.set_recipe(recipe_of(source, passes, options));
  p.set_calibration_hash(options.calibration_hash);
  p.set_seed(options.seed);
  p.set_parameters(parameter_count(source.spec()));
  p.set_source_bytes(source.tensor_bytes());
  if (const auto* before = source.manifest())
    p.set_source_bytes(before->provenance().source_bytes());
  return p;
}

Fingerprint fingerprint_of(const ModelSource& source) {
  Hasher tensors;
  const auto add = [&](const std::string& text) { tensors.add(as_bytes(text + "\n")); };
  add(fmt::format("{:016x}", source.hash()));
  for (const auto& info : linears_of(source.spec())) {
    const LinearForm form = source.form(info);
    add(fmt::format("{} {} x {} {} {} {} {}", info.name, info.n, info.k, info.bias, to_string(form),
                    to_string(form.input), form.input.value));
  }
  for (const auto& v : vectors_of(source.spec())) add(fmt::format("{} {}", v.name, v.length));
  return {{"tool", kToolVersion},
          {"source", hashed(tensors.value())},
          {"model description", hashed(hash64(as_bytes(serialized(source.spec()))))},
          {"tokenizer", hashed(hash_of(source.tokenizer()))},
          {"configuration", hashed(hash_of(source.config_files()))},
          {"earlier recipe", hashed(hash64(as_bytes(source.recipe())))}};
}

Fingerprint fingerprint_of(Executor* executor) {
  return {{"runs on", (executor != nullptr ? executor->algebra() : cpu_algebra()).name()}};
}

Fingerprint fingerprint_of(const ModelSource& source, const Passes& passes,
                           const CompressOptions& options) {
  // Every option is named, so that a new one does not compile before it is handled here. Options
  // that are not hashed do not change the bytes: the place of the output, memory, the work folder,
  // and the number of fallbacks that is an error.
  const auto& [output, memory, max_fallbacks, sequential, propagate, calibration, domain, sources,
               calibration_hash, seed, executor, work, one_of_tries] = options;
  (void)output, (void)memory, (void)max_fallbacks, (void)work, (void)one_of_tries;
  (void)sources;  // they are in the recipe
  Fingerprint f = fingerprint_of(source);
  add_recipe(recipe_of(source, passes, options), &f);
  f["sequential"] = sequential ? "true" : "false";
  f["propagate"] = propagate ? "true" : "false";
  f["seed"] = fmt::format("{}", seed);
  if (!calibration.empty()) {
    Hasher h;
    h.add(std::as_bytes(std::span(&calibration_hash, 1)));
    for (const auto& w : calibration) {
      const uint64_t size = w.size();
      h.add(std::as_bytes(std::span(&size, 1)));
      h.add(std::as_bytes(std::span(w)));
    }
    h.add(std::as_bytes(std::span(domain)));
    f["calibration text"] = hashed(h.value());
    f.merge(fingerprint_of(executor));
  }
  return f;
}

}  // namespace pith
