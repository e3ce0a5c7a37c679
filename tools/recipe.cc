#include "tools/recipe.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/error.h"
#include "core/nearest.h"
#include "formats/printable.h"
#include "runtime/compress/builtin_text.h"

namespace pith::tools {
namespace {

constexpr StepKind kKinds[] = {
    {"rotate", "rotate the residual stream and the values, so that no channel stands out (QuaRot)",
     0, "it changes the model that all others see",
     [](SettingsReader& r) -> Step { return read_rotate_options(r); }},
    {"prune", "drop weights: magnitude, wanda or sparsegpt", 1,
     "weights are dropped before the others are rounded",
     [](SettingsReader& r) -> Step { return read_prune_settings(r); }},
    {"factorize", "replace weights by two thin ones: svd or svd-llm", 2,
     "weights are factorized before they are rounded",
     [](SettingsReader& r) -> Step { return read_factorize_settings(r); }},
    {"quantize", "round weights, and inputs, to fewer bits", 3, "a residual is what rounding left",
     [](SettingsReader& r) -> Step { return read_quantize_settings(r); }},
    {"residual", "give back in a low-rank term what rounding or pruning lost most", 4, "",
     [](SettingsReader& r) -> Step { return read_residual_settings(r); }},
};
static_assert(std::size(kKinds) == std::variant_size_v<Step>);

const StepKind& kind_of(const Step& step) { return kKinds[step.index()]; }

const StepKind& kind_named(const YamlNode& key, const std::string& file) {
  const auto kind = std::ranges::find_if(kKinds, [&](const auto& k) { return k.name == key.text; });
  if (kind != std::end(kKinds)) return *kind;
  std::vector<std::string> names;
  std::string all;
  for (const auto& k : kKinds) {
    names.emplace_back(k.name);
    all += std::string(all.empty() ? "" : " ") + k.name;
  }
  const std::string meant = nearest(key.text, names);
  fail_at(key, file,
          fmt::format("no step {}{}", printable(key.text),
                      meant.empty() ? "; there are: " + all : "; is " + meant + " meant?"));
}

Step read_step(const YamlNode& node, const std::string& file) {
  // "- rotate" alone takes all defaults.
  if (node.kind == YamlNode::Kind::kScalar && !node.is_null()) {
    const StepKind& kind = kind_named(node, file);
    const YamlNode nothing;
    SettingsReader reader(nothing, file, kind.name);
    return kind.read(reader);
  }
  if (node.kind != YamlNode::Kind::kMapping || node.keys.size() != 1)
    fail_at(node, file, "one step is expected, as \"- quantize: {type: w4}\"");
  const StepKind& kind = kind_named(node.keys.front(), file);
  SettingsReader reader(node.items.front(), file, kind.name);
  try {
    return kind.read(reader);
  } catch (const Error& e) {
    // Settings that do not hold together: a pattern that is none, types that do not go together.
    const std::string message = e.what();
    if (message.starts_with(file + ":")) throw;
    fail_at(node.keys.front(), file, fmt::format("{}: {}", kind.name, message));
  }
}

void read_steps(const YamlNode& node, const std::string& file, Recipe* to) {
  if (node.kind != YamlNode::Kind::kSequence || node.items.empty())
    fail_at(node, file, "steps: a list of steps is expected");
  for (const auto& item : node.items) {
    to->steps.push_back(read_step(item, file));
    const StepKind& now = kind_of(to->steps.back());
    for (const auto& before : to->steps) {
      if (kind_of(before).stage <= now.stage) continue;
      fail_at(item, file,
              fmt::format("{} comes before {}: {}", now.name, kind_of(before).name, now.why));
    }
  }
}

// Error(kUsage) for steps that need another one, or cannot follow one.
void require_partners(const Recipe& recipe) {
  int prunings = 0;
  bool rounds = false, leaves_mask = false, stores_sparse = false, adds = false;
  for (const auto& step : recipe.steps) {
    if (const auto* p = std::get_if<PruneSettings>(&step)) {
      ++prunings;
      leaves_mask |= p->as == PrunedAs::kMask;
      stores_sparse |= p->as == PrunedAs::kSparse;
    }
    rounds |= std::holds_alternative<QuantizeSettings>(step);
    adds |= std::holds_alternative<ResidualSettings>(step);
  }
  if (prunings > 1) {
    fail(ErrorKind::kUsage,
         "prune stands in the recipe twice: one step prunes, with layer_sparsity where layers "
         "differ");
  }
  if (leaves_mask && !rounds)
    fail(ErrorKind::kUsage,
         "prune as mask leaves the weights to a step quantize after it, and there is none");
  if (adds && !rounds && !stores_sparse) {
    fail(ErrorKind::kUsage,
         "residual gives back what a step quantize, or prune as sparse, loses before it, and there "
         "is "
         "none");
  }
}

bool is_builtin_file(std::string_view source) {
  constexpr std::string_view kFolder = "builtin/";
  return source.starts_with(kFolder) &&
         std::ranges::any_of(builtin_texts(), [&](const BuiltinText& t) {
           return source.substr(kFolder.size()) == t.name;
         });
}

// A packed file names files as `file`, and has a line for each file of the builtin text.
CalibrationInput input_of(const std::string& source, bool is_file, double weight) {
  if (!is_file) return calibration_input(is_builtin_file(source) ? "builtin" : source, weight);
  return {.kind = CalibrationInput::Kind::kFile, .name = source, .weight = weight};
}

RecipeText read_text(const YamlNode& node, const std::string& file) {
  if (node.kind == YamlNode::Kind::kScalar) {
    if (node.is_null()) fail_at(node, file, "texts: a file is expected, or self, or builtin");
    return {.input = calibration_input(node.text)};
  }
  if (node.kind != YamlNode::Kind::kMapping)
    fail_at(node, file, "texts: a file is expected, or self, or builtin");
  RecipeText text;
  double weight = 1;
  std::optional<std::string> source, path;
  SettingsReader reader(node, file, "texts");
  if (node.keys.size() == 1 && reader.find("source") == nullptr && reader.find("file") == nullptr) {
    source = node.keys.front().text;  // chat.jsonl: 2
    reader(source->c_str(), weight);
  } else {
    reader("source", source);
    reader("file", path);
    reader("weight", weight);
    reader("hash", text.hash);
    int64_t windows = 0;  // what a file says of what became of it
    reader("windows", windows);
    reader.finish();
  }
  if (source.has_value() == path.has_value())
    fail_at(node, file, "texts: a source or a file is expected");
  if (!(weight > 0)) fail_at(node, file, "texts: a weight is a number above 0");
  text.input = input_of(source ? *source : *path, path.has_value(), weight);
  return text;
}

void read_calibration(const YamlNode& node, const std::string& file, Recipe* to) {
  const YamlNode* texts = &node;  // a file, or a list of them
  if (node.kind == YamlNode::Kind::kMapping) {
    SettingsReader reader(node, file, "calibration");
    reader("windows", to->windows, "", {1, 1 << 20});
    reader("tokens", to->tokens, "", {8, 1 << 20});
    texts = reader.take("texts");
    reader.finish();
  }
  to->has_calibration = texts != nullptr && !texts->is_null();
  if (!to->has_calibration) return;
  const auto add = [&](const YamlNode& text) {
    RecipeText t = read_text(text, file);
    // The files of the builtin text, of which a file has a line each, are one source.
    const auto same = std::ranges::find_if(to->texts, [&](const RecipeText& other) {
      return other.input.kind == t.input.kind && other.input.name == t.input.name;
    });
    const bool is_new = same == to->texts.end();
    if (!is_new && t.input.kind == CalibrationInput::Kind::kBuiltin) {
      same->input = calibration_input(t.input.name, same->input.weight + t.input.weight);
    } else if (is_new || !t.hash.empty()) {
      to->texts.push_back(std::move(t));
    } else {
      fail_at(text, file, fmt::format("{} is there twice", printable(t.input.name)));
    }
  };
  if (texts->kind == YamlNode::Kind::kScalar) {
    if (texts->text != "none") add(*texts);
    return;
  }
  if (texts->kind == YamlNode::Kind::kMapping && texts->find("source") == nullptr &&
      texts->find("file") == nullptr) {  // {chat.jsonl: 2, self: 1}
    for (size_t i = 0; i < texts->keys.size(); ++i) {
      YamlNode pair = *texts;
      pair.keys = {texts->keys[i]};
      pair.items = {texts->items[i]};
      add(pair);
    }
    return;
  }
  if (texts->kind == YamlNode::Kind::kMapping) return add(*texts);
  for (const auto& text : texts->items) add(text);
}

std::string title_of(const Step& step) {
  if (const auto* q = std::get_if<QuantizeSettings>(&step)) {
    const QuantizeSettings done = effective_settings(*q);
    return fmt::format("{} with {}", to_string(done.linears), done.method.name());
  }
  if (const auto* p = std::get_if<PruneSettings>(&step))
    return fmt::format("{} {}", p->method->name, to_string(p->target));
  if (const auto* f = std::get_if<FactorizeSettings>(&step)) {
    return f->rank > 0 ? fmt::format("{} of rank {}", method_name(f->method), f->rank)
                       : fmt::format("{} to {:g} of the parameters", method_name(f->method),
                                     f->keep_params);
  }
  if (const auto* r = std::get_if<ResidualSettings>(&step))
    return fmt::format("residual of rank {}", r->rank);
  return kind_of(step).name;
}

}  // namespace

std::span<const StepKind> step_kinds() { return kKinds; }

Recipe parse_recipe(std::string_view text, const std::string& name) {
  const YamlNode root = parse_yaml(text, name);
  Recipe recipe;
  SettingsReader reader(root, name, "a recipe");
  const YamlNode* steps = reader.take("steps");
  if (steps == nullptr) fail_at(root, name, "a recipe has a list of steps: \"steps:\" is missing");
  read_steps(*steps, name, &recipe);
  if (const YamlNode* calibration = reader.take("calibration"))
    read_calibration(*calibration, name, &recipe);
  reader("seed", recipe.seed);
  for (size_t i = 0; i < recipe.steps.size(); ++i) {
    const YamlNode& item = steps->items[i];
    const YamlNode* settings = item.keys.empty() ? nullptr : &item.items.front();
    const bool given = settings != nullptr && settings->find("seed") != nullptr;
    if (std::holds_alternative<RotateOptions>(recipe.steps[i]) && !given)
      recipe.seeded_by_recipe.push_back(i);
  }
  reader("sequential", recipe.sequential);
  reader("propagate", recipe.propagate);
  reader("device", recipe.device);
  reader.finish();
  try {
    require_partners(recipe);
  } catch (const Error& e) {
    fail_at(*steps, name, e.what());
  }
  if (!recipe.device.empty() && recipe.device != "cpu" && recipe.device != "cuda")
    fail_at(*root.find("device"), name, "device: choose cpu or cuda");
  return recipe;
}

Recipe recipe_of_step(const std::string& step, const YamlNode& settings) {
  const std::string options;
  const StepKind& kind = *std::ranges::find(kKinds, step, &StepKind::name);
  SettingsReader reader(settings, options, kind.name);
  const Recipe recipe{.steps = {kind.read(reader)}};
  require_partners(recipe);
  return recipe;
}

const ModelSource& source_for(const Recipe& recipe, const ModelSource& stored,
                              std::vector<std::unique_ptr<ModelSource>>* between) {
  const ModelSource* now = &stored;
  for (const auto& step : recipe.steps) {
    if (const auto* rotate = std::get_if<RotateOptions>(&step))
      now = between->emplace_back(rotate_model(*now, *rotate)).get();
  }
  return *now;
}

Passes passes_for(const Recipe& recipe) {
  Passes passes;
  for (const auto& step : recipe.steps) {
    if (const auto* prune = std::get_if<PruneSettings>(&step))
      passes.push_back(make_prune_pass(*prune));
    if (const auto* factorize = std::get_if<FactorizeSettings>(&step))
      passes.push_back(make_factorize_pass(*factorize));
    if (const auto* quantize = std::get_if<QuantizeSettings>(&step))
      passes.push_back(make_quantize_pass(*quantize));
    if (const auto* residual = std::get_if<ResidualSettings>(&step))
      passes.push_back(make_residual_pass(*residual));
  }
  return passes;
}

std::string title_of(const Recipe& recipe) {
  std::string title;
  for (const auto& step : recipe.steps) title += (title.empty() ? "" : ", ") + title_of(step);
  return title;
}

RoundingWork work_of(const Recipe& recipe) {
  RoundingWork work;
  for (const auto& step : recipe.steps) {
    const auto* q = std::get_if<QuantizeSettings>(&step);
    if (q == nullptr) continue;
    const QuantizeSettings done = effective_settings(*q);
    work.gptq |= done.method.rounding->stage != nullptr;
    work.paths |= done.linears.kind == EncodingKind::kTcq;
  }
  return work;
}

}  // namespace pith::tools
