#include <fmt/format.h>

#include "core/error.h"
#include "core/file.h"
#include "core/utf8.h"
#include "formats/printable.h"
#include "formats/text_input.h"
#include "runtime/model/source.h"
#include "tools/command.h"
#include "tools/interrupt.h"
#include "tools/terminal.h"

namespace pith::tools {
namespace {

struct Options : Common {
  std::string model, tokenizer, prompt, file;
  bool has_prompt = false, ids = false, special = false, count = false, plain = false;
};

// The tokenizer of a model, or of a tokenizer's file.
std::unique_ptr<Tokenizer> tokenizer_of(const Options& o) {
  const bool alone = o.model.ends_with("tokenizer.json") || o.model.ends_with("tokenizer.model");
  if (alone && is_regular_file(o.model)) {
    if (!o.tokenizer.empty())
      fail(ErrorKind::kUsage, "{} is a tokenizer itself: leave out --tokenizer", o.model);
    return make_tokenizer(read_tokenizer_file(o.model));
  }
  ModelOptions model;
  model.model = o.model;
  model.tokenizer = o.tokenizer;
  return load_tokenizer_for(*open_model_for(model, false));
}

// The text of a token; bytes that are no whole character stay as they are.
std::string text_of(const Tokenizer& t, int32_t id) {
  std::string text = t.token_text(id);
  if (t.is_special(id)) return text;
  constexpr std::string_view kBlank = "\xe2\x96\x81";  // SentencePiece's
  if (text.find(kBlank) == text.npos) return t.decode({{id}}, false);
  for (size_t at = 0; (at = text.find(kBlank, at)) != text.npos; ++at)
    text.replace(at, kBlank.size(), " ");
  return text;
}

void tokenize(const Options& o) {
  o.apply();
  if (o.has_prompt && !o.file.empty())
    fail(ErrorKind::kUsage, "--prompt and --file are both given: choose one text");
  if (!o.has_prompt && o.file.empty())
    fail(ErrorKind::kUsage, "tokenize takes a text: -p TEXT, or -f FILE (- is standard input)");
  if (o.ids && o.count)
    fail(ErrorKind::kUsage, "--ids and --count are both given: choose one (--json - has all)");
  const std::string text = o.has_prompt ? o.prompt : read_text_input(o.file, 1 << 30, interrupt());
  const auto tokenizer = tokenizer_of(o);
  const auto ids = tokenizer->encode(text, {.add_special = !o.plain, .parse_special = o.special});
  if (!o.json.empty()) {
    Json tokens = Json::array();
    for (const int32_t id : ids) {
      tokens.push_back({{"id", id},
                        {"text", valid_utf8_or_replaced(text_of(*tokenizer, id))},
                        {"special", tokenizer->is_special(id)}});
    }
    o.write_json({{"model", o.model},
                  {"bytes", text.size()},
                  {"count", ids.size()},
                  {"ids", ids},
                  {"tokens", tokens}});
  }
  if (!o.prints()) return;
  if (o.count) return say("{}\n", ids.size());
  if (o.ids) return say("{}\n", fmt::join(ids, " "));
  for (const int32_t id : ids) {
    say("{:>7}  {}{}\n", id, printable(text_of(*tokenizer, id)),
        tokenizer->is_special(id) ? "  special" : "");
  }
  say("{}, {}\n", counted(std::ssize(ids), "token"), counted(std::ssize(text), "byte"));
}

}  // namespace

void add_tokenize(CLI::App& app) {
  auto* c = app.add_subcommand("tokenize", "what tokens a text becomes");
  auto o = std::make_shared<Options>();
  c->add_option("MODEL", o->model,
                "an HF folder, a GGUF file, a llama2.c file, a .pith file, or a tokenizer.json")
      ->required()
      ->type_name("MODEL");
  constexpr const char *kText = "Text", *kShown = "What is shown";
  auto* prompt =
      c->add_option("-p,--prompt", o->prompt, "the text")->type_name("TEXT")->group(kText);
  c->add_option("-f,--file", o->file, "a file with the text; - is standard input")
      ->type_name("FILE")
      ->group(kText);
  c->add_flag("--special", o->special,
              "turn the text of special tokens (<|im_end|>) into their ids")
      ->group(kText);
  c->add_flag("--plain", o->plain, "without the BOS and EOS that the tokenizer adds")->group(kText);
  c->add_flag("--ids", o->ids, "print the ids alone, on one line")->group(kShown);
  c->add_flag("--count", o->count, "print how many there are")->group(kShown);
  c->add_option("--tokenizer", o->tokenizer,
                "tokenizer file (default: the one in the model or beside it)")
      ->type_name("FILE")
      ->group(kModelGroup);
  o->Common::add_to(*c);
  c->callback([o, prompt] {
    o->has_prompt = prompt->count() > 0;
    tokenize(*o);
  });
}

}  // namespace pith::tools
