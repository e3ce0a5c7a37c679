#include <fmt/format.h>
#include <unistd.h>

#include <iostream>

#include "core/error.h"
#include "core/file.h"
#include "core/interrupt.h"
#include "formats/chat_template.h"
#include "formats/text_input.h"
#include "runtime/cpu/matmul.h"
#include "runtime/engine.h"
#include "tools/command.h"
#include "tools/terminal.h"

namespace pith::tools {
namespace {

struct Options : Common, ModelOptions, ExecutorOptions {
  std::string prompt, prompt_file, system;
  EngineOptions engine;
  GenerateOptions generate;
  std::string cache;
  bool parse_special = false;

  void add_to(CLI::App& c, const char* default_tokens) {
    ModelOptions::add_to(c, "MODEL", "an HF folder, a GGUF file, a llama2.c file or a .pith file");
    ExecutorOptions::add_to(c);
    auto& s = generate.sampling;
    c.add_option("-n,--n-predict", generate.max_tokens,
                 fmt::format("tokens at most (default: {})", default_tokens))
        ->check(CLI::Range(1, 1 << 30));
    c.add_option("-c,--ctx-size", engine.context,
                 "tokens of context (default: the model's, at most 4096)")
        ->check(CLI::Range(8, 1 << 24));
    c.add_option("--temp", s.temperature,
                 fmt::format("temperature, 0 is greedy (default: {})", s.temperature));
    c.add_option("--top-k", s.top_k, "only the k likeliest tokens, 0 is all");
    c.add_option("--top-p", s.top_p, "only the likeliest tokens that have this share together");
    c.add_option("--min-p", s.min_p, "only tokens with this share of the likeliest");
    c.add_option("--repeat-penalty", s.repetition_penalty, "above 1: against repetition");
    c.add_option("-s,--seed", s.seed, "the same seed gives the same text (default: 0)");
    c.add_option("-r,--stop", generate.stop, "text that ends the answer")->type_name("TEXT");
    c.add_option("--kv,--cache-type", cache, kCacheHelp)->type_name("TYPE");
    Common::add_to(c);
  }
  void prepare() {
    apply();
    check_sampling(generate.sampling);
    engine.executor = executor();
    if (!cache.empty()) engine.cache = parse_kv_types(cache, engine.cache);
  }
};

bool show(const std::string& piece) {
  std::fwrite(piece.data(), 1, piece.size(), stdout);
  std::fflush(stdout);
  return !interrupted();
}

Json to_json(const Options& o, const GenerateResult& r) {
  const auto rate = [](auto n, double seconds) {
    return seconds > 0 ? static_cast<double>(n) / seconds : 0.0;
  };
  return {
      {"model", o.model},
      {"text", r.text},
      {"finish", r.finish},
      {"prompt_tokens", r.prefill_tokens},
      {"generated_tokens", r.tokens.size()},
      {"prefill_tokens_per_s", rate(r.prefill_tokens, r.prefill_seconds)},
      {"decode_tokens_per_s", rate(std::max<size_t>(1, r.tokens.size()) - 1, r.decode_seconds)}};
}

void run(Options& o) {
  o.prepare();
  if (!o.prompt_file.empty()) o.prompt = read_text_input(o.prompt_file, 1 << 26);
  const auto source = open_model(o.model, o.tokenizer, !o.no_verify);
  const auto tokenizer = load_tokenizer(*source);
  Engine engine(*source, o.engine);
  print_memory(engine.memory(), o.quiet);
  const auto prompt =
      tokenizer->encode(o.prompt, {.add_special = true, .parse_special = o.parse_special});
  if (prompt.empty()) fail(ErrorKind::kUsage, "the prompt has no tokens");
  if (o.prints()) show(o.prompt);
  const GenerateResult r = engine.generate(
      *tokenizer, prompt, o.generate,
      [&](const std::string& piece) { return o.prints() ? show(piece) : !interrupted(); });
  if (o.prints()) say("\n");
  for (const auto& name : fallback_notes())
    warn(fmt::format("no kernel for {}: decoded and multiplied as f32", name));
  const Json j = to_json(o, r);
  o.write_json(j);
  if (!o.quiet) {
    tell("{} prompt tokens at {:.1f}/s, {} generated at {:.1f}/s, ended by {}\n", r.prefill_tokens,
         j["prefill_tokens_per_s"].get<double>(), r.tokens.size(),
         j["decode_tokens_per_s"].get<double>(), r.finish);
  }
  if (r.finish == "cancelled") check_interrupt();
}

// Text of the template may hold special tokens, content of messages may not; all of it is encoded
// as one text.
std::vector<int32_t> encode_segments(const Tokenizer& tokenizer,
                                     const std::vector<ChatSegment>& segments) {
  std::string text;
  std::vector<std::pair<size_t, size_t>> user_text;
  for (const auto& s : segments) {
    if (!s.from_template) user_text.emplace_back(text.size(), text.size() + s.text.size());
    text += s.text;
  }
  return tokenizer.encode(text,
                          {.add_special = false, .parse_special = true, .user_text = user_text});
}

void chat(Options& o) {
  o.prepare();
  const auto source = open_model(o.model, o.tokenizer, !o.no_verify);
  const TokenizerFiles files = source->tokenizer();
  if (files.chat_template.empty())
    fail(ErrorKind::kUsage, "{}: no chat template; use pith run", o.model);
  const auto tokenizer = load_tokenizer(*source);
  Json variables = Json::object();
  if (const auto bos = tokenizer->bos()) variables["bos_token"] = tokenizer->token_text(*bos);
  if (const auto eos = tokenizer->eos()) variables["eos_token"] = tokenizer->token_text(*eos);
  Engine engine(*source, o.engine);
  print_memory(engine.memory(), o.quiet);
  std::vector<ChatMessage> messages;
  if (!o.system.empty()) messages.push_back({"system", o.system});
  std::vector<int32_t> seen;  // what the cache holds
  const bool terminal = ::isatty(0) != 0;
  Json turns = Json::array();
  for (std::string line; !interrupted();) {
    if (terminal) {
      say("> ");
      std::fflush(stdout);
    }
    if (!std::getline(std::cin, line)) break;
    if (line.empty()) continue;
    if (line == "/exit") break;
    messages.push_back({"user", line});
    const auto ids =
        encode_segments(*tokenizer, render_chat(files.chat_template, messages, true, variables));
    const auto common = std::min<std::ptrdiff_t>(std::ranges::mismatch(ids, seen).in1 - ids.begin(),
                                                 static_cast<std::ptrdiff_t>(ids.size()) - 1);
    engine.rewind(common);
    const GenerateResult r = engine.generate(
        *tokenizer, std::span(ids).subspan(static_cast<size_t>(common)), o.generate,
        [&](const std::string& piece) { return o.prints() ? show(piece) : !interrupted(); });
    if (o.prints()) say("\n");
    turns.push_back(to_json(o, r));
    seen = ids;
    seen.insert(seen.end(), r.tokens.begin(), r.tokens.end());
    seen.resize(static_cast<size_t>(engine.position()));
    messages.push_back({"assistant", r.text});
    if (r.finish == "context") {
      warn("the context is full: the conversation starts again");
      messages.resize(o.system.empty() ? 0 : 1);
    }
  }
  o.write_json({{"model", o.model}, {"turns", turns}});
}

}  // namespace

void add_run(CLI::App& app) {
  auto* c = app.add_subcommand("run", "generate text");
  auto o = std::make_shared<Options>();
  o->add_to(*c, "256");
  auto* prompt = c->add_option("-p,--prompt", o->prompt, "what to continue");
  c->add_option("-f,--file", o->prompt_file, "a file with the prompt")->excludes(prompt);
  c->add_flag("--special", o->parse_special, "let text of the prompt become special tokens");
  c->callback([o] { run(*o); });
}

void add_chat(CLI::App& app) {
  auto* c =
      app.add_subcommand("chat", "talk with an instruction model; /exit or end of input leaves");
  auto o = std::make_shared<Options>();
  o->generate.max_tokens = 512;
  o->generate.sampling.temperature = 0.7;
  o->generate.sampling.top_p = 0.95;
  o->add_to(*c, "512");
  c->add_option("--system", o->system, "the system message");
  c->callback([o] { chat(*o); });
}

}  // namespace pith::tools
